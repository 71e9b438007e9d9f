//! How keys and values are stored in a cache: as float32, IEEE half, or int8 with scales, in bytes of
//! any alignment.

mod bytes;
mod floats;
#[cfg(test)]
pub(super) mod tests;

pub(super) use self::bytes::Byte;
pub(super) use self::floats::{Half, Single};
use super::simd::Simd;

/// How a cache stores its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheNumber {
    /// float32, four bytes.
    F32,
    /// IEEE half, two bytes; from 65520 on it is infinite.
    F16,
    /// int8 from -127 to 127, and a scale in bfloat16 for each 32 of a row; what is stored is off by
    /// at most 0.4 % of the largest of these. Keys are interleaved, eight positions at a time.
    I8,
}

impl CacheNumber {
    /// Bytes of a row of so many numbers.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::F32 => Single::row_bytes(width),
            Self::F16 => Half::row_bytes(width),
            Self::I8 => Byte::row_bytes(width),
        }
    }

    /// What the places of a cache are a multiple of.
    pub fn block(self) -> usize {
        match self {
            Self::F32 => Single::BLOCK,
            Self::F16 => Half::BLOCK,
            Self::I8 => Byte::BLOCK,
        }
    }
}

/// A [`CacheNumber`] that the compiler knows. A head's keys are [`Number::row_bytes`] for each
/// position, and so are its values; pointers to keys are to the first of a block.
pub(super) trait Number: Copy + 'static {
    /// Positions whose keys are interleaved: 1, or 8.
    const BLOCK: usize;

    fn row_bytes(width: usize) -> usize;

    /// Bytes of a query, as keys are multiplied with.
    fn query_bytes(width: usize) -> usize;

    fn store_query<S: Simd>(from: &[f32], query: &mut [u8]);

    fn store_value<S: Simd>(from: &[f32], value: &mut [u8]);

    /// Stores the key of a position.
    ///
    /// # Safety
    /// `keys` is valid for the block of the position, and nobody else uses what belongs to it.
    unsafe fn store_key<S: Simd>(from: &[f32], keys: *mut u8, position: usize);

    /// Eight columns of a value, from `at` on, a multiple of 8.
    ///
    /// # Safety
    /// The value is valid, and `at + 8` is not above its width.
    unsafe fn load_value<S: Simd>(value: *const u8, width: usize, at: usize) -> S::Floats;

    /// The same where the value may end before; the rest are 0.
    ///
    /// # Safety
    /// The value is valid, and `at` is below its width.
    unsafe fn load_some<S: Simd>(value: *const u8, width: usize, at: usize) -> S::Floats;

    /// Eight columns of eight keys, from `at` on, a multiple of 8; a vector for each column. Keys from
    /// the `count`-th on, and columns beyond the last, are any.
    ///
    /// # Safety
    /// `count` keys are valid, at least 1; `at` is below their width.
    unsafe fn eight_keys<S: Simd>(
        keys: *const u8,
        count: usize,
        width: usize,
        at: usize,
    ) -> [S::Floats; 8];

    /// Products of `Q` queries, that lie side by side, with `K` keys, or with a whole block if that is
    /// more; `scores` are rows of `stride`.
    ///
    /// # Safety
    /// The keys and queries are valid, and the scores for as many.
    unsafe fn scores<S: Simd, const Q: usize, const K: usize>(
        keys: *const u8,
        width: usize,
        queries: *const u8,
        scores: *mut f32,
        stride: usize,
    );
}
