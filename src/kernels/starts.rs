//! Scales and biases of some rows of packed weights, made ready for products with a few vectors.

use std::ops::Range;

use super::matrix::Matrix;
use super::simd::{Kernel, Simd};
use super::storage::{Bfloat, Eight, Half, Number, Single};
use super::tiles::{Vectors, tile};

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
                    Number::Float32 => self.of_one_token::<S, Single>(scales, biases),
                    Number::Float16 => self.of_one_token::<S, Half>(scales, biases),
                    Number::Bfloat16 => self.of_one_token::<S, Bfloat>(scales, biases),
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
            let (mut sums, mut starts) = (x.sums.as_ptr(), starts.as_mut_ptr());
            let mut left = x.units.len();
            while left > 0 {
                let size = tile(left);
                // SAFETY: there are sums and room for so many tokens.
                unsafe {
                    match size {
                        4 => of_tile::<S, 4>(biases, sums, starts),
                        2 => of_tile::<S, 2>(biases, sums, starts),
                        _ => of_tile::<S, 1>(biases, sums, starts),
                    }
                    (sums, starts) = (sums.add(size * x.stride), starts.add(size * 8));
                }
                left -= size;
            }
        }
    }
}

/// Begins one row's products with `T` tokens.
///
/// # Safety
/// The biases are whole eights, for which there are `[T]` sums, and there is room for `[T][8]`.
#[inline(always)]
unsafe fn of_tile<S: Simd, const T: usize>(biases: &[f32], sums: *const f32, starts: *mut f32) {
    let mut totals = [S::splat(0.0); T];
    for (i, eight) in biases.as_chunks::<8>().0.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let bias = S::load(eight.as_ptr());
            for (t, total) in totals.iter_mut().enumerate() {
                let sums = sums.add(t * biases.len() + 8 * i);
                *total = S::fma(bias, S::load(sums), *total);
            }
        }
    }
    for (t, total) in totals.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { S::store(starts.add(8 * t), total) };
    }
}
