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

use super::super::activations::{BLOCK as COLUMNS, SMALLEST, coarse_block};
use super::super::simd::Simd;
use super::{Number, Weighted, weighting};

/// Positions that lie together.
pub(super) const EIGHT: usize = 8;

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
pub(super) fn codes(width: usize) -> usize {
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

/// Rounds columns of a query: the sizes of two neighbours add up to at most 128, so that their products
/// with two codes of keys fit into 16 bits. The scale is not a number where one of the columns is none,
/// or is infinite.
#[inline(always)]
fn round_pairs(from: &[f32; COLUMNS]) -> ([i8; COLUMNS], f32) {
    let mut largest = [0.0; 8];
    let mut total = 0.0;
    for pairs in from.as_chunks::<16>().0 {
        for i in 0..8 {
            let pair = pairs[2 * i].abs() + pairs[2 * i + 1].abs();
            largest[i] = if pair > largest[i] { pair } else { largest[i] };
            total += pair * 0.0;
        }
    }
    let largest = largest.into_iter().fold(0.0, f32::max);
    // Rounding adds half of one to each.
    let inverse = if largest > SMALLEST {
        127.0 / largest
    } else {
        0.0
    };
    let mut codes = [0; COLUMNS];
    for i in 0..COLUMNS {
        codes[i] = (from[i] * inverse).round_ties_even() as i8;
    }
    (codes, largest / 127.0 + total)
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
            let (codes, scale) = round_pairs(&padded);
            let mut first = 0;
            for &code in &codes {
                first += (i32::from(S::UNSIGNED_OFFSET) - i32::from(OFFSET)) * i32::from(code);
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
        // SAFETY: the caller's promise.
        unsafe { weighting::add_values::<S, Q, W>(weighted) };
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
                    let key = S::load_bytes(codes_of_keys.add(word * 4 * EIGHT));
                    for (q, products) in products.iter_mut().enumerate() {
                        let query = query.byte_add(q * Self::query_bytes(width));
                        let query = S::splat_word(query.cast::<i8>().add(4 * word));
                        *products = S::dot_unsigned(*products, key, query);
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
