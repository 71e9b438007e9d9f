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
    fn of_all_tokens<S: Simd>(mut self) {
        let (matrix, x) = (self.matrix, self.x);
        matrix.read_numbers::<S>(
            self.rows.clone(),
            self.offset,
            x.stride,
            self.scales,
            self.biases,
        );
        let mut token = 0;
        while token < x.units.len() {
            let size = tile(x.units.len() - token);
            match size {
                4 => self.of_tile::<S, 4>(token),
                2 => self.of_tile::<S, 2>(token),
                _ => self.of_tile::<S, 1>(token),
            }
            token += size;
        }
    }

    /// Begins all rows' products with `T` tokens, the tile from `token` on.
    #[inline(always)]
    fn of_tile<S: Simd, const T: usize>(&mut self, token: usize) {
        let (tokens, stride) = (self.x.units.len(), self.x.stride);
        let rows = self.rows.len();
        assert!(self.biases.len() >= rows * stride && self.starts.len() >= rows * 8 * tokens);
        let mut biases = self.biases.as_ptr();
        let mut starts = self.starts[8 * token..].as_mut_ptr();
        let tile = self.x.sums[token * stride..].as_ptr();
        for _ in 0..rows {
            let (mut sums, mut totals) = (tile, [S::splat(0.0); T]);
            // SAFETY: there are whole eights of biases for each row, sums of each tile's tokens for
            // them, and room for eights of all tokens.
            unsafe {
                for _ in 0..stride / 8 {
                    let bias = S::load(biases);
                    for (t, total) in totals.iter_mut().enumerate() {
                        *total = S::fma(bias, S::load(sums.add(8 * t)), *total);
                    }
                    (biases, sums) = (biases.add(8), sums.add(8 * T));
                }
                for (t, total) in totals.into_iter().enumerate() {
                    S::store(starts.add(8 * t), total);
                }
            }
            starts = starts.wrapping_add(8 * tokens);
        }
    }
}
