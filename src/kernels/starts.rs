//! Scales and biases of some rows of packed weights, made ready for products with a few vectors.

use std::ops::Range;

use super::matrix::Matrix;
use super::simd::{Kernel, Simd};
use super::storage::{Bfloat16, Eight, Float16, Float32, Number};
use super::tiles::Vectors;

/// Makes the scales of some rows floats, and begins their products with what the biases add. It does
/// not depend on the codes: all formats share the function.
pub(super) struct Begin<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) rows: Range<usize>,
    /// What is added to codes, in units of the scales.
    pub(super) offset: f32,
    pub(super) x: &'a Vectors<'a>,
    /// `[rows][stride]`
    pub(super) scales: &'a mut [f32],
    /// Likewise; of no use afterwards.
    pub(super) biases: &'a mut [f32],
    /// `[rows][tokens][8]`, eight numbers whose sum is the begun product.
    pub(super) starts: &'a mut [f32],
}

impl Kernel for Begin<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let rows = self.rows.clone();
        let next = rows.end..rows.end + rows.len();
        self.matrix.prefetch_numbers::<S>(next);
        if self.x.units.len() == 1
            && let Some((number, scales, biases)) = self.matrix.whole_eights(rows)
        {
            let (scales, biases) = (scales.as_ptr(), biases.as_ptr());
            // SAFETY: these are the numbers of all rows, in whole eights.
            unsafe {
                match number {
                    Number::Float32 => self.of_one_token::<S, Float32>(scales, biases),
                    Number::Float16 => self.of_one_token::<S, Float16>(scales, biases),
                    Number::Bfloat16 => self.of_one_token::<S, Bfloat16>(scales, biases),
                }
            }
        } else {
            self.of_all_tokens::<S>();
        }
    }
}

impl Begin<'_> {
    /// Numbers are used as they are read.
    ///
    /// # Safety
    /// The pointers are valid for the scales and biases of all rows, whose groups are the stride.
    #[inline(always)]
    unsafe fn of_one_token<S: Simd, E: Eight>(self, mut scales: *const u8, mut biases: *const u8) {
        let (offset, eights) = (S::splat(self.offset), self.x.stride / 8);
        let mut floats = self.scales.as_mut_ptr();
        for start in self.starts.as_chunks_mut::<8>().0 {
            let mut sums = self.x.sums.as_ptr();
            let mut total = S::splat(0.0);
            for _ in 0..eights {
                // SAFETY: the caller's promise.
                unsafe {
                    let scale = E::load::<S>(scales);
                    let bias = S::fma(scale, offset, E::load::<S>(biases));
                    total = S::fma(bias, S::load(sums), total);
                    S::store(floats, scale);
                    (scales, biases) = (scales.add(8 * E::SIZE), biases.add(8 * E::SIZE));
                    (floats, sums) = (floats.add(8), sums.add(8));
                }
            }
            // SAFETY: room for eight.
            unsafe { S::store(start.as_mut_ptr(), total) };
        }
    }

    /// Numbers are made floats, which each token meets.
    #[inline(always)]
    fn of_all_tokens<S: Simd>(self) {
        let (matrix, x) = (self.matrix, self.x);
        matrix.read_numbers::<S>(self.rows, self.offset, x.stride, self.scales, self.biases);
        let starts = self.starts.chunks_exact_mut(8 * x.units.len());
        for (biases, starts) in self.biases.chunks_exact(x.stride).zip(starts) {
            let tokens = x.sums.chunks_exact(x.stride);
            for (sums, start) in tokens.zip(starts.as_chunks_mut::<8>().0) {
                let mut total = S::splat(0.0);
                for at in (0..x.stride).step_by(8) {
                    // SAFETY: both are whole eights.
                    unsafe {
                        let bias = S::load(biases.as_ptr().add(at));
                        total = S::fma(bias, S::load(sums.as_ptr().add(at)), total);
                    }
                }
                // SAFETY: room for eight.
                unsafe { S::store(start.as_mut_ptr(), total) };
            }
        }
    }
}
