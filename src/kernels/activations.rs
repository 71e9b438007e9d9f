//! Activations as int8: a scale for each block of 32 columns of a row, in the order of the codes.
//!
//! Scales are whole multiples of one number for each row, its unit, so that integers can be multiplied
//! with them before they are made floats. A scale is at most one unit larger than its block asks for,
//! and the unit is a 32766th of the row's largest scale.

use half::bf16;

use super::codes::CHUNK;
use super::pool::Pool;
use super::simd::{self, Kernel, Simd, load_some};

/// Columns that share a scale.
pub(super) const BLOCK: usize = 32;

/// A block whose largest number is not above this is zeros: 127 times its inverse is no float.
pub(super) const SMALLEST: f32 = 127.0 / f32::MAX;

/// Columns of the finest sums.
const SIXTEEN: usize = 16;

/// What the largest number of a row is in units: one less than 16 bits hold, for what a quotient may be
/// rounded up, times the largest code.
const LEVELS: f32 = 127.0 * 32766.0;

/// Rows of int8 with scales, padded with zeros to whole chunks.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) columns: usize,
    /// Columns with the padding.
    pub(super) stride: usize,
    /// `[rows, stride]`, chunks in the order of the codes.
    pub(super) codes: Vec<i8>,
    /// `[rows, stride/32]`
    pub(super) scales: Vec<Scale>,
    /// `[rows]`; not a number where one of the row is none, or is infinite: then its products are none
    /// either.
    pub(super) units: Vec<f32>,
    /// Sums of the rounded activations in units of the row, `[rows, stride/16]`.
    sums: Vec<f32>,
}

/// A scale in units of its row, a whole number that is at most 32767.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Scale {
    pub(super) float: f32,
    /// As [`Lanes::scaled`](super::simd::Lanes::scaled) takes it, in one lane.
    pub(super) factor: [u8; 4],
}

impl Activations {
    /// Rounds `x` `[rows, columns]`; `split` says whether a chunk is its even columns and then the
    /// odd ones.
    pub(super) fn new(pool: &Pool, x: &[f32], columns: usize, split: bool) -> Self {
        let rows = x.len() / columns;
        let stride = columns.next_multiple_of(CHUNK);
        let mut new = Self {
            columns,
            stride,
            codes: vec![0; rows * stride],
            scales: vec![Scale::default(); rows * stride / BLOCK],
            units: vec![0.0; rows],
            sums: vec![0.0; rows * stride / SIXTEEN],
        };
        let parts = new
            .codes
            .chunks_exact_mut(stride)
            .zip(new.scales.chunks_exact_mut(stride / BLOCK))
            .zip(new.sums.chunks_exact_mut(stride / SIXTEEN))
            .zip(&mut new.units)
            .zip(x.chunks_exact(columns))
            .map(|((((codes, scales), sums), unit), x)| Quantize {
                x,
                split,
                codes,
                scales,
                unit,
                sums,
            });
        super::pool::run_each(pool, parts.collect(), simd::run);
        new
    }

    /// Some of the rows, in the order given.
    pub(super) fn gather(&self, rows: &[usize]) -> Self {
        let stride = self.stride;
        Self {
            columns: self.columns,
            stride,
            codes: gathered(&self.codes, stride, rows),
            scales: gathered(&self.scales, stride / BLOCK, rows),
            units: gathered(&self.units, 1, rows),
            sums: gathered(&self.sums, stride / SIXTEEN, rows),
        }
    }

    /// Sums over groups of so many columns in units of the row, `[rows, columns/group]`.
    pub(super) fn group_sums(&self, group: usize) -> Vec<f32> {
        let (count, columns) = (group / SIXTEEN, self.columns / SIXTEEN);
        let rows = self.sums.chunks_exact(self.stride / SIXTEEN);
        rows.flat_map(|row| row[..columns].chunks_exact(count))
            .map(|sums| sums.iter().sum())
            .collect()
    }
}

/// Some of the rows of a matrix `[.., width]`.
pub(super) fn gathered<T: Copy, C: FromIterator<T>>(
    matrix: &[T],
    width: usize,
    rows: &[usize],
) -> C {
    let rows = rows.iter();
    rows.flat_map(|row| &matrix[row * width..(row + 1) * width])
        .copied()
        .collect()
}

