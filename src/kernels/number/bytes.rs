//! Keys and values as int8, with a scale in bfloat16 for each 32 columns.
//!
//! Eight positions lie together. Of their keys the codes of columns 0 to 3, then those of columns 4 to 7,
//! and so on: a vector holds four columns of eight keys, and what it is multiplied with is a word of
//! the query. Codes of keys are 128 more than what they stand for. Of their values the codes of the
//! first two positions, column by column, then those of the next two: a vector holds eight columns of
//! two positions, and what it is multiplied with is the two weights. So nothing is to be summed across
//! lanes. After the codes come the scales of the first block of columns of all eight, and so on. Columns
//! are padded to whole blocks.

use half::bf16;

use super::super::activations::{BLOCK as COLUMNS, block, coarse_block};
use super::super::simd::Simd;
use super::{Ahead, Number, POSITIONS, Weighted};

/// Positions that lie together.
const EIGHT: usize = 8;

/// What codes of keys are more than what they stand for.
const OFFSET: u8 = 128;

/// Words of a block of columns, in a key or a query.
const WORDS: usize = COLUMNS / 4;

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Byte;

/// A block of a query's columns.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed)]
struct QueryBlock {
    codes: [i8; COLUMNS],
    scale: f32,
    /// What products begin with, so that the keys' offset falls away.
    first: i32,
}

/// Where the scales of eight positions begin, for each of them.
#[inline(always)]
fn codes(width: usize) -> usize {
    width.next_multiple_of(COLUMNS)
}

/// Rounds up to 32 floats.
#[inline(always)]
fn round<S: Simd>(from: &[f32]) -> ([u8; COLUMNS], bf16) {
    let mut padded = [0.0; COLUMNS];
    padded[..from.len()].copy_from_slice(from);
    let mut codes = [0; COLUMNS];
    // SAFETY: both are a block.
    let scale = unsafe {
        let (bytes, scale) = coarse_block::<S>(padded.as_ptr());
        S::store_bytes(codes.as_mut_ptr(), bytes);
        scale
    };
    (codes, scale)
}

/// Blocks of columns whose weights are made at once: none waits for another.
const BLOCKS: usize = 4;

/// Vectors of eight positions.
const VECTORS: usize = POSITIONS / EIGHT;

/// What weights of positions, times the scales of a block of columns, add up to in 16 bits.
const LEVELS: f32 = 32767.0;

/// Weights of positions, times the scales of blocks of columns, in 16 bits.
struct BlockWeights<const Q: usize> {
    codes: [[[i16; POSITIONS]; Q]; BLOCKS],
    units: [[f32; Q]; BLOCKS],
}

/// The scales of a block of columns, for all positions; zeros beyond the last, where there may be what
/// is no number.
///
/// # Safety
/// As for [`Number::add_values`].
#[inline(always)]
unsafe fn scales_of_values<S: Simd, const Q: usize>(
    weighted: &Weighted<Q>,
    block: usize,
) -> [S::Floats; VECTORS] {
    let mut scales = [S::splat(0.0); VECTORS];
    let eights = weighted.count.div_ceil(EIGHT).min(VECTORS);
    for eight in 0..eights {
        // SAFETY: the caller's promise.
        unsafe {
            let from = weighted
                .values
                .add(eight * EIGHT * Byte::row_bytes(weighted.width));
            let from = from.add((codes(weighted.width) + block * 2) * EIGHT);
            let count = weighted.count - eight * EIGHT;
            scales[eight] = if count >= EIGHT {
                S::load_bfloat(from)
            } else {
                let mut some = [0; 2 * EIGHT];
                std::ptr::copy_nonoverlapping(from, some.as_mut_ptr(), 2 * count);
                S::load_bfloat(some.as_ptr())
            };
        }
    }
    scales
}

