//! Weights of any format times float32 activations: dense weights, and exact products of packed ones.

use std::cell::RefCell;
use std::ops::Range;

use super::activations::gathered;
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Octets};
use super::lines::Lines;
use super::matrix::{Format, Matrix};
use super::panel::PANEL;
use super::pool::{self, Pool};
use super::simd::{self, Kernel, Simd, sum_of_products};

/// Tokens up to which rows are unpacked one by one, and not made a panel of.
pub(super) const FEW: usize = 8;

/// Tokens that share the loads of a panel.
const TOKENS: usize = 6;

/// Float32 activations in the order of the codes, padded with zeros to whole chunks.
#[derive(Debug)]
pub(super) struct Floats {
    /// `[rows, stride]`
    x: Lines<f32>,
    stride: usize,
}

impl Floats {
    /// Lays out `x` `[rows, columns]`; `split` says whether a chunk is its even columns and then the
    /// odd ones.
    pub(super) fn new(pool: &Pool, x: &[f32], columns: usize, split: bool) -> Self {
        let stride = columns.next_multiple_of(CHUNK);
        let mut laid = Lines::zeros(x.len() / columns * stride);
        let rows = laid.chunks_exact_mut(stride).zip(x.chunks_exact(columns));
        pool::run_each(pool, rows.collect(), |(laid, x): (&mut [f32], &[f32])| {
            if !split {
                return laid[..columns].copy_from_slice(x);
            }
            for (laid, x) in laid.chunks_exact_mut(CHUNK).zip(x.chunks(CHUNK)) {
                let (even, odd) = laid.split_at_mut(CHUNK / 2);
                for (at, pair) in x.chunks_exact(2).enumerate() {
                    (even[at], odd[at]) = (pair[0], pair[1]);
                }
            }
        });
        Self { x: laid, stride }
    }

    /// Some of the rows, in the order given.
    pub(super) fn gather(&self, rows: &[usize]) -> Self {
        Self {
            x: gathered(&self.x, self.stride, rows),
            stride: self.stride,
        }
    }
}

/// Whether a format's codes come as even and odd columns.
pub(super) fn is_split(format: Format) -> bool {
    match format {
        Format::Affine { bits, .. } => bits == 4,
        Format::Mxfp4 | Format::Nvfp4 => true,
        Format::Mxfp8 | Format::Dense(_) => false,
    }
}

/// `out[token][i] = W[rows.start + i] · x[token]`.
pub(super) fn multiply_rows(
    matrix: &Matrix,
    rows: Range<usize>,
    x: &Floats,
    out: &mut [&mut [f32]],
) {
    with_scratch(|scratch| {
        simd::run(Rows {
            matrix,
            wanted: rows,
            x,
            scratch,
            out,
        });
    });
}

/// `out[token][i] = W[first + i] · x[token]` for up to 16 rows; rows past the end repeat the last.
pub(super) fn multiply_panel(matrix: &Matrix, first: usize, x: &Floats, out: &mut [[f32; PANEL]]) {
    with_scratch(|scratch| {
        simd::run(Product {
            matrix,
            first,
            x,
            scratch,
            out,
        });
    });
}

/// Buffers of a thread, which keep their largest size.
#[derive(Default)]
struct Scratch {
    scales: Lines<f32>,
    biases: Lines<f32>,
    rows: Lines<f32>,
    panel: Lines<f32>,
}

fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    SCRATCH.with_borrow_mut(work)
}

/// The weights of a row in the order of its codes, padded with zeros to whole chunks.
pub(super) fn unpack_row(matrix: &Matrix, row: usize, out: &mut [f32]) {
    with_scratch(|scratch| {
        simd::run(Unpack {
            matrix,
            row,
            scratch,
            out,
        });
    });
}

struct Unpack<'a> {
    matrix: &'a Matrix,
    row: usize,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Scratch { scales, biases, .. } = self.scratch;
        unpack::<S>(self.matrix, self.row, scales, biases, self.out);
    }
}

struct Rows<'a, 'b> {
    matrix: &'a Matrix,
    wanted: Range<usize>,
    x: &'a Floats,
    scratch: &'a mut Scratch,
    out: &'a mut [&'b mut [f32]],
}

