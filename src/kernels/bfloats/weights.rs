//! Panels of weights as bfloat16: sixteen rows in tiles.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::activations::BLOCK;
use super::super::codes::{Bits, Codes, Floats4, Nibbles, Octets};
use super::super::lines::Lines;
use super::super::matrix::{Format, Matrix, Number};
use super::super::panel::{PANEL, Panel, STEPS, VECTORS, with_panel};
use super::super::simd::{self, Kernel, Lanes, Simd};
use super::super::storage::{Bfloat, E4m3, Eight, Half, Single};
use super::{PAIRS, TILE};

/// Weights of a thread's task; buffers keep their largest size.
#[derive(Default)]
pub(super) struct Weights {
    /// Panels of 16 rows, `[blocks][pairs of a block][16]`.
    pub(super) panels: Lines<u32>,
    /// Of the rows of a panel, `[16][groups]`.
    scales: Lines<f32>,
}

impl Weights {
    /// Makes a panel of the rows from `first` on; those past the matrix's end repeat its last.
    pub(super) fn fill(&mut self, matrix: &Matrix, first: usize, place: Range<usize>) {
        let pairs = &mut self.panels[place.clone()];
        match matrix.format() {
            Format::Affine { bits: 2, .. } => start::<Bits<2>>(matrix, first, pairs),
            Format::Affine { bits: 3, .. } => start::<Bits<3>>(matrix, first, pairs),
            Format::Affine { bits: 4, .. } => start::<Nibbles>(matrix, first, pairs),
            Format::Affine { bits: 5, .. } => start::<Bits<5>>(matrix, first, pairs),
            Format::Affine { bits: 6, .. } => start::<Bits<6>>(matrix, first, pairs),
            Format::Affine { .. } => start::<Octets>(matrix, first, pairs),
            Format::Mxfp4 | Format::Nvfp4 => start::<Floats4>(matrix, first, pairs),
            Format::Mxfp8 => self.fill_rows::<E4m3>(matrix, first, place),
            Format::Dense(Number::Float32) => self.fill_rows::<Single>(matrix, first, place),
            Format::Dense(Number::Float16) => self.fill_rows::<Half>(matrix, first, place),
            Format::Dense(Number::Bfloat16) => self.fill_rows::<Bfloat>(matrix, first, place),
        }
    }

    fn fill_rows<E: Eight>(&mut self, matrix: &Matrix, first: usize, place: Range<usize>) {
        simd::run(Rows::<E> {
            matrix,
            first,
            scales: &mut self.scales,
            pairs: &mut self.panels[place],
            number: PhantomData,
        });
    }
}

/// Sixteen rows of floats, with scales where they have some, as a panel of bfloat16.
struct Rows<'a, E> {
    matrix: &'a Matrix,
    first: usize,
    scales: &'a mut Lines<f32>,
    pairs: &'a mut [u32],
    number: PhantomData<E>,
}