/// The weights for some blocks of columns, at most [`BLOCKS`], from one on.
///
/// # Safety
/// As for [`Number::add_values`].
#[inline(always)]
unsafe fn block_weights<S: Simd, const Q: usize>(
    weighted: &Weighted<Q>,
    first: usize,
    count: usize,
) -> BlockWeights<Q> {
    let mut scales = [[S::splat(0.0); VECTORS]; BLOCKS];
    let mut out = BlockWeights {
        codes: [[[0; POSITIONS]; Q]; BLOCKS],
        units: [[0.0; Q]; BLOCKS],
    };
    // SAFETY: the caller's promise; weights are as many as positions at most.
    unsafe {
        for block in 0..count {
            scales[block] = scales_of_values::<S, Q>(weighted, first + block);
        }
        for q in 0..Q {
            let from = (*weighted.weights.add(q)).as_ptr();
            let mut weights = [S::splat(0.0); VECTORS];
            for i in 0..VECTORS {
                weights[i] = S::load(from.add(i * EIGHT));
            }
            let mut totals = [S::splat(0.0); BLOCKS];
            for block in 0..BLOCKS {
                for i in 0..VECTORS {
                    totals[block] = S::fma(weights[i], scales[block][i], totals[block]);
                }
            }
            // Not a number where a scale is none.
            let totals = S::sum4(totals);
            for block in 0..BLOCKS {
                let total = totals[block];
                out.units[block][q] = total / LEVELS;
                let inverse = if total > LEVELS / f32::MAX {
                    LEVELS / total
                } else {
                    0.0
                };
                let inverse = S::splat(inverse);
                let mut rounded = [S::zero_integers(); VECTORS];
                for i in 0..VECTORS {
                    let product = S::mul(weights[i], scales[block][i]);
                    rounded[i] = S::round(S::mul(product, inverse));
                }
                let to = out.codes[block][q].as_mut_ptr();
                let mut i = 0;
                while i < VECTORS {
                    let pairs = S::pack_pairs(rounded[i], rounded[i + 1]);
                    S::store_bytes(to.add(i * EIGHT).cast(), pairs);
                    i += 2;
                }
            }
        }
    }
    out
}

/// Adds a block of columns, `W` vectors at once, of which it has four.
///
/// # Safety
/// As for [`Number::add_values`].
#[inline(always)]
unsafe fn add_block<S: Simd, const Q: usize, const W: usize>(
    weighted: &Weighted<Q>,
    block: usize,
    weights: &[[i16; POSITIONS]; Q],
    units: &[f32; Q],
    ahead: &mut Ahead,
) {
    let width = weighted.width;
    let eights = weighted.count.div_ceil(EIGHT);
    let (pair_bytes, eight_bytes) = (2 * codes(width), EIGHT * Byte::row_bytes(width));
    let count = const { if W > 4 { 4 } else { W } };
    let mut at = 0;
    while at < COLUMNS {
        let first = block * COLUMNS + at;
        let mut sums = [[S::zero_integers(); W]; Q];
        // SAFETY: the caller's promise; columns are padded to whole blocks.
        unsafe {
            let mut from = weighted.values.add(2 * first);
            let mut word = weights.as_ptr().cast::<i8>();
            for _ in 0..eights {
                let mut pairs = from;
                for _ in 0..EIGHT / 2 {
                    let mut splats = [S::splat_word(word); Q];
                    for q in 1..Q {
                        splats[q] = S::splat_word(word.add(q * size_of::<[i16; POSITIONS]>()));
                    }
                    for w in 0..count {
                        let pairs = S::load_pairs(pairs.add(16 * w));
                        for q in 0..Q {
                            sums[q][w] = S::dot_pairs(sums[q][w], pairs, splats[q]);
                        }
                    }
                    ahead.ask::<S>();
                    word = word.add(4);
                    pairs = pairs.add(pair_bytes);
                }
                from = from.add(eight_bytes);
            }
            for q in 0..Q {
                let row = weighted.sums.add(q * weighted.stride + first);
                let (unit, factor) = (S::splat(units[q]), S::splat(weighted.factors[q]));
                for w in 0..count {
                    let row = row.add(8 * w);
                    let old = S::mul(S::load(row), factor);
                    S::store(row, S::fma(S::to_floats(sums[q][w]), unit, old));
                }
            }
        }
        at += 8 * count;
    }
}

