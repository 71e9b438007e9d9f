//! Packed weights times many rows of int8 activations: a prompt, or sequences that decode together.
//!
//! Sixteen rows of weights become a panel, in which the codes of one step (four columns) of eight
//! rows lie side by side. Each step multiplies them with four activations of one token, given to all
//! lanes.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::activations::{Activations, BLOCK, Scale};
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Wide};
use super::matrix::{Format, Matrix};
use super::matvec::unreachable_format;
use super::simd::{self, Kernel, Lanes, Simd};

/// Rows of a panel.
pub(super) const PANEL: usize = 16;

/// Vectors of eight rows in a panel.
const VECTORS: usize = PANEL / 8;

/// Steps of four columns in a block of 32.
const STEPS: usize = BLOCK / 4;

/// `out[token][i] = W[first + i] · x[token]` for up to 16 rows and all tokens of the activations,
/// which are in the order of the format; `sums` are their sums over the format's groups. Rows past
/// the matrix's end repeat its last.
pub(super) fn multiply(
    matrix: &Matrix,
    first: usize,
    x: &Activations,
    sums: &[f32],
    out: &mut [[f32; PANEL]],
) {
    let arguments = Arguments {
        matrix,
        first,
        x,
        sums,
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

struct Arguments<'a> {
    matrix: &'a Matrix,
    first: usize,
    x: &'a Activations,
    sums: &'a [f32],
    out: &'a mut [[f32; PANEL]],
}

impl Arguments<'_> {
    fn start<C: Codes>(self) {
        with_panel(|panel| match self.matrix.format().group() {
            16 => simd::run(Product::<C, 16>(self, panel, PhantomData)),
            32 => simd::run(Product::<C, 32>(self, panel, PhantomData)),
            64 => simd::run(Product::<C, 64>(self, panel, PhantomData)),
            _ => simd::run(Product::<C, 128>(self, panel, PhantomData)),
        });
    }
}

struct Product<'a, C, const GROUP: usize>(Arguments<'a>, &'a mut Panel, PhantomData<C>);

impl<C: Codes, const GROUP: usize> Kernel for Product<'_, C, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Arguments {
            matrix,
            first,
            x,
            sums,
            out,
        } = self.0;
        let panel = self.1;
        panel.fill::<S, C, GROUP>(matrix, first);
        let groups = panel.groups;
        let mut at = 0;
        while at < out.len() {
            let tokens = Tokens {
                codes: &x.codes[at * x.stride..],
                scales: &x.scales[at * x.stride / BLOCK..],
                units: &x.units[at..],
                sums: &sums[at * groups..],
                stride: x.stride,
            };
            let out = &mut out[at..];
            at += if S::Widest::LANES == PANEL {
                panel.multiply_some::<S::Widest, C, GROUP, 1>(&tokens, out)
            } else {
                panel.multiply_some::<S::Widest, C, GROUP, VECTORS>(&tokens, out)
            };
        }
    }
}

/// Activations from one token on.
struct Tokens<'a> {
    codes: &'a [i8],
    scales: &'a [Scale],
    units: &'a [f32],
    sums: &'a [f32],
    stride: usize,
}

/// Sixteen rows, made ready. Buffers keep their largest size.
#[derive(Default)]
struct Panel {
    /// `[chunks][blocks of a chunk][steps][vectors][32]`
    codes: Vec<u8>,
    /// `[groups][16]`, times the format's unit.
    scales: Vec<f32>,
    /// `[groups][16]`
    biases: Vec<f32>,
    /// `[16][groups]`
    row_scales: Vec<f32>,
    /// `[16][groups]`
    row_biases: Vec<f32>,
    chunks: usize,
    groups: usize,
}

/// Panels are made over and over: each thread keeps one.
fn with_panel<R>(work: impl FnOnce(&mut Panel) -> R) -> R {
    thread_local!(static PANEL: RefCell<Panel> = RefCell::default());
    PANEL.with_borrow_mut(work)
}

/// Makes a buffer at least so long.
fn grow<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}

