//! A block's matrices as float32, multiplied by vectors.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use super::super::super::number::Number;
use super::super::super::scratch::Scratch;
use super::super::super::simd::Simd;
use super::{Cached, Factors, KEYS};

/// Rows and columns of a tile of a product: 12 vectors of sums leave 4 registers.
const TILE: usize = 6;
const COLUMNS: usize = 16;

pub(in super::super) struct Floats {
    width: usize,
    /// `[rows, D]`.
    queries: Scratch,
    /// `[KEYS / COLUMNS, D, COLUMNS]`.
    keys: Scratch,
    /// `[columns / COLUMNS, KEYS, COLUMNS]`.
    values: Scratch,
}

impl Factors for Floats {
    const TILE: usize = TILE;
    const ROWS: [usize; 2] = [8 * TILE, 24 * TILE];
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = 8;

    fn new(rows: usize, width: usize, columns: usize) -> Self {
        let mut queries = Scratch::new(rows * width);
        queries[..rows * width].fill(0.0);
        Self {
            width,
            queries,
            keys: Scratch::new(KEYS * width),
            values: Scratch::new(KEYS * columns),
        }
    }

    #[inline(always)]
    fn take_query<S: Simd>(&mut self, row: usize, query: &[f32]) {
        self.queries[row * self.width..][..self.width].copy_from_slice(query);
    }

    #[inline(always)]
    unsafe fn pack<S: Simd, N: Number>(&mut self, cached: &Cached) {
        let &Cached {
            keys,
            values,
            count,
            width,
            value_width,
        } = cached;
        // SAFETY: the caller's promise; the panels have room for `KEYS`, and for whole vectors.
        unsafe {
            for key in (0..count).step_by(8) {
                let panel = self.keys.as_mut_ptr();
                let panel = panel.add(key / COLUMNS * width * COLUMNS + key % COLUMNS);
                for at in (0..width).step_by(8) {
                    // Keys beyond the last may be any: nobody sees them.
                    let from = keys.add(key * N::row_bytes(width));
                    let eight = N::eight_keys::<S>(from, count - key, width, at);
                    for (i, column) in eight.into_iter().enumerate().take(width - at) {
                        S::store(panel.add((at + i) * COLUMNS), column);
                    }
                }
            }
            for key in (0..count).step_by(2) {
                let panel = self.values.as_mut_ptr().add(key * COLUMNS);
                for at in (0..value_width).step_by(8) {
                    // A value beyond the last may be any: nobody sees it.
                    let alone = key + 1 == count;
                    let [first, second] = N::two_values::<S>(values, key, alone, value_width, at);
                    let panel = panel.add(at / COLUMNS * KEYS * COLUMNS + at % COLUMNS);
                    S::store(panel, first);
                    S::store(panel.add(COLUMNS), second);
                }
            }
        }
    }

    #[inline(always)]
    fn multiply_keys<S: Simd>(&self, tile: usize, panel: usize, scores: &mut [f32]) {
        let (width, size) = (self.width, self.width * COLUMNS);
        let queries = &self.queries[tile * TILE * width..][..TILE * width];
        let keys = &self.keys[panel * size..][..size];
        let scores = &mut scores[..(TILE - 1) * KEYS + COLUMNS];
        // SAFETY: the slices hold what is multiplied.
        unsafe {
            let zero = [[S::splat(0.0); 2]; TILE];
            let tile = product::<S>((queries.as_ptr(), width), keys.as_ptr(), width, zero);
            store_tile::<S>(scores.as_mut_ptr(), KEYS, tile);
        }
    }

    #[inline(always)]
    fn take_weights<S: Simd>(&mut self, _tile: usize, _weights: &[f32], _depth: usize) {}

    #[inline(always)]
    fn add_values<S: Simd>(
        &self,
        _tile: usize,
        (weights, depth): (&[f32], usize),
        column: usize,
        factors: &[f32],
        (sums, columns): (&mut [f32], usize),
    ) {
        let weights = &weights[..TILE * KEYS];
        let values = &self.values[column * KEYS..][..depth * COLUMNS];
        let sums = &mut sums[..(TILE - 1) * columns + COLUMNS];
        let factors = &factors[..TILE];
        // SAFETY: the slices hold what is multiplied.
        unsafe {
            let mut tile = [[S::splat(0.0); 2]; TILE];
            for (i, [low, high]) in tile.iter_mut().enumerate() {
                let factor = S::splat(factors[i]);
                let from = sums.as_ptr().add(i * columns);
                *low = S::mul(S::load(from), factor);
                *high = S::mul(S::load(from.add(8)), factor);
            }
            let tile = product::<S>((weights.as_ptr(), KEYS), values.as_ptr(), depth, tile);
            store_tile::<S>(sums.as_mut_ptr(), columns, tile);
        }
    }
}

/// A tile of sums plus the product of [`TILE`] rows of `depth`, so far apart, and `depth` rows of
/// [`COLUMNS`].
///
/// # Safety
/// Both are valid for their rows.
#[inline(always)]
unsafe fn product<S: Simd>(
    (a, a_stride): (*const f32, usize),
    b: *const f32,
    depth: usize,
    mut sums: [[S::Floats; 2]; TILE],
) -> [[S::Floats; 2]; TILE] {
    // SAFETY: all indices stay within the rows.
    unsafe {
        for k in 0..depth {
            let b = b.add(k * COLUMNS);
            let (low, high) = (S::load(b), S::load(b.add(8)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = S::splat(*a.add(i * a_stride + k));
                sums[0] = S::fma(a, low, sums[0]);
                sums[1] = S::fma(a, high, sums[1]);
            }
        }
    }
    sums
}

/// # Safety
/// The pointer is valid for [`TILE`] rows of [`COLUMNS`], `stride` apart.
#[inline(always)]
unsafe fn store_tile<S: Simd>(to: *mut f32, stride: usize, tile: [[S::Floats; 2]; TILE]) {
    // SAFETY: the caller's promise.
    unsafe {
        for (i, [low, high]) in tile.into_iter().enumerate() {
            S::store(to.add(i * stride), low);
            S::store(to.add(i * stride + 8), high);
        }
    }
}