impl Number for Byte {
    const BLOCK: usize = EIGHT;

    #[inline(always)]
    fn row_bytes(width: usize) -> usize {
        width.div_ceil(COLUMNS) * (COLUMNS + 2)
    }

    #[inline(always)]
    fn query_bytes(width: usize) -> usize {
        width.div_ceil(COLUMNS) * size_of::<QueryBlock>()
    }

    #[inline(always)]
    fn store_query<S: Simd>(from: &[f32], query: &mut [u8]) {
        assert_eq!(query.len(), Self::query_bytes(from.len()));
        let blocks = query.chunks_exact_mut(size_of::<QueryBlock>());
        for (from, to) in from.chunks(COLUMNS).zip(blocks) {
            let mut padded = [0.0; COLUMNS];
            padded[..from.len()].copy_from_slice(from);
            let mut codes = [0; COLUMNS];
            // SAFETY: both are a block.
            let scale = unsafe {
                let (bytes, scale) = block::<S>(padded.as_ptr());
                S::store_bytes(codes.as_mut_ptr().cast(), bytes);
                scale
            };
            let mut first = 0;
            for &code in &codes {
                first += (i32::from(S::WIDE_OFFSET) - i32::from(OFFSET)) * i32::from(code);
            }
            let block = QueryBlock {
                codes,
                scale,
                first,
            };
            // SAFETY: `to` is as large as a block.
            unsafe { to.as_mut_ptr().cast::<QueryBlock>().write(block) };
        }
    }

