//! Rows of packed weights times a few vectors of int8 activations: a decode step, bound by memory.

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::Activations;
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Wide};
use super::floats::is_split;
use super::matrix::{Format, Matrix};
use super::scratch::Scratch;
use super::simd::{self, Kernel, Simd, load_some};

/// Rows of a part whose scales are made floats at once: they stay in the nearest cache.
const ROWS: usize = 16;

/// Rows of activations whose sums are kept at once.
const TOKENS: usize = 4;

/// Rows of activations as the rows of a matrix of one format meet them.
#[derive(Debug)]
pub(super) struct Vectors<'a> {
    count: usize,
    stride: usize,
    groups: usize,
    /// `[count, stride]`
    codes: &'a [i8],
    /// `[count]` times what the lanes of the products need: `[chunks][8]` for split codes,
    /// `[chunks][2]` for others.
    scales: Vec<f32>,
    /// Over the format's groups, `[count, groups]`.
    sums: Vec<f32>,
}

impl<'a> Vectors<'a> {
    /// All rows of `x`, which are in the order of the format.
    pub(super) fn new(x: &'a Activations, format: Format) -> Self {
        let mut scales = x.scales.clone();
        if is_split(format) {
            scales.clear();
            for scale in &x.scales {
                scales.extend([*scale; 4]);
            }
        }
        Self {
            count: x.codes.len() / x.stride,
            stride: x.stride,
            groups: x.columns / format.group(),
            codes: &x.codes,
            scales,
            sums: x.group_sums(format.group()),
        }
    }
}

/// `out[token][i] = W[rows.start + i] · x[token]` for packed integer formats. What a token gives does
/// not depend on the others.
pub(super) fn multiply(matrix: &Matrix, rows: Range<usize>, x: &Vectors<'_>, out: &mut [f32]) {
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
    x: &'a Vectors<'a>,
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
        // More tokens need more registers, and less of the memory.
        if self.0.x.count == 1 {
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
        for row in (0..part).step_by(ROWS) {
            self.block::<S, N>(start + row, part, ROWS.min(part - row));
        }
        for row in (start + N * part..end).step_by(ROWS) {
            self.block::<S, 1>(row, 0, ROWS.min(end - row));
        }
    }

    /// `count` rows from `first` on of each of `N` parts, so far apart. Their scales and biases, which
    /// lie row after row, are made floats at once.
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, first: usize, distance: usize, count: usize) {
        let matrix = self.0.matrix;
        let groups = matrix.columns() / GROUP;
        // Vectors reach past the last.
        let part = count * groups + 8;
        let mut numbers = Scratch::new(2 * N * part);
        let (scales, biases) = numbers.split_at_mut(N * part);
        for i in 0..N {
            let rows = first + i * distance..first + i * distance + count;
            let scales = &mut scales[i * part..][..part];
            let biases = &mut biases[i * part..][..part];
            matrix.read_scales::<S>(rows.clone(), scales);
            matrix.read_biases::<S>(rows, scales, offset::<S, C>(), biases);
        }
        for row in 0..count {
            let mut rows = [Row::NONE; N];
            for (i, to) in rows.iter_mut().enumerate() {
                let at = i * part + row * groups;
                *to = Row {
                    codes: matrix.row_codes(first + row + i * distance),
                    scales: &scales[at..],
                    biases: &biases[at..][..groups],
                };
                // The next block's.
                matrix.prefetch_numbers::<S>(first + row + ROWS + i * distance);
            }
            let mut token = 0;
            while token < self.0.x.count {
                let at = first + row - self.0.rows.start;
                if token + TOKENS <= self.0.x.count {
                    let sums = self.0.x.rows::<S, C, GROUP, N, TOKENS>(token, &rows);
                    self.store(token, at, distance, &sums);
                    token += TOKENS;
                } else {
                    let sums = self.0.x.rows::<S, C, GROUP, N, 1>(token, &rows);
                    self.store(token, at, distance, &sums);
                    token += 1;
                }
            }
        }
    }

    /// Stores the products of `T` tokens with `N` rows, so far apart.
    #[inline(always)]
    fn store<const N: usize, const T: usize>(
        &mut self,
        token: usize,
        at: usize,
        distance: usize,
        sums: &[[f32; T]; N],
    ) {
        let width = self.0.rows.len();
        for (i, sums) in sums.iter().enumerate() {
            for (t, sum) in sums.iter().enumerate() {
                self.0.out[(token + t) * width + at + i * distance] = *sum;
            }
        }
    }
}

/// One row of weights.
#[derive(Clone, Copy)]
struct Row<'a> {
    codes: &'a [u8],
    /// One a group, and more.
    scales: &'a [f32],
    /// One a group.
    biases: &'a [f32],
}

impl Row<'_> {
    const NONE: Self = Row {
        codes: &[],
        scales: &[],
        biases: &[],
    };
}

/// What is added to codes, in units of the scales.
#[inline(always)]
fn offset<S: Simd, C: Codes>() -> f32 {
    let wide = if C::WIDE { S::WIDE_OFFSET } else { 0 };
    C::OFFSET / C::UNIT + f32::from(wide)
}

