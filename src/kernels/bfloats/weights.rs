//! Panels of weights as bfloat16: sixteen rows in tiles.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::activations::BLOCK;
use super::super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Octets};
use super::super::floats::unpack_row;
use super::super::lines::Lines;
use super::super::matrix::{Format, Matrix};
use super::super::panel::{PANEL, Panel, STEPS, VECTORS, with_panel};
use super::super::simd::{self, Kernel, Simd};
use super::{PAIRS, TILE, pair};

/// Weights of a thread's task; buffers keep their largest size.
#[derive(Default)]
pub(super) struct Weights {
    /// Panels of 16 rows, `[blocks][pairs of a block][16]`.
    pub(super) panels: Lines<u32>,
    /// A panel as rows, `[16][blocks][pairs of a block]`.
    rows: Lines<u32>,
    /// A row, `[columns]` and zeros.
    row: Lines<f32>,
}

impl Weights {
    /// Makes a panel of the rows from `first` on; those past the matrix's end repeat its last.
    pub(super) fn fill(&mut self, matrix: &Matrix, first: usize, place: Range<usize>) {
        let pairs = &mut self.panels[place];
        match matrix.format() {
            Format::Affine { bits: 2, .. } => start::<Bits<2>>(matrix, first, pairs),
            Format::Affine { bits: 3, .. } => start::<Bits<3>>(matrix, first, pairs),
            Format::Affine { bits: 4, .. } => start::<Nibbles>(matrix, first, pairs),
            Format::Affine { bits: 5, .. } => start::<Bits<5>>(matrix, first, pairs),
            Format::Affine { bits: 6, .. } => start::<Bits<6>>(matrix, first, pairs),
            Format::Affine { .. } => start::<Octets>(matrix, first, pairs),
            Format::Mxfp4 | Format::Nvfp4 => start::<Floats4>(matrix, first, pairs),
            Format::Mxfp8 | Format::Dense(_) => {
                let width = pairs.len() / PANEL;
                self.row.grow(matrix.columns().next_multiple_of(CHUNK));
                self.rows.grow(PANEL * width);
                for (lane, pairs) in self.rows.chunks_exact_mut(width).take(PANEL).enumerate() {
                    let row = (first + lane).min(matrix.rows() - 1);
                    unpack_row(matrix, row, &mut self.row);
                    simd::run(PairRow(&self.row, pairs));
                }
                simd::run(Transpose(&self.rows, width, pairs));
            }
        }
    }
}

/// The pairs of a row of whole blocks.
struct PairRow<'a>(&'a [f32], &'a mut [u32]);

impl Kernel for PairRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let blocks = self.0.chunks_exact(BLOCK);
        for (x, pairs) in blocks.zip(self.1.chunks_exact_mut(PAIRS)) {
            // SAFETY: a block of floats, and its pairs.
            unsafe { pair::<S>(x.as_ptr(), pairs.as_mut_ptr()) };
        }
    }
}

/// `[16][width]` to `[width][16]`; the width is a multiple of eight.
struct Transpose<'a>(&'a [u32], usize, &'a mut [u32]);

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self(from, width, to) = self;
        assert!(from.len() >= PANEL * width && to.len() == PANEL * width);
        for vector in 0..VECTORS {
            for column in (0..width).step_by(8) {
                // SAFETY: eight rows of eight words, and eight places for eight of them.
                unsafe {
                    let from = from.as_ptr().add(8 * vector * width + column);
                    let mut rows = [S::load_bytes(from.cast()); 8];
                    for (i, row) in rows.iter_mut().enumerate() {
                        *row = S::load_bytes(from.add(i * width).cast());
                    }
                    let to = to.as_mut_ptr().add(column * PANEL + 8 * vector);
                    for (i, column) in S::transpose(rows).into_iter().enumerate() {
                        S::store_bytes(to.add(i * PANEL).cast(), column);
                    }
                }
            }
        }
    }
}

fn start<C: Codes>(matrix: &Matrix, first: usize, pairs: &mut [u32]) {
    with_panel(|panel| match matrix.format().group() {
        16 => simd::run(Unpack::<C, 16>(matrix, first, panel, pairs, PhantomData)),
        32 => simd::run(Unpack::<C, 32>(matrix, first, panel, pairs, PhantomData)),
        64 => simd::run(Unpack::<C, 64>(matrix, first, panel, pairs, PhantomData)),
        _ => simd::run(Unpack::<C, 128>(matrix, first, panel, pairs, PhantomData)),
    });
}

/// Sixteen rows of codes as a panel of bfloat16.
struct Unpack<'a, C, const GROUP: usize>(
    &'a Matrix,
    usize,
    &'a mut Panel,
    &'a mut [u32],
    PhantomData<C>,
);

impl<C: Codes, const GROUP: usize> Kernel for Unpack<'_, C, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self(matrix, first, panel, pairs, _) = self;
        panel.fill::<S, C, GROUP>(matrix, first);
        for (block, tile) in pairs.chunks_exact_mut(TILE).enumerate() {
            for vector in 0..VECTORS {
                // SAFETY: the panel has codes of whole chunks of 64 columns, and a tile is 16 times 16 pairs.
                unsafe {
                    let low = Affine::<S>::new(panel, block * BLOCK / GROUP, vector);
                    let high = Affine::<S>::new(panel, (block * BLOCK + PAIRS) / GROUP, vector);
                    for step in 0..STEPS / 2 {
                        let at = block * STEPS + step;
                        let low = low.floats(panel, at, vector);
                        let high = high.floats(panel, at + STEPS / 2, vector);
                        for byte in 0..4 {
                            // Split codes are the even columns of eight in one step, the odd ones in the next.
                            let column = if C::SPLIT {
                                step / 2 * 8 + 2 * byte + step % 2
                            } else {
                                4 * step + byte
                            };
                            let to = tile.as_mut_ptr().add(column * PANEL + 8 * vector);
                            S::store_bytes(to.cast(), S::bfloat_pairs(low[byte], high[byte]));
                        }
                    }
                }
            }
        }
    }
}

/// What makes weights of the codes of a group of eight rows.
#[derive(Clone, Copy)]
struct Affine<S: Simd> {
    scales: S::Floats,
    biases: S::Floats,
}

impl<S: Simd> Affine<S> {
    /// Past the last group, what makes zeros.
    ///
    /// # Safety
    /// The panel is filled, and has so many vectors.
    #[inline(always)]
    unsafe fn new(panel: &Panel, group: usize, vector: usize) -> Self {
        if group >= panel.groups {
            let [scales, biases] = [S::splat(0.0); 2];
            return Self { scales, biases };
        }
        // SAFETY: the caller's promise.
        unsafe {
            let at = group * PANEL + 8 * vector;
            Self {
                scales: S::load(panel.scales.as_ptr().add(at)),
                biases: S::load(panel.biases.as_ptr().add(at)),
            }
        }
    }

    /// Four columns of eight rows.
    ///
    /// # Safety
    /// The panel is filled, and has so many steps and vectors.
    #[inline(always)]
    unsafe fn floats(self, panel: &Panel, step: usize, vector: usize) -> [S::Floats; 4] {
        // SAFETY: the caller's promise.
        let codes =
            unsafe { S::load_bytes(panel.codes.as_ptr().add((step * VECTORS + vector) * 32)) };
        let mut floats = S::unsigned_bytes(codes);
        for float in &mut floats {
            *float = S::fma(*float, self.scales, self.biases);
        }
        floats
    }
}
