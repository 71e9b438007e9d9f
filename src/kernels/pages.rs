//! Where kernels find keys and values of a sequence: in pages of some positions each, so that sequences share
//! what they have in common, and grow without moving.

/// Positions of a page: whole blocks of all kernels, and as long as it matters to memory that they are read
/// in a row.
pub const PAGE: usize = 256;

/// Keys and values of [`PAGE`] positions.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// `[Hkv, PAGE]` rows of D.
    pub keys: &'a [u8],
    /// `[Hkv, PAGE]` rows of Dv.
    pub values: &'a [u8],
}

/// A page that is written.
#[derive(Debug)]
pub struct PageMut<'a> {
    /// As [`Page::keys`].
    pub keys: &'a mut [u8],
    /// As [`Page::values`].
    pub values: &'a mut [u8],
}