impl Vectors<'_> {
    /// The products of `T` tokens with `N` rows.
    #[inline(always)]
    fn rows<S: Simd, C: Codes, const GROUP: usize, const N: usize, const T: usize>(
        &self,
        token: usize,
        rows: &[Row<'_>; N],
    ) -> [[f32; T]; N] {
        let mut sums = [[S::splat(0.0); T]; N];
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (t, sums) in sums.iter_mut().enumerate() {
                let totals = &self.sums[(token + t) * self.groups..][..self.groups];
                for group in (0..row.biases.len()).step_by(8) {
                    let count = row.biases.len() - group;
                    // SAFETY: there are as many sums as biases.
                    unsafe {
                        let bias = load_some::<S>(row.biases.as_ptr().add(group), count);
                        let total = load_some::<S>(totals[group..].as_ptr(), count);
                        *sums = S::fma(bias, total, *sums);
                    }
                }
            }
        }
        let codes = rows[0].codes.len();
        // Chunks that lie whole in a row.
        let whole = codes / C::BYTES;
        for chunk in 0..whole {
            for (sums, row) in sums.iter_mut().zip(rows) {
                // SAFETY: the chunk lies in the row, and there are scales for all groups and more.
                unsafe {
                    let from = row.codes.as_ptr().add(chunk * C::BYTES);
                    // Once for each cache line.
                    if S::AHEAD > 0 && chunk * C::BYTES % 64 < C::BYTES {
                        S::prefetch_far(from.wrapping_add(S::AHEAD));
                    }
                    let scales = row.scales.as_ptr().add(chunk * CHUNK / GROUP);
                    self.chunk::<S, C, GROUP, T>(sums, [token, chunk], from, scales);
                }
            }
        }
        if whole * C::BYTES < codes {
            for (sums, row) in sums.iter_mut().zip(rows) {
                let mut tail = [0; CHUNK];
                let rest = &row.codes[whole * C::BYTES..];
                tail[..rest.len()].copy_from_slice(rest);
                // SAFETY: the tail is a chunk; what of its scales is not there meets zeros.
                unsafe {
                    let scales = row.scales.as_ptr().add(whole * CHUNK / GROUP);
                    self.chunk::<S, C, GROUP, T>(sums, [token, whole], tail.as_ptr(), scales);
                }
            }
        }
        let mut out = [[0.0; T]; N];
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sums) in out.iter_mut().zip(sums) {
                *out = S::sum(sums) * C::UNIT;
            }
        }
        out
    }

    /// Adds one chunk of a row for `T` tokens from the given one on.
    ///
    /// # Safety
    /// `codes` is valid for a chunk, `scales` for its groups.
    #[inline(always)]
    unsafe fn chunk<S: Simd, C: Codes, const GROUP: usize, const T: usize>(
        &self,
        sums: &mut [S::Floats; T],
        [token, chunk]: [usize; 2],
        codes: *const u8,
        scales: *const f32,
    ) {
        // SAFETY: the caller's promise; there are `T` tokens.
        unsafe {
            let weights = C::chunk::<S>(codes);
            let x = self.codes.as_ptr().cast::<u8>();
            let x = x.add(token * self.stride + chunk * CHUNK);
            if C::SPLIT {
                let scale = match GROUP {
                    16 => S::pairs(scales),
                    32 => S::halves(*scales, *scales.add(1)),
                    _ => S::splat(*scales),
                };
                let x_scales = self.scales.as_ptr();
                let x_scales = x_scales.add(token * self.stride / CHUNK * 8 + 8 * chunk);
                for (t, sums) in sums.iter_mut().enumerate() {
                    let x = x.add(t * self.stride);
                    let x = [S::load_bytes(x), S::load_bytes(x.add(32))];
                    let products = S::dot(S::zero_sums(), weights[0], x[0]);
                    let products = S::to_floats(S::finish(S::dot(products, weights[1], x[1])));
                    let x_scale = S::load(x_scales.add(t * self.stride / CHUNK * 8));
                    *sums = S::fma(products, S::mul(scale, x_scale), *sums);
                }
                return;
            }
            let x_scales = self.scales.as_ptr();
            let x_scales = x_scales.add(token * self.stride / CHUNK * 2 + 2 * chunk);
            for (t, sums) in sums.iter_mut().enumerate() {
                let x = x.add(t * self.stride);
                let x = [S::load_bytes(x), S::load_bytes(x.add(32))];
                let x_scales = x_scales.add(t * self.stride / CHUNK * 2);
                for i in 0..2 {
                    let products = if C::WIDE {
                        S::dot_wide(S::zero_integers(), weights[i], x[i])
                    } else {
                        S::finish(S::dot(S::zero_sums(), weights[i], x[i]))
                    };
                    let scale = if GROUP == 32 { *scales.add(i) } else { *scales };
                    let scale = S::splat(scale * *x_scales.add(i));
                    *sums = S::fma(S::to_floats(products), scale, *sums);
                }
            }
        }
    }
}
