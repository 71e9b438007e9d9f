//! Values in int8 times weights in 16 bits: integers are added up for a block of positions, and made
//! floats after that.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use super::super::activations::BLOCK as COLUMNS;
use super::super::simd::Simd;
use super::bytes::{EIGHT, codes};
use super::{Ahead, Byte, Number, POSITIONS, Weighted};

/// Blocks of columns whose weights are made at once: none waits for another.
const BLOCKS: usize = 4;

/// Vectors of eight positions.
const VECTORS: usize = POSITIONS / EIGHT;

/// What weights of positions, times the scales of a block of columns, add up to in 16 bits.
const LEVELS: f32 = 32767.0;

/// [`Number::add_values`] of values in int8.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn add_values<S: Simd, const Q: usize, const W: usize>(weighted: &Weighted<Q>) {
    let blocks = weighted.width.div_ceil(COLUMNS);
    let words = weighted.count.div_ceil(EIGHT) * EIGHT / 2;
    let mut ahead = weighted.ahead(blocks * words * 4usize.div_ceil(W));
    let mut weights = BlockWeights {
        codes: [[[0; POSITIONS]; Q]; BLOCKS],
        units: [[0.0; Q]; BLOCKS],
    };
    for first in (0..blocks).step_by(BLOCKS) {
        let count = BLOCKS.min(blocks - first);
        // SAFETY: the caller's promise.
        unsafe {
            block_weights::<S, Q>(weighted, first, count, &mut weights);
            for i in 0..count {
                let (codes, units) = (&weights.codes[i], &weights.units[i]);
                add_block::<S, Q, W>(weighted, first + i, codes, units, &mut ahead);
            }
        }
    }
}

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

/// Makes the weights for some blocks of columns, at most [`BLOCKS`], from one on.
///
/// # Safety
/// As for [`Number::add_values`].
#[inline(always)]
unsafe fn block_weights<S: Simd, const Q: usize>(
    weighted: &Weighted<Q>,
    first: usize,
    count: usize,
    out: &mut BlockWeights<Q>,
) {
    let mut scales = [[S::splat(0.0); VECTORS]; BLOCKS];
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
