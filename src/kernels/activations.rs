//! Activations as int8: a scale for each block of 32 columns of a row, in the order of the codes.

use super::codes::CHUNK;
use super::pool::Pool;
use super::simd::{self, Kernel, Simd};

/// Columns that share a scale.
pub(super) const BLOCK: usize = 32;

/// A block whose largest number is not above this is zeros: 127 times its inverse is no float.
const SMALLEST: f32 = 127.0 / f32::MAX;

/// Columns of the finest sums.
const SIXTEEN: usize = 16;

/// Rows of int8 with scales, padded with zeros to whole chunks.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) columns: usize,
    /// Columns with the padding.
    pub(super) stride: usize,
    /// `[rows, stride]`, chunks in the order of the codes.
    pub(super) codes: Vec<i8>,
    /// `[rows, stride/32]`.
    pub(super) scales: Vec<f32>,
    /// Sums of the rounded activations, `[rows, stride/16]`.
    sums: Vec<f32>,
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
            scales: vec![0.0; rows * stride / BLOCK],
            sums: vec![0.0; rows * stride / SIXTEEN],
        };
        let parts = new
            .codes
            .chunks_exact_mut(stride)
            .zip(new.scales.chunks_exact_mut(stride / BLOCK))
            .zip(new.sums.chunks_exact_mut(stride / SIXTEEN))
            .zip(x.chunks_exact(columns))
            .map(|(((codes, scales), sums), x)| Quantize {
                x,
                split,
                codes,
                scales,
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
            sums: gathered(&self.sums, stride / SIXTEEN, rows),
        }
    }

    /// Sums over groups of so many columns, `[rows, columns/group]`.
    pub(super) fn group_sums(&self, group: usize) -> Vec<f32> {
        let (count, columns) = (group / SIXTEEN, self.columns / SIXTEEN);
        let rows = self.sums.chunks_exact(self.stride / SIXTEEN);
        rows.flat_map(|row| row[..columns].chunks_exact(count))
            .map(|sums| sums.iter().sum())
            .collect()
    }
}

/// Some of the rows of a matrix `[.., width]`.
pub(super) fn gathered<T: Copy>(matrix: &[T], width: usize, rows: &[usize]) -> Vec<T> {
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
    scales: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
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
                let (first, scale, low) = block::<S>(x);
                scales[0] = scale;
                let (last, scale, high) = block::<S>(x.add(BLOCK));
                scales[1] = scale;
                let quarters = S::sum4([low[0], low[1], high[0], high[1]]);
                for (i, (sum, quarter)) in sums.iter_mut().zip(quarters).enumerate() {
                    *sum = quarter * scales[i / 2];
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

/// Rounds 32 floats: bytes, scale, and vectors whose sums are those of the first and last 16 bytes.
///
/// # Safety
/// `x` is valid for 32 floats.
#[inline(always)]
unsafe fn block<S: Simd>(x: *const f32) -> (S::Bytes, f32, [S::Floats; 2]) {
    let mut floats = [S::splat(0.0); 4];
    for (i, floats) in floats.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *floats = unsafe { S::load(x.add(8 * i)) };
    }
    let largest = S::max(
        S::max(S::abs(floats[0]), S::abs(floats[1])),
        S::max(S::abs(floats[2]), S::abs(floats[3])),
    );
    let largest = S::largest(largest);
    // 0, or not a number where one of the activations is none: then the products are none either.
    let total = S::add(S::add(floats[0], floats[1]), S::add(floats[2], floats[3]));
    let scale = largest / 127.0 + S::sum(total) * 0.0;
    let inverse = S::splat(if largest > SMALLEST {
        127.0 / largest
    } else {
        0.0
    });
    let mut rounded = [S::zero_integers(); 4];
    for (rounded, floats) in rounded.iter_mut().zip(&mut floats) {
        *rounded = S::round(S::mul(*floats, inverse));
        *floats = S::to_floats(*rounded);
    }
    let sums = [S::add(floats[0], floats[1]), S::add(floats[2], floats[3])];
    (S::pack(rounded), scale, sums)
}