impl Panel {
    /// Takes the 16 rows from `first` on.
    #[inline(always)]
    fn fill<S: Simd, C: Codes, const GROUP: usize>(&mut self, matrix: &Matrix, first: usize) {
        let columns = matrix.columns();
        let (whole, chunks) = (columns / CHUNK, columns.div_ceil(CHUNK));
        let groups = columns / GROUP;
        (self.chunks, self.groups) = (chunks, groups);
        // Vectors reach past the last group, and past the last of all.
        let padded = groups.next_multiple_of(8);
        grow(&mut self.codes, chunks * CHUNK * PANEL);
        grow(&mut self.scales, padded * PANEL);
        grow(&mut self.biases, padded * PANEL);
        grow(&mut self.row_scales, (groups * PANEL).max(padded) + 8);
        grow(&mut self.row_biases, (groups * PANEL).max(padded) + 8);
        let row = |lane: usize| (first + lane).min(matrix.rows() - 1);
        let rows = first..(first + PANEL).min(matrix.rows());
        let offset = C::OFFSET
            + if C::WIDE {
                f32::from(S::WIDE_OFFSET)
            } else {
                0.0
            };
        matrix.read_scales::<S>(rows.clone(), &mut self.row_scales);
        matrix.read_biases::<S>(rows, &self.row_scales, offset, &mut self.row_biases);
        // SAFETY: both have 16 rows of `groups` numbers and eight more.
        unsafe {
            transpose::<S>(&self.row_scales, groups, C::UNIT, &mut self.scales);
            transpose::<S>(&self.row_biases, groups, 1.0, &mut self.biases);
        }
        let panel = self;
        for vector in 0..VECTORS {
            let mut rows = [matrix.row_codes(0); 8];
            for (i, codes) in rows.iter_mut().enumerate() {
                *codes = matrix.row_codes(row(8 * vector + i));
            }
            for chunk in 0..chunks {
                let mut tails = [[0; CHUNK]; 8];
                let mut codes = [std::ptr::null(); 8];
                for i in 0..8 {
                    let rest = &rows[i][chunk * C::BYTES..];
                    codes[i] = rest.as_ptr();
                    if chunk == whole {
                        tails[i][..rest.len()].copy_from_slice(rest);
                        codes[i] = tails[i].as_ptr();
                    }
                }
                // The next eight rows follow these in memory; by rows, the processor does not see it.
                let ahead = codes[0].wrapping_add(8 * matrix.row_bytes() + 7 * chunk * C::BYTES);
                for line in 0..C::BYTES / 8 {
                    S::prefetch(ahead.wrapping_add(64 * line));
                }
                // SAFETY: the codes are valid for a chunk, the panel for its 16 steps.
                unsafe {
                    let [mut first, mut last] = [[S::load_bytes(tails[0].as_ptr()); 8]; 2];
                    for i in 0..8 {
                        [first[i], last[i]] = C::chunk::<S>(codes[i]);
                    }
                    let parts = [S::transpose(first), S::transpose(last)];
                    for part in 0..2 {
                        for word in 0..8 {
                            let step = chunk * 2 * STEPS + place::<C>(part, word);
                            let to = panel.codes.as_mut_ptr().add((step * VECTORS + vector) * 32);
                            S::store_bytes(to, parts[part][word]);
                        }
                    }
                }
            }
        }
    }

    /// Multiplies the first tokens in `V` vectors of all rows; says how many.
    #[inline(always)]
    fn multiply_some<L: Lanes, C: Codes, const GROUP: usize, const V: usize>(
        &self,
        x: &Tokens<'_>,
        out: &mut [[f32; PANEL]],
    ) -> usize {
        match out.len() {
            // As many sums as registers hold.
            8.. if V == 1 => self.multiply::<L, C, GROUP, 8, V>(x, out),
            4.. => self.multiply::<L, C, GROUP, 4, V>(x, out),
            2.. => self.multiply::<L, C, GROUP, 2, V>(x, out),
            _ => self.multiply::<L, C, GROUP, 1, V>(x, out),
        }
    }

    #[inline(always)]
    fn multiply<L: Lanes, C: Codes, const GROUP: usize, const N: usize, const V: usize>(
        &self,
        x: &Tokens<'_>,
        out: &mut [[f32; PANEL]],
    ) -> usize {
        let mut sums = [[L::splat(0.0); V]; N];
        // SAFETY: there are `N` tokens of `chunks` chunks and `groups` groups.
        unsafe {
            for group in 0..self.groups {
                let biases = self.biases.as_ptr().add(group * PANEL);
                let biases = lanes::<L, V>(biases);
                for (token, sums) in sums.iter_mut().enumerate() {
                    let total = L::splat(*x.sums.get_unchecked(token * self.groups + group));
                    for v in 0..V {
                        sums[v] = L::fma(biases[v], total, sums[v]);
                    }
                }
            }
            for chunk in 0..self.chunks {
                for block in 0..2 {
                    self.block::<L, C, GROUP, N, V>(x, chunk, block, &mut sums);
                }
            }
            for (token, sums) in sums.into_iter().enumerate() {
                let unit = L::splat(*x.units.get_unchecked(token));
                let out = out.get_unchecked_mut(token).as_mut_ptr();
                for (v, sums) in sums.into_iter().enumerate() {
                    L::store(out.add(v * L::LANES), L::mul(sums, unit));
                }
            }
        }
        N
    }