impl Kernel for Rows<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let stride = self.x.stride;
        for (at, row) in self.wanted.enumerate() {
            let scratch = &mut *self.scratch;
            scratch.rows.grow(stride);
            unpack::<S>(
                self.matrix,
                row,
                &mut scratch.scales,
                &mut scratch.biases,
                &mut scratch.rows,
            );
            for (x, out) in self.x.x.chunks_exact(stride).zip(self.out.iter_mut()) {
                // SAFETY: both have `stride` floats.
                out[at] =
                    unsafe { sum_of_products::<S>(scratch.rows.as_ptr(), x.as_ptr(), stride) };
            }
        }
    }
}

struct Product<'a> {
    matrix: &'a Matrix,
    first: usize,
    x: &'a Floats,
    scratch: &'a mut Scratch,
    out: &'a mut [[f32; PANEL]],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let stride = self.x.stride;
        let scratch = self.scratch;
        scratch.rows.grow(PANEL * stride);
        scratch.panel.grow(PANEL * stride);
        for lane in 0..PANEL {
            let row = (self.first + lane).min(self.matrix.rows() - 1);
            let out = &mut scratch.rows[lane * stride..];
            unpack::<S>(
                self.matrix,
                row,
                &mut scratch.scales,
                &mut scratch.biases,
                out,
            );
        }
        // SAFETY: both hold 16 rows of `stride`, a multiple of 8.
        unsafe { transpose::<S>(&scratch.rows, stride, &mut scratch.panel) };
        let mut at = 0;
        while at < self.out.len() {
            let x = &self.x.x[at * stride..];
            let out = &mut self.out[at..];
            // SAFETY: there are as many tokens as `out` has rows, and the panel is made.
            unsafe {
                match out.len() {
                    1 => tile::<S, 1>(&scratch.panel, x, stride, out),
                    2 => tile::<S, 2>(&scratch.panel, x, stride, out),
                    3 => tile::<S, 3>(&scratch.panel, x, stride, out),
                    4 | 5 => tile::<S, 4>(&scratch.panel, x, stride, out),
                    _ => tile::<S, TOKENS>(&scratch.panel, x, stride, out),
                }
            }
            at += match out.len() {
                5 => 4,
                left => left.min(TOKENS),
            };
        }
    }
}

/// The products of `N` tokens with a panel `[stride][16]`.
///
/// # Safety
/// `x` holds `N` rows of `stride` floats, `panel` 16 times `stride`.
#[inline(always)]
unsafe fn tile<S: Simd, const N: usize>(
    panel: &[f32],
    x: &[f32],
    stride: usize,
    out: &mut [[f32; PANEL]],
) {
    let mut sums = [[S::splat(0.0); 2]; N];
    // SAFETY: the caller's promise.
    unsafe {
        for column in 0..stride {
            let weights = panel.as_ptr().add(column * PANEL);
            let weights = [S::load(weights), S::load(weights.add(8))];
            for token in 0..N {
                let x = S::splat(*x.as_ptr().add(token * stride + column));
                sums[token][0] = S::fma(weights[0], x, sums[token][0]);
                sums[token][1] = S::fma(weights[1], x, sums[token][1]);
            }
        }
        for token in 0..N {
            S::store(out[token].as_mut_ptr(), sums[token][0]);
            S::store(out[token].as_mut_ptr().add(8), sums[token][1]);
        }
    }
}

/// `[16][stride]` to `[stride][16]`.
///
/// # Safety
/// Both hold 16 times `stride` floats, and 8 divides `stride`.
#[inline(always)]
unsafe fn transpose<S: Simd>(from: &[f32], stride: usize, to: &mut [f32]) {
    for vector in 0..2 {
        for column in (0..stride).step_by(8) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.as_ptr().add(8 * vector * stride + column).cast::<u8>();
                let mut rows = [S::load_bytes(from); 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = S::load_bytes(from.add(4 * i * stride));
                }
                let to = to
                    .as_mut_ptr()
                    .add(column * PANEL + 8 * vector)
                    .cast::<u8>();
                for (i, column) in S::transpose(rows).into_iter().enumerate() {
                    S::store_bytes(to.add(4 * i * PANEL), column);
                }
            }
        }
    }
}

