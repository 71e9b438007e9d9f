//! Rows of packed weights times one vector of int8 activations: a decode step, bound by memory.

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::Activations;
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Wide};
use super::floats::is_split;
use super::matrix::{Format, Matrix};
use super::simd::{self, Kernel, Simd};

/// One row of activations as the rows of a matrix of one format meet it.
#[derive(Debug)]
pub(super) struct Vector<'a> {
    /// `[stride]`
    codes: &'a [i8],
    /// As the lanes of the products need them: `[chunks][8]` for split codes, `[chunks][2]` for
    /// others.
    scales: Vec<f32>,
    /// Over the format's groups, and zeros to the next multiple of 8.
    sums: Vec<f32>,
}

impl<'a> Vector<'a> {
    /// The only row of `x`, which is in the order of the format.
    pub(super) fn new(x: &'a Activations, format: Format) -> Self {
        let mut sums = x.group_sums(format.group());
        sums.resize(sums.len().next_multiple_of(8), 0.0);
        let mut scales = x.scales.clone();
        if is_split(format) {
            scales.clear();
            for scale in &x.scales {
                scales.extend([*scale; 4]);
            }
        }
        Self {
            codes: &x.codes,
            scales,
            sums,
        }
    }
}

/// `out[i] = W[rows.start + i] · x` for packed integer formats.
pub(super) fn multiply(matrix: &Matrix, rows: Range<usize>, x: &Vector<'_>, out: &mut [f32]) {
    let arguments = Arguments {
        matrix,
        rows,
        x,
        out,
    };
    match matrix.format() {
        Format::Affine { bits: 2, .. } => arguments.start::<Bits<2>>(),
        Format::Affine { bits: 3, .. } => arguments.start::<Bits<3>>(),
        Format::Affine { bits: 4, .. } => arguments.start::<Nibbles>(),
        Format::Affine { bits: 5, .. } => arguments.start::<Bits<5>>(),
        Format::Affine { bits: 6, .. } => arguments.start::<Bits<6>>(),
        Format::Affine { .. } => arguments.start::<Wide>(),
        Format::Mxfp4 | Format::Nvfp4 => arguments.start::<Floats4>(),
        Format::Mxfp8 | Format::Dense(_) => unreachable_format(matrix),
    }
}

/// Formats without integers have kernels of their own; calling one of these is a mistake in this
/// room.
#[cold]
pub(super) fn unreachable_format(matrix: &Matrix) {
    debug_assert!(false, "{:?} has no integer codes", matrix.format());
}

struct Arguments<'a> {
    matrix: &'a Matrix,
    rows: Range<usize>,
    x: &'a Vector<'a>,
    out: &'a mut [f32],
}

impl<'a> Arguments<'a> {
    fn start<C: Codes>(self) {
        match self.matrix.format().group() {
            16 => simd::run(Rows::<'a, C, 16>(self, PhantomData)),
            32 => simd::run(Rows::<'a, C, 32>(self, PhantomData)),
            64 => simd::run(Rows::<'a, C, 64>(self, PhantomData)),
            _ => simd::run(Rows::<'a, C, 128>(self, PhantomData)),
        }
    }
}

struct Rows<'a, C, const GROUP: usize>(Arguments<'a>, PhantomData<C>);

impl<C: Codes, const GROUP: usize> Kernel for Rows<'_, C, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        if S::STREAMS == 4 {
            self.side_by_side::<S, 4>();
        } else {
            self.side_by_side::<S, 2>();
        }
    }
}