    #[inline(always)]
    unsafe fn store_key<S: Simd>(from: &[f32], keys: *mut u8, position: usize) {
        let width = from.len();
        // SAFETY: what is written is of this position, in its block.
        unsafe {
            let keys = keys.add(position / EIGHT * EIGHT * Self::row_bytes(width));
            let lane = position % EIGHT;
            for (i, from) in from.chunks(COLUMNS).enumerate() {
                let (codes_, scale) = round::<S>(from);
                for (word, four) in codes_.as_chunks::<4>().0.iter().enumerate() {
                    let to = keys.add(((i * WORDS + word) * EIGHT + lane) * 4);
                    let offset = four.map(|code| code ^ OFFSET);
                    to.cast::<[u8; 4]>().write(offset);
                }
                let to = keys.add(codes(width) * EIGHT + (i * EIGHT + lane) * 2);
                to.cast::<bf16>().write_unaligned(scale);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_value<S: Simd>(from: &[f32], values: *mut u8, position: usize) {
        let width = from.len();
        // SAFETY: what is written is of this position, in its block.
        unsafe {
            let values = values.add(position / EIGHT * EIGHT * Self::row_bytes(width));
            let lane = position % EIGHT;
            let pair = values.add(lane / 2 * 2 * codes(width) + lane % 2);
            for (i, from) in from.chunks(COLUMNS).enumerate() {
                let (codes_, scale) = round::<S>(from);
                let to = pair.add(2 * i * COLUMNS);
                for (column, &code) in codes_.iter().enumerate() {
                    to.add(2 * column).write(code);
                }
                let to = values.add(codes(width) * EIGHT + (i * EIGHT + lane) * 2);
                to.cast::<bf16>().write_unaligned(scale);
            }
        }
    }

    #[inline(always)]
    unsafe fn two_values<S: Simd>(
        values: *const u8,
        position: usize,
        _alone: bool,
        width: usize,
        at: usize,
    ) -> [S::Floats; 2] {
        // SAFETY: the block of the positions is there as a whole.
        unsafe {
            let values = values.add(position / EIGHT * EIGHT * Self::row_bytes(width));
            let lane = position % EIGHT;
            let pairs = values.add(lane / 2 * 2 * codes(width) + 2 * at);
            let scales = values.add(codes(width) * EIGHT + (at / COLUMNS * EIGHT + lane) * 2);
            let [first, second] = scales.cast::<[bf16; 2]>().read_unaligned();
            let [a, b] = S::pair_floats(S::load_pairs(pairs));
            [
                S::mul(a, S::splat(first.to_f32())),
                S::mul(b, S::splat(second.to_f32())),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add_values<S: Simd, const Q: usize, const W: usize>(weighted: &Weighted<Q>) {
        let blocks = weighted.width.div_ceil(COLUMNS);
        let words = weighted.count.div_ceil(EIGHT) * EIGHT / 2;
        let mut ahead = weighted.ahead(blocks * words * 4usize.div_ceil(W));
        for first in (0..blocks).step_by(BLOCKS) {
            let count = BLOCKS.min(blocks - first);
            // SAFETY: the caller's promise.
            unsafe {
                let weights = block_weights::<S, Q>(weighted, first, count);
                for i in 0..count {
                    let (codes, units) = (&weights.codes[i], &weights.units[i]);
                    add_block::<S, Q, W>(weighted, first + i, codes, units, &mut ahead);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn eight_keys<S: Simd>(
        keys: *const u8,
        _count: usize,
        width: usize,
        at: usize,
    ) -> [S::Floats; 8] {
        // SAFETY: a block is there as a whole.
        unsafe {
            let scales = S::load_bfloat(keys.add((codes(width) + at / COLUMNS * 2) * EIGHT));
            let [a, b, c, d] = S::unsigned_bytes(S::load_bytes(keys.add(at * EIGHT)));
            let [e, f, g, h] = S::unsigned_bytes(S::load_bytes(keys.add((at + 4) * EIGHT)));
            let offset = S::splat(f32::from(OFFSET));
            let mut eight = [a, b, c, d, e, f, g, h];
            for column in &mut eight {
                *column = S::mul(S::sub(*column, offset), scales);
            }
            eight
        }
    }

    #[inline(always)]
    unsafe fn scores<S: Simd, const Q: usize, const K: usize>(
        keys: *const u8,
        width: usize,
        queries: *const u8,
        scores: *mut f32,
        stride: usize,
    ) {
        let mut sums = [S::splat(0.0); Q];
        // SAFETY: a block of keys is there as a whole, and the queries are padded to blocks.
        unsafe {
            for block in 0..width.div_ceil(COLUMNS) {
                let codes_of_keys = keys.add(block * COLUMNS * EIGHT);
                let scales = S::load_bfloat(keys.add((codes(width) + block * 2) * EIGHT));
                let query = queries.cast::<QueryBlock>().add(block);
                let mut products = [S::zero_integers(); Q];
                for (q, products) in products.iter_mut().enumerate() {
                    let query = query.byte_add(q * Self::query_bytes(width));
                    *products = S::splat_integer((*query).first);
                }
                for word in 0..WORDS {
                    let key = S::wide(S::load_bytes(codes_of_keys.add(word * 4 * EIGHT)));
                    for (q, products) in products.iter_mut().enumerate() {
                        let query = query.byte_add(q * Self::query_bytes(width));
                        let query = S::splat_word(query.cast::<i8>().add(4 * word));
                        *products = S::dot_wide(*products, key, query);
                    }
                }
                for (q, sum) in sums.iter_mut().enumerate() {
                    let query = query.byte_add(q * Self::query_bytes(width));
                    let scale = S::splat((*query).scale);
                    *sum = S::fma(S::to_floats(products[q]), S::mul(scales, scale), *sum);
                }
            }
            for (q, sum) in sums.into_iter().enumerate() {
                S::store(scores.add(q * stride), sum);
            }
        }
    }
}