/// The weights of a row in the order of its codes, padded with zeros to whole chunks of `out`.
#[inline(always)]
fn unpack<S: Simd>(
    matrix: &Matrix,
    row: usize,
    scales: &mut Lines<f32>,
    biases: &mut Lines<f32>,
    out: &mut [f32],
) {
    let (columns, format) = (matrix.columns(), matrix.format());
    let codes = matrix.row_codes(row);
    let padded = columns.next_multiple_of(CHUNK);
    out[columns..padded].fill(0.0);
    if let Format::Dense(number) = format {
        return number.read::<S>(codes, &mut out[..columns]);
    }
    let groups = columns / format.group();
    scales.grow(groups + CHUNK / 16);
    biases.grow(groups + CHUNK / 16);
    // The padding begins where a group does, so that it comes out as zeros.
    scales[groups..].fill(0.0);
    biases[groups..].fill(0.0);
    matrix.read_scales::<S>(row..row + 1, scales);
    if format == Format::Mxfp8 {
        for (group, scale) in scales[..groups].iter().enumerate() {
            for eight in (32 * group..32 * (group + 1)).step_by(8) {
                // SAFETY: the group has 32 codes and places.
                unsafe {
                    let weights = S::load_e4m3(codes.as_ptr().add(eight));
                    S::store(
                        out.as_mut_ptr().add(eight),
                        S::mul(weights, S::splat(*scale)),
                    );
                }
            }
        }
        return;
    }
    let offset = match format {
        Format::Mxfp4 | Format::Nvfp4 => Floats4::OFFSET / Floats4::UNIT,
        _ => 0.0,
    };
    matrix.read_biases::<S>(row..row + 1, scales, offset, biases);
    let out = &mut out[..padded];
    match format {
        Format::Affine { bits: 2, group, .. } => {
            affine::<S, Bits<2>>(codes, group, scales, biases, out);
        }
        Format::Affine { bits: 3, group, .. } => {
            affine::<S, Bits<3>>(codes, group, scales, biases, out);
        }
        Format::Affine { bits: 5, group, .. } => {
            affine::<S, Bits<5>>(codes, group, scales, biases, out);
        }
        Format::Affine { bits: 6, group, .. } => {
            affine::<S, Bits<6>>(codes, group, scales, biases, out);
        }
        Format::Affine { bits: 8, group, .. } => {
            affine::<S, Octets>(codes, group, scales, biases, out);
        }
        Format::Mxfp4 | Format::Nvfp4 => {
            affine::<S, Floats4>(codes, format.group(), scales, biases, out);
        }
        _ => affine::<S, Nibbles>(codes, format.group(), scales, biases, out),
    }
}

/// `(code · scale + bias) · UNIT` for every code of a row.
#[inline(always)]
fn affine<S: Simd, C: Codes>(
    codes: &[u8],
    group: usize,
    scales: &[f32],
    biases: &[f32],
    out: &mut [f32],
) {
    let mut bytes = [0; CHUNK];
    for (chunk, (codes, out)) in codes
        .chunks(C::BYTES)
        .zip(out.chunks_exact_mut(CHUNK))
        .enumerate()
    {
        let mut tail = [0; CHUNK];
        let codes = if codes.len() == C::BYTES {
            codes.as_ptr()
        } else {
            tail[..codes.len()].copy_from_slice(codes);
            tail.as_ptr()
        };
        // SAFETY: a chunk of codes, 64 bytes, 64 floats.
        unsafe {
            let [first, last] = C::chunk::<S>(codes);
            S::store_bytes(bytes.as_mut_ptr(), first);
            S::store_bytes(bytes.as_mut_ptr().add(32), last);
            for eight in 0..CHUNK / 8 {
                let column = if C::SPLIT { eight % 4 * 16 } else { eight * 8 };
                let number = (chunk * CHUNK + column) / group;
                let scale = S::splat(scales[number] * C::UNIT);
                let bias = S::splat(biases[number] * C::UNIT);
                let codes = S::load_codes(bytes.as_ptr().add(8 * eight));
                S::store(out.as_mut_ptr().add(8 * eight), S::fma(codes, scale, bias));
            }
        }
    }
}
