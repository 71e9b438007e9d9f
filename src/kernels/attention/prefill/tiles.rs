//! A block's matrices as bfloat16, multiplied by tiles ([`super::super::super::bfloats`]).
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use super::super::super::activations::BLOCK;
use super::super::super::bfloats::{LINES, PAIRS, SIDE, TILE, Tiled, pair};
use super::super::super::number::Number;
use super::super::super::scratch::Scratch;
use super::super::super::simd::Simd;
use super::{Cached, Factors, KEYS};

/// Blocks of keys.
const BLOCKS: usize = KEYS / BLOCK;

/// Words are pairs of bfloat16.
pub(in super::super) struct Tiles {
    tiled: Tiled,
    /// Blocks of a key's columns.
    blocks: usize,
    /// `[rows / 16, blocks, 16, pairs]`, and zeros beyond the last column.
    queries: Scratch,
    /// `[KEYS / 16, blocks, pairs, 16]`.
    keys: Scratch,
    /// `[rows / 16, BLOCKS, 16, pairs]`.
    weights: Scratch,
    /// `[columns / 16, BLOCKS, pairs, 16]`.
    values: Scratch,
}

/// The words of memory that is kept as floats.
fn words(memory: &Scratch) -> *const u32 {
    memory.as_ptr().cast()
}

impl Factors for Tiles {
    const TILE: usize = SIDE;
    const ROWS: [usize; 2] = [2 * SIDE, 16 * SIDE];
    const COLUMNS: usize = SIDE;
    const DEPTH: usize = BLOCK;

    fn new(rows: usize, width: usize, columns: usize) -> Self {
        let blocks = width.div_ceil(BLOCK);
        let zeros = |length: usize| {
            let mut zeros = Scratch::new(length);
            zeros[..length].fill(0.0);
            zeros
        };
        Self {
            tiled: Tiled::new(),
            blocks,
            queries: zeros(rows * blocks * PAIRS),
            keys: zeros(KEYS * blocks * PAIRS),
            weights: zeros(rows * BLOCKS * PAIRS),
            values: zeros(columns * BLOCKS * PAIRS),
        }
    }

    #[inline(always)]
    fn take_query<S: Simd>(&mut self, row: usize, query: &[f32]) {
        for (block, x) in query.chunks(BLOCK).enumerate() {
            let mut padded = [0.0; BLOCK];
            padded[..x.len()].copy_from_slice(x);
            let at = (row / LINES * self.blocks + block) * TILE + row % LINES * PAIRS;
            let to = &mut self.queries[at..at + PAIRS];
            // SAFETY: a block, and its pairs.
            unsafe { pair::<S>(padded.as_ptr(), to.as_mut_ptr().cast()) };
        }
    }

    #[inline(always)]
    unsafe fn pack<S: Simd, N: Number>(&mut self, cached: &Cached) {
        // SAFETY: the caller's promise.
        unsafe {
            self.pack_keys::<S, N>(cached);
            self.pack_values::<S, N>(cached);
        }
    }

    #[inline(always)]
    fn multiply_keys<S: Simd>(&self, tile: usize, panel: usize, scores: &mut [f32]) {
        let size = self.blocks * TILE;
        let scores = &mut scores[..(SIDE - 1) * KEYS + SIDE];
        assert!(self.queries.len() >= 2 * (tile + 1) * size);
        assert!(panel < KEYS / SIDE);
        // SAFETY: two tiles of queries and of keys for every block, and 32 lines of scores.
        unsafe {
            let [queries, keys] = [(&self.queries, tile), (&self.keys, panel)]
                .map(|(from, at)| words(from).add(2 * at * size));
            let [queries, keys] = [queries, keys].map(|both| [both, both.add(size)]);
            (self.tiled).multiply::<1>(queries, keys, self.blocks, scores.as_mut_ptr(), KEYS);
        }
    }

    #[inline(always)]
    fn take_weights<S: Simd>(&mut self, tile: usize, weights: &[f32], depth: usize) {
        for row in 0..SIDE {
            for block in 0..depth.div_ceil(BLOCK) {
                let from = &weights[row * KEYS + block * BLOCK..][..BLOCK];
                let at = ((2 * tile + row / LINES) * BLOCKS + block) * TILE + row % LINES * PAIRS;
                let to = &mut self.weights[at..at + PAIRS];
                // SAFETY: a block, and its pairs.
                unsafe { pair::<S>(from.as_ptr(), to.as_mut_ptr().cast()) };
            }
        }
    }

