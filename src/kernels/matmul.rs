//! Packed weights times many rows of int8 activations: a prompt, or sequences that decode together.
//!
//! Sixteen rows of weights become a panel ([`super::panel`]). Each of its steps is multiplied with four
//! activations of one token, given to all lanes.

use std::marker::PhantomData;

use super::activations::{Activations, BLOCK, Scale};
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Wide};
use super::matrix::{Format, Matrix};
use super::matvec::unreachable_format;
use super::panel::{PANEL, Panel, STEPS, VECTORS, column, with_panel};
use super::simd::{self, Kernel, Lanes, Simd};

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

impl Panel {
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

/// The largest power of two up to `limit`, at most the steps of a block.
const fn largest_power(limit: usize) -> usize {
    let mut power = STEPS;
    while power > limit {
        power /= 2;
    }
    power
}