impl<C: Codes, const GROUP: usize> Rows<'_, C, GROUP> {
    /// All rows, one of each of `N` parts at a time: the memory brings a few distant streams faster
    /// than one.
    #[inline(always)]
    fn side_by_side<S: Simd, const N: usize>(&mut self) {
        let Range { start, end } = self.0.rows;
        let part = (end - start) / N;
        for row in start..start + part {
            self.rows::<S, N>(row, part);
        }
        for row in start + N * part..end {
            self.rows::<S, 1>(row, 0);
        }
    }

    /// `N` rows, so far apart.
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&mut self, first: usize, distance: usize) {
        let (matrix, x, start) = (self.0.matrix, self.0.x, self.0.rows.start);
        let mut codes: [&[u8]; N] = [&[]; N];
        for (i, codes) in codes.iter_mut().enumerate() {
            *codes = matrix.row_codes(first + i * distance);
        }
        let mut sums = [S::splat(0.0); N];
        let groups = matrix.columns() / GROUP;
        // Chunks that lie whole in a row.
        let whole = codes[0].len() / C::BYTES;
        for group in (0..groups).step_by(8) {
            let mut scales = [[0.0; 8]; N];
            // SAFETY: sums are there for all groups and to the next multiple of 8.
            let total = unsafe { S::load(x.sums.as_ptr().add(group)) };
            for i in 0..N {
                let at = (first + i * distance) * groups + group;
                let (scale, bias) = matrix.eight_numbers::<S>(at, groups - group);
                let bias = S::fma(S::splat(offset::<S, C>()), scale, bias);
                sums[i] = S::fma(bias, total, sums[i]);
                // SAFETY: there is room for eight.
                unsafe { S::store(scales[i].as_mut_ptr(), scale) };
            }
            let chunks = group * GROUP / CHUNK..((group + 8) * GROUP / CHUNK).min(whole);
            for chunk in chunks.clone() {
                for i in 0..N {
                    // SAFETY: the chunk lies in the row, and its scales among the eight.
                    unsafe {
                        let from = codes[i].as_ptr().add(chunk * C::BYTES);
                        if S::AHEAD > 0 {
                            for line in 0..C::BYTES.div_ceil(64) {
                                S::prefetch(from.wrapping_add(S::AHEAD + 64 * line));
                            }
                        }
                        let scales = scales[i].as_ptr();
                        let scales = scales.add((chunk - chunks.start) * CHUNK / GROUP);
                        sums[i] = x.chunk::<S, C, GROUP>(sums[i], from, scales, chunk);
                    }
                }
            }
            // The last chunk may be a part of one.
            if whole * CHUNK < matrix.columns() && group + 8 >= groups {
                for i in 0..N {
                    let mut tail = [0; CHUNK];
                    let rest = &codes[i][whole * C::BYTES..];
                    tail[..rest.len()].copy_from_slice(rest);
                    let scales = &scales[i][(whole - chunks.start) * CHUNK / GROUP..];
                    // SAFETY: the tail is a chunk; what of its scales is not there meets zeros.
                    unsafe {
                        let scales = scales.as_ptr();
                        sums[i] = x.chunk::<S, C, GROUP>(sums[i], tail.as_ptr(), scales, whole);
                    }
                }
            }
        }
        for i in 0..N {
            self.0.out[first - start + i * distance] = S::sum(sums[i]) * C::UNIT;
        }
    }
}

/// What is added to codes, in units of the scales.
#[inline(always)]
fn offset<S: Simd, C: Codes>() -> f32 {
    let wide = if C::WIDE { S::WIDE_OFFSET } else { 0 };
    C::OFFSET / C::UNIT + f32::from(wide)
}

impl Vector<'_> {
    /// Adds one chunk of a row.
    ///
    /// # Safety
    /// `codes` is valid for a chunk, `scales` for its groups.
    #[inline(always)]
    unsafe fn chunk<S: Simd, C: Codes, const GROUP: usize>(
        &self,
        sums: S::Floats,
        codes: *const u8,
        scales: *const f32,
        chunk: usize,
    ) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.codes.as_ptr().cast::<u8>().add(chunk * CHUNK);
            let x = [S::load_bytes(x), S::load_bytes(x.add(32))];
            let weights = C::chunk::<S>(codes);
            if C::SPLIT {
                let products = S::dot(S::dot(S::zero_sums(), weights[0], x[0]), weights[1], x[1]);
                let products = S::to_floats(S::finish(products));
                let scale = match GROUP {
                    16 => S::pairs(scales),
                    32 => S::halves(*scales, *scales.add(1)),
                    _ => S::splat(*scales),
                };
                let x_scale = S::load(self.scales.as_ptr().add(8 * chunk));
                return S::fma(products, S::mul(scale, x_scale), sums);
            }
            let mut sums = sums;
            for i in 0..2 {
                let products = if C::WIDE {
                    S::dot_wide(S::zero_integers(), weights[i], x[i])
                } else {
                    S::finish(S::dot(S::zero_sums(), weights[i], x[i]))
                };
                let scale = if GROUP == 32 { *scales.add(i) } else { *scales };
                let scale = S::splat(scale * *self.scales.as_ptr().add(2 * chunk + i));
                sums = S::fma(S::to_floats(products), scale, sums);
            }
            sums
        }
    }
}