impl<E: Eight> Kernel for Rows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let matrix = self.matrix;
        let last = matrix.rows() - 1;
        let is_scaled = matrix.format() == Format::Mxfp8;
        let blocks = self.pairs.len() / TILE;
        if is_scaled {
            self.scales.grow(PANEL * blocks);
            for (lane, scales) in self.scales.chunks_exact_mut(blocks).take(PANEL).enumerate() {
                let row = (self.first + lane).min(last);
                matrix.read_scales::<S>(row..row + 1, scales);
            }
        }
        for vector in 0..VECTORS {
            let mut rows = [matrix.row_codes(0); 8];
            for (i, codes) in rows.iter_mut().enumerate() {
                *codes = matrix.row_codes((self.first + 8 * vector + i).min(last));
            }
            // Of the last block, where the rows end in it.
            let mut padded = [[0; BLOCK * size_of::<f32>()]; 8];
            for (block, tile) in self.pairs.chunks_exact_mut(TILE).enumerate() {
                let mut numbers = [std::ptr::null(); 8];
                for i in 0..8 {
                    let rest = &rows[i][block * BLOCK * E::SIZE..];
                    numbers[i] = rest.as_ptr();
                    if rest.len() < BLOCK * E::SIZE {
                        padded[i][..rest.len()].copy_from_slice(rest);
                        numbers[i] = padded[i].as_ptr();
                    }
                }
                for at in [0, 8] {
                    // SAFETY: blocks of numbers of eight rows, and a tile of 16 times 16 pairs.
                    unsafe {
                        let mut pairs = [S::load_bytes(padded[0].as_ptr()); 8];
                        for i in 0..8 {
                            let mut low = E::load::<S>(numbers[i].add(at * E::SIZE));
                            let mut high = E::load::<S>(numbers[i].add((PAIRS + at) * E::SIZE));
                            if is_scaled {
                                let scale = self.scales[(8 * vector + i) * blocks + block];
                                low = S::mul(low, S::splat(scale));
                                high = S::mul(high, S::splat(scale));
                            }
                            pairs[i] = S::bfloat_pairs(low, high);
                        }
                        for (i, column) in S::transpose(pairs).into_iter().enumerate() {
                            let to = tile.as_mut_ptr().add((at + i) * PANEL + 8 * vector);
                            S::store_bytes(to.cast(), column);
                        }
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
            for lane in (0..PANEL).step_by(S::Widest::LANES) {
                // SAFETY: the panel has codes of whole chunks of 64 columns, and a tile is 16 times 16 pairs.
                unsafe {
                    let low = Affine::<S::Widest>::new(panel, block * BLOCK / GROUP, lane);
                    let group = (block * BLOCK + PAIRS) / GROUP;
                    let high = Affine::<S::Widest>::new(panel, group, lane);
                    for step in 0..STEPS / 2 {
                        let at = block * STEPS + step;
                        let low = low.floats(panel, at, lane);
                        let high = high.floats(panel, at + STEPS / 2, lane);
                        for byte in 0..4 {
                            // Split codes are the even columns of eight in one step, the odd ones in the next.
                            let column = if C::SPLIT {
                                step / 2 * 8 + 2 * byte + step % 2
                            } else {
                                4 * step + byte
                            };
                            let pairs = S::Widest::bfloat_pairs(low[byte], high[byte]);
                            let to = tile.as_mut_ptr().add(column * PANEL + lane);
                            S::Widest::store_bytes(to.cast(), pairs);
                        }
                    }
                }
            }
        }
    }
}

/// What makes weights of the codes of a group, of as many rows as there are lanes.
#[derive(Clone, Copy)]
struct Affine<L: Lanes> {
    scales: L::Floats,
    biases: L::Floats,
}

impl<L: Lanes> Affine<L> {
    /// Past the last group, what makes zeros.
    ///
    /// # Safety
    /// The panel is filled, and has the lane.
    #[inline(always)]
    unsafe fn new(panel: &Panel, group: usize, lane: usize) -> Self {
        if group >= panel.groups {
            let [scales, biases] = [L::splat(0.0); 2];
            return Self { scales, biases };
        }
        // SAFETY: the caller's promise.
        unsafe {
            let at = group * PANEL + lane;
            Self {
                scales: L::load(panel.scales.as_ptr().add(at)),
                biases: L::load(panel.biases.as_ptr().add(at)),
            }
        }
    }

    /// Four columns of rows.
    ///
    /// # Safety
    /// The panel is filled, and has so many steps, and the lane.
    #[inline(always)]
    unsafe fn floats(self, panel: &Panel, step: usize, lane: usize) -> [L::Floats; 4] {
        // SAFETY: the caller's promise.
        let codes = unsafe { L::load_bytes(panel.codes.as_ptr().add((step * PANEL + lane) * 4)) };
        let mut floats = L::unsigned_bytes(codes);
        for float in &mut floats {
            *float = L::fma(*float, self.scales, self.biases);
        }
        floats
    }
}
