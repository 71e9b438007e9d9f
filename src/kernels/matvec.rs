//! Rows of packed weights times one vector of int8 activations: a decode step, bound by memory.

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::Activations;
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Wide};
use super::floats::is_split;
use super::matrix::{Format, Matrix};
use super::scratch::Scratch;
use super::simd::{self, Kernel, Simd};

/// How far ahead in memory weights are asked for, in bytes.
const AHEAD: usize = 2048;

/// Rows that are read side by side.
const ROWS: usize = 4;

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
    fn run<S: Simd>(self) {
        let Arguments {
            matrix,
            rows,
            x,
            out,
        } = self.0;
        let groups = matrix.columns() / GROUP;
        // Vectors may reach past the last number.
        let numbers = rows.len() * groups + 8;
        let mut scratch = Scratch::new(2 * numbers);
        let (scales, biases) = scratch.split_at_mut(numbers);
        let biases = &mut biases[..numbers];
        let offset = C::OFFSET / C::UNIT
            + if C::WIDE {
                f32::from(S::WIDE_OFFSET)
            } else {
                0.0
            };
        matrix.read_scales::<S>(rows.clone(), scales);
        matrix.read_biases::<S>(rows.clone(), scales, offset, biases);
        // What is left in the scratch may be no number, which times 0 is none either.
        scales[numbers - 8..].fill(0.0);
        biases[numbers - 8..].fill(0.0);
        // Four rows at a time, each from its own quarter: the memory brings four distant streams
        // faster than one.
        let quarter = rows.len() / ROWS;
        for at in 0..quarter {
            let mut places = [Row::default(); ROWS];
            for (i, place) in places.iter_mut().enumerate() {
                let row = i * quarter + at;
                *place = Row {
                    codes: matrix.row_codes(rows.start + row),
                    numbers: row * groups,
                };
            }
            // SAFETY: each row has its codes, and its numbers are followed by eight floats.
            let sums = S::sum4(unsafe { x.rows::<S, C, GROUP, ROWS>(places, scales, biases) });
            for (i, sum) in sums.into_iter().enumerate() {
                out[i * quarter + at] = sum * C::UNIT;
            }
        }
        for row in quarter * ROWS..rows.len() {
            let place = Row {
                codes: matrix.row_codes(rows.start + row),
                numbers: row * groups,
            };
            // SAFETY: as above.
            let [sums] = unsafe { x.rows::<S, C, GROUP, 1>([place], scales, biases) };
            out[row] = S::sum(sums) * C::UNIT;
        }
    }
}

/// Where a row's codes are, and its scales and biases among those of all rows.
#[derive(Clone, Copy, Default)]
struct Row<'a> {
    codes: &'a [u8],
    numbers: usize,
}

impl Vector<'_> {
    /// For each of some rows a vector whose lanes add up to its product.
    ///
    /// # Safety
    /// Each row has the codes of `matrix.columns()`; scales and biases hold the rows' groups and
    /// eight more.
    #[inline(always)]
    unsafe fn rows<S: Simd, C: Codes, const GROUP: usize, const N: usize>(
        &self,
        rows: [Row<'_>; N],
        scales: &[f32],
        biases: &[f32],
    ) -> [S::Floats; N] {
        let mut sums = [S::splat(0.0); N];
        // Chunks that lie whole in a row.
        let whole = rows[0].codes.len() / C::BYTES;
        // SAFETY: the caller's promise; activations and their scales are there for each chunk.
        unsafe {
            for at in (0..self.sums.len()).step_by(8) {
                let total = S::load(self.sums.as_ptr().add(at));
                for i in 0..N {
                    let bias = S::load(biases.as_ptr().add(rows[i].numbers + at));
                    sums[i] = S::fma(bias, total, sums[i]);
                }
            }
            for chunk in 0..whole {
                for i in 0..N {
                    let from = rows[i].codes.as_ptr().add(chunk * C::BYTES);
                    for line in 0..C::BYTES.div_ceil(64) {
                        S::prefetch(from.wrapping_add(AHEAD + 64 * line));
                    }
                    let scales = scales.as_ptr().add(rows[i].numbers);
                    sums[i] = self.chunk::<S, C, GROUP>(sums[i], from, scales, chunk);
                }
            }
            if whole * CHUNK < self.codes.len() {
                for i in 0..N {
                    let mut tail = [0; CHUNK];
                    let rest = &rows[i].codes[whole * C::BYTES..];
                    tail[..rest.len()].copy_from_slice(rest);
                    let scales = scales.as_ptr().add(rows[i].numbers);
                    sums[i] = self.chunk::<S, C, GROUP>(sums[i], tail.as_ptr(), scales, whole);
                }
            }
        }
        sums
    }

    /// Adds one chunk of a row.
    ///
    /// # Safety
    /// `codes` is valid for a chunk, `scales` for the row's groups and eight more.
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
            let scales = scales.add(chunk * CHUNK / GROUP);
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