    /// Adds 32 columns.
    #[inline(always)]
    unsafe fn block<L: Lanes, C: Codes, const GROUP: usize, const N: usize, const V: usize>(
        &self,
        x: &Tokens<'_>,
        chunk: usize,
        block: usize,
        sums: &mut [[L::Floats; V]; N],
    ) {
        let blocks = x.stride / BLOCK;
        // Steps that the running sums hold, and those that share a scale.
        let held = const {
            if C::WIDE {
                STEPS
            } else {
                largest_power(L::SUMS_LIMIT / (254 * C::LARGEST))
            }
        };
        let scaled = if GROUP == 16 { STEPS / 2 } else { STEPS };
        // SAFETY: the caller's promise.
        unsafe {
            let codes = self
                .codes
                .as_ptr()
                .add((2 * chunk + block) * STEPS * PANEL * 4);
            let x_codes = x.codes.as_ptr().add(chunk * CHUNK);
            let x_scales = x.scales.as_ptr().add(2 * chunk + block);
            for part in 0..STEPS / scaled {
                let number = (chunk * CHUNK + block * BLOCK + part * BLOCK / 2) / GROUP;
                let scales = self.scales.as_ptr().add(number * PANEL);
                let mut step = part * scaled;
                let last = step + scaled;
                if C::WIDE {
                    let mut totals = [[L::zero_integers(); V]; N];
                    while step < last {
                        let at = column::<C>(block, step);
                        let w = words::<L, V>(codes.add(step * PANEL * 4));
                        for (token, totals) in totals.iter_mut().enumerate() {
                            let x = L::splat_word(x_codes.add(token * x.stride + at));
                            for v in 0..V {
                                totals[v] = L::dot_wide(totals[v], w[v], x);
                            }
                        }
                        step += 1;
                    }
                    let scales = lanes::<L, V>(scales);
                    for token in 0..N {
                        let scale = L::splat((*x_scales.add(token * blocks)).float);
                        for v in 0..V {
                            let product = L::mul(L::to_floats(totals[token][v]), scale);
                            sums[token][v] = L::fma(product, scales[v], sums[token][v]);
                        }
                    }
                    continue;
                }
                while step < last {
                    let end = (step + held).min(last);
                    let mut running = [[L::zero_sums(); V]; N];
                    while step < end {
                        let at = column::<C>(block, step);
                        let w = words::<L, V>(codes.add(step * PANEL * 4));
                        for (token, running) in running.iter_mut().enumerate() {
                            let x = L::splat_word(x_codes.add(token * x.stride + at));
                            for v in 0..V {
                                running[v] = L::dot(running[v], w[v], x);
                            }
                        }
                        step += 1;
                    }
                    let scales = lanes::<L, V>(scales);
                    for token in 0..N {
                        let scale = &raw const (*x_scales.add(token * blocks)).factor;
                        let scale = L::splat_word(scale.cast());
                        for v in 0..V {
                            let product = L::scaled(running[token][v], scale);
                            sums[token][v] = L::fma(product, scales[v], sums[token][v]);
                        }
                    }
                }
            }
        }
    }
}

/// `[16][groups]` to `[groups][16]`, times `unit`.
///
/// # Safety
/// `from` holds 16 times `groups` numbers and eight more, `to` 16 times `groups` rounded up to
/// eights.
#[inline(always)]
unsafe fn transpose<S: Simd>(from: &[f32], groups: usize, unit: f32, to: &mut [f32]) {
    for vector in 0..VECTORS {
        for group in (0..groups).step_by(8) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.as_ptr().add(8 * vector * groups + group);
                let mut rows = [S::load_bytes(from.cast()); 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = S::load_bytes(from.add(i * groups).cast());
                }
                let to = to.as_mut_ptr().add(group * PANEL + 8 * vector);
                let columns = S::transpose(rows);
                for (i, column) in columns.into_iter().enumerate() {
                    let to = to.add(i * PANEL);
                    S::store_bytes(to.cast(), column);
                    S::store(to, S::mul(S::load(to), S::splat(unit)));
                }
            }
        }
    }
}

/// # Safety
/// `from` is valid for 16 floats.
#[inline(always)]
unsafe fn lanes<L: Lanes, const V: usize>(from: *const f32) -> [L::Floats; V] {
    let mut all = [L::splat(0.0); V];
    for (v, lanes) in all.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *lanes = unsafe { L::load(from.add(v * L::LANES)) };
    }
    all
}

/// # Safety
/// `from` is valid for 64 bytes.
#[inline(always)]
unsafe fn words<L: Lanes, const V: usize>(from: *const u8) -> [L::Bytes; V] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut all = [L::load_bytes(from); V];
        for (v, words) in all.iter_mut().enumerate().skip(1) {
            *words = L::load_bytes(from.add(v * 4 * L::LANES));
        }
        all
    }
}

/// Where in a chunk's 16 steps the word `word` of vector `part` goes: blocks one after the other.
#[inline(always)]
fn place<C: Codes>(part: usize, word: usize) -> usize {
    if C::SPLIT {
        word / 4 * STEPS + word % 4 * 2 + part
    } else {
        part * STEPS + word
    }
}

/// The offset in a chunk of activations of a block's step: the inverse of [`place`].
#[inline(always)]
fn column<C: Codes>(block: usize, step: usize) -> usize {
    if C::SPLIT {
        step % 2 * 32 + 4 * (4 * block + step / 2)
    } else {
        32 * block + 4 * step
    }
}

/// The largest power of two up to `limit`, at most the steps of a block.
const fn largest_power(limit: usize) -> usize {
    let mut power = STEPS;
    while power > limit {
        power /= 2;
    }
    power
}