    #[inline(always)]
    fn add_values<S: Simd>(
        &self,
        tile: usize,
        (_weights, depth): (&[f32], usize),
        column: usize,
        factors: &[f32],
        (sums, columns): (&mut [f32], usize),
    ) {
        const SIZE: usize = BLOCKS * TILE;
        let sums = &mut sums[..(SIDE - 1) * columns + SIDE];
        assert!(self.weights.len() >= 2 * (tile + 1) * SIZE);
        assert!(self.values.len() >= (column + SIDE) * BLOCKS * PAIRS && depth <= KEYS);
        let mut products = [[0.0; SIDE]; SIDE];
        // SAFETY: two tiles of weights and of values for every block of keys, and 32 lines of products and of sums.
        unsafe {
            let weights = words(&self.weights).add(2 * tile * SIZE);
            let values = words(&self.values).add(column / LINES * SIZE);
            let [weights, values] = [weights, values].map(|both| [both, both.add(SIZE)]);
            let blocks = depth.div_ceil(BLOCK);
            let to = products.as_mut_ptr().cast();
            self.tiled.multiply::<1>(weights, values, blocks, to, SIDE);
            for (i, products) in products.iter().enumerate() {
                let factor = S::splat(factors[i]);
                let sums = sums.as_mut_ptr().add(i * columns);
                for at in (0..SIDE).step_by(8) {
                    let product = S::load(products.as_ptr().add(at));
                    let sum = S::fma(S::load(sums.add(at)), factor, product);
                    S::store(sums.add(at), sum);
                }
            }
        }
    }
}

impl Tiles {
    /// Keys beyond the last may be any: nobody sees them.
    ///
    /// # Safety
    /// As for [`Factors::pack`].
    #[inline(always)]
    unsafe fn pack_keys<S: Simd, N: Number>(&mut self, cached: &Cached) {
        let &Cached { count, width, .. } = cached;
        // SAFETY: the caller's promise; there is room for whole blocks of `KEYS`.
        unsafe {
            for key in (0..count).step_by(8) {
                let from = cached.keys.add(key * N::row_bytes(width));
                let panel = self.keys.as_mut_ptr().cast::<u32>();
                let panel = panel.add(key / LINES * self.blocks * TILE + key % LINES);
                for at in (0..width).step_by(8).filter(|at| at % BLOCK < PAIRS) {
                    let low = N::eight_keys::<S>(from, count - key, width, at);
                    let mut high = [S::splat(0.0); 8];
                    if at + PAIRS < width {
                        high = N::eight_keys::<S>(from, count - key, width, at + PAIRS);
                    }
                    let to = panel.add(at / BLOCK * TILE + at % BLOCK * LINES);
                    for i in 0..8 {
                        let pairs = S::bfloat_pairs(low[i], high[i]);
                        S::store_bytes(to.add(i * LINES).cast(), pairs);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As for [`Factors::pack`].
    #[inline(always)]
    unsafe fn pack_values<S: Simd, N: Number>(&mut self, cached: &Cached) {
        let &Cached {
            count, value_width, ..
        } = cached;
        // SAFETY: the caller's promise; there is room for whole blocks of `KEYS`.
        unsafe {
            for key in (0..count).step_by(2).filter(|key| key % BLOCK < PAIRS) {
                for at in (0..value_width).step_by(8) {
                    let low = two_values::<S, N>(cached, key, at);
                    let high = two_values::<S, N>(cached, key + PAIRS, at);
                    let to = self.values.as_mut_ptr().cast::<u32>();
                    let to = to.add((at / LINES * BLOCKS + key / BLOCK) * TILE + at % LINES);
                    for i in 0..2 {
                        let pairs = S::bfloat_pairs(low[i], high[i]);
                        let to = to.add((key % BLOCK + i) * LINES);
                        S::store_bytes(to.cast(), pairs);
                    }
                }
            }
        }
    }
}

/// [`Number::two_values`], zeros beyond the last: a weight of zero times any is not zero.
///
/// # Safety
/// As for [`Factors::pack`].
#[inline(always)]
unsafe fn two_values<S: Simd, N: Number>(cached: &Cached, key: usize, at: usize) -> [S::Floats; 2] {
    let zero = S::splat(0.0);
    if key >= cached.count {
        return [zero; 2];
    }
    let alone = key + 1 == cached.count;
    // SAFETY: the caller's promise.
    let [first, second] =
        unsafe { N::two_values::<S>(cached.values, key, alone, cached.value_width, at) };
    [first, if alone { zero } else { second }]
}