/// One row.
struct Quantize<'a> {
    x: &'a [f32],
    split: bool,
    codes: &'a mut [i8],
    scales: &'a mut [Scale],
    unit: &'a mut f32,
    sums: &'a mut [f32],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // Four at a time, so that none waits for the one before.
        let mut all = [S::splat(0.0); 4];
        let mut total = all;
        let (whole, rest) = self.x.as_chunks::<BLOCK>();
        for block in whole {
            // SAFETY: a block is 32 floats.
            let floats = unsafe { load_block::<S>(block.as_ptr()) };
            for i in 0..4 {
                all[i] = S::max(all[i], S::abs(floats[i]));
                total[i] = S::fma(floats[i], S::splat(0.0), total[i]);
            }
        }
        for at in (0..rest.len()).step_by(8) {
            // SAFETY: at least one float is left.
            let x = unsafe { load_some::<S>(rest.as_ptr().add(at), rest.len() - at) };
            all[0] = S::max(all[0], S::abs(x));
            total[0] = S::fma(x, S::splat(0.0), total[0]);
        }
        let total = S::add(S::add(total[0], total[1]), S::add(total[2], total[3]));
        // Of the least numbers, less than a float holds in full is kept.
        let unit = (largest::<S>(all) / LEVELS).max(f32::MIN_POSITIVE);
        *self.unit = unit + S::sum(total);
        let chunks = self.x.chunks(CHUNK).zip(self.codes.chunks_exact_mut(CHUNK));
        let numbers = self
            .scales
            .chunks_exact_mut(2)
            .zip(self.sums.chunks_exact_mut(4));
        for ((x, codes), (scales, sums)) in chunks.zip(numbers) {
            let mut padded = [0.0; CHUNK];
            let x = if x.len() == CHUNK {
                x.as_ptr()
            } else {
                padded[..x.len()].copy_from_slice(x);
                padded.as_ptr()
            };
            // SAFETY: `x` has 64 floats, `codes` 64 bytes.
            unsafe {
                let (first, low);
                (first, scales[0], low) = block_in_units::<S>(x, unit);
                let (last, high);
                (last, scales[1], high) = block_in_units::<S>(x.add(BLOCK), unit);
                let quarters = S::sum4([low[0], low[1], high[0], high[1]]);
                for (i, (sum, quarter)) in sums.iter_mut().zip(quarters).enumerate() {
                    *sum = quarter * scales[i / 2].float;
                }
                let [first, last] = if self.split {
                    S::deinterleave(first, last)
                } else {
                    [first, last]
                };
                S::store_bytes(codes.as_mut_ptr().cast(), first);
                S::store_bytes(codes.as_mut_ptr().add(32).cast(), last);
            }
        }
    }
}

/// Rounds 32 floats: bytes, scale in units, and vectors whose sums are those of the first and last 16
/// bytes.
///
/// # Safety
/// `x` is valid for 32 floats.
#[inline(always)]
unsafe fn block_in_units<S: Simd>(x: *const f32, unit: f32) -> (S::Bytes, Scale, [S::Floats; 2]) {
    // SAFETY: the caller's promise.
    let floats = unsafe { load_block::<S>(x) };
    let scale = (largest::<S>(floats) / (127.0 * unit)).ceil();
    let inverse = if scale > 0.0 {
        (scale * unit).recip()
    } else {
        0.0
    };
    let rounded = round::<S>(floats, inverse);
    let [a, b, c, d] = rounded;
    let first = S::add(S::to_floats(a), S::to_floats(b));
    let last = S::add(S::to_floats(c), S::to_floats(d));
    let scale = Scale {
        float: scale,
        factor: S::factor(scale as u16),
    };
    (S::pack(rounded), scale, [first, last])
}

/// Rounds 32 floats to bytes with a scale in bfloat16.
///
/// # Safety
/// `x` is valid for 32 floats.
#[inline(always)]
pub(super) unsafe fn coarse_block<S: Simd>(x: *const f32) -> (S::Bytes, bf16) {
    // SAFETY: the caller's promise.
    let floats = unsafe { load_block::<S>(x) };
    let (largest, scale) = scale::<S>(floats);
    if scale.is_nan() {
        return (S::pack([S::zero_integers(); 4]), bf16::NAN);
    }
    // Up to the next one, so that no byte is above 127.
    let bits = scale.to_bits().saturating_add(0xffff) & 0xffff_0000;
    let inverse = if largest > SMALLEST {
        f32::from_bits(bits).recip()
    } else {
        0.0
    };
    let rounded = round::<S>(floats, inverse);
    (S::pack(rounded), bf16::from_bits((bits >> 16) as u16))
}

/// # Safety
/// `x` is valid for 32 floats.
#[inline(always)]
unsafe fn load_block<S: Simd>(x: *const f32) -> [S::Floats; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            S::load(x),
            S::load(x.add(8)),
            S::load(x.add(16)),
            S::load(x.add(24)),
        ]
    }
}

#[inline(always)]
fn round<S: Simd>([a, b, c, d]: [S::Floats; 4], inverse: f32) -> [S::Integers; 4] {
    let inverse = S::splat(inverse);
    [
        S::round(S::mul(a, inverse)),
        S::round(S::mul(b, inverse)),
        S::round(S::mul(c, inverse)),
        S::round(S::mul(d, inverse)),
    ]
}

/// The largest size of a number in a block, and the scale that makes it 127; not a number where one
/// of the block is none, or is infinite: then the products are none either.
#[inline(always)]
fn scale<S: Simd>(block: [S::Floats; 4]) -> (f32, f32) {
    let largest = largest::<S>(block);
    let [a, b, c, d] = block;
    let total = S::add(S::add(a, b), S::add(c, d));
    (largest, largest / 127.0 + S::sum(total) * 0.0)
}

#[inline(always)]
fn largest<S: Simd>([a, b, c, d]: [S::Floats; 4]) -> f32 {
    let largest = S::max(S::max(S::abs(a), S::abs(b)), S::max(S::abs(c), S::abs(d)));
    S::largest(largest)
}
