//! How keys and values are stored in a cache: as float32, IEEE half, or int8 with scales, in bytes of
//! any alignment.

mod bytes;
mod floats;
#[cfg(test)]
pub(super) mod tests;
mod weighting;

pub(super) use self::bytes::Byte;
use super::simd::Simd;
pub(super) use super::storage::{Half, Single};

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

/// Positions whose values are weighted at once, at most.
pub(super) const POSITIONS: usize = 32;

/// Columns of sums are a multiple of so many, for whole blocks of int8.
pub(super) const SUMS: usize = 32;

/// Values of some positions, their weights for `Q` queries, and the sums that they are added to.
pub(super) struct Weighted<const Q: usize> {
    /// From the first position on, that begins a block.
    pub(super) values: *const u8,
    /// Positions, at most [`POSITIONS`].
    pub(super) count: usize,
    /// Columns of a value.
    pub(super) width: usize,
    /// `[Q, POSITIONS]`; those beyond the positions are next to nothing, and numbers.
    pub(super) weights: *const [f32; POSITIONS],
    /// `[Q, stride]`
    pub(super) sums: *mut f32,
    /// A multiple of [`SUMS`] that is not below the width.
    pub(super) stride: usize,
    /// What the sums are multiplied by before.
    pub(super) factors: [f32; Q],
    /// The keys that are needed next, and their bytes; no bytes where somebody else asks for them.
    pub(super) next: (*const u8, usize),
}

impl<const Q: usize> Weighted<Q> {
    /// Asks for what is needed next in so many steps.
    #[inline(always)]
    fn ahead(&self, steps: usize) -> Ahead {
        let (at, bytes) = self.next;
        Ahead {
            at,
            step: bytes / steps.max(1),
        }
    }
}

/// Where memory is asked for next, and how far the steps go.
struct Ahead {
    at: *const u8,
    step: usize,
}

impl Ahead {
    #[inline(always)]
    fn ask<S: Simd>(&mut self) {
        S::prefetch(self.at);
        self.at = self.at.wrapping_add(self.step);
    }
}

/// A [`CacheNumber`] that the compiler knows. A head's keys are [`Number::row_bytes`] for each
/// position, and so are its values; pointers to them are to the first of a block.
pub(super) trait Number: Copy + 'static {
    /// Positions whose keys, or values, lie together: 1, or 8.
    const BLOCK: usize;

    fn row_bytes(width: usize) -> usize;

    /// Bytes of a query, as keys are multiplied with.
    fn query_bytes(width: usize) -> usize;

    fn store_query<S: Simd>(from: &[f32], query: &mut [u8]);

    /// Stores the key of a position.
    ///
    /// # Safety
    /// `keys` is valid for the block of the position, and nobody else uses what belongs to it.
    unsafe fn store_key<S: Simd>(from: &[f32], keys: *mut u8, position: usize);

    /// Stores the value of a position.
    ///
    /// # Safety
    /// As for keys.
    unsafe fn store_value<S: Simd>(from: &[f32], values: *mut u8, position: usize);

    /// Eight columns of the values of two positions, an even one and the next, from `at` on, a multiple
    /// of 8; columns beyond the last are 0.
    ///
    /// # Safety
    /// The first value is valid; where the second is not, `alone` says so, and it is any. `at` is below
    /// their width.
    unsafe fn two_values<S: Simd>(
        values: *const u8,
        position: usize,
        alone: bool,
        width: usize,
        at: usize,
    ) -> [S::Floats; 2];

    /// Adds weighted values to sums, `W` vectors of columns at once.
    ///
    /// # Safety
    /// What is weighted is valid as its fields say.
    unsafe fn add_values<S: Simd, const Q: usize, const W: usize>(weighted: &Weighted<Q>);

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
