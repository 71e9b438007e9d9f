//! Weights times many rows of activations, both as bfloat16: a prompt, where the processor multiplies tiles
//! ([`super::simd::amx`]).
//!
//! A tile is 16 tokens or 16 rows by a block of 32 columns. Sums are float32 from end to end, so that, unlike with
//! int8, nothing is scaled between blocks. Columns `i` and `16 + i` of a block lie side by side: what is multiplied
//! and added by one instruction.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::activations::BLOCK;
use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Octets};
use super::floats::unpack_row;
use super::lines::Lines;
use super::matrix::{Format, Matrix};
use super::panel::{PANEL, Panel, STEPS, VECTORS, with_panel};
use super::pool::{self, Pool};
#[cfg(target_arch = "x86_64")]
use super::simd::amx;
use super::simd::{self, Kernel, Simd};

/// Tokens from which tiles are faster: fewer do not pay for making panels of bfloat16.
pub(super) const MANY: usize = 32;

/// Tokens and rows that are multiplied at once: two tiles of each.
pub(super) const SIDE: usize = 2 * PANEL;

/// Pairs of a tile.
const TILE: usize = PANEL * PAIRS;

/// Pairs of a block.
const PAIRS: usize = BLOCK / 2;

/// Rows of activations in tiles of sixteen, with zeros up to whole blocks and an even number of tiles.
#[derive(Debug)]
pub(super) struct Bfloats {
    /// `[rows/16][blocks][16][pairs of a block]`
    pairs: Lines<u32>,
    blocks: usize,
    rows: usize,
}

impl Bfloats {
    /// Rounds `x` `[rows, columns]`.
    pub(super) fn new(pool: &Pool, x: &[f32], columns: usize) -> Self {
        let mut new = Self::zeros(x.len() / columns, columns.div_ceil(BLOCK));
        let tiles = new.pairs.chunks_exact_mut(new.blocks * TILE);
        let parts = tiles.zip(x.chunks(PANEL * columns));
        let parts = parts.map(|(pairs, x)| Round { x, columns, pairs });
        pool::run_each(pool, parts.collect(), simd::run);
        new
    }

    fn zeros(rows: usize, blocks: usize) -> Self {
        let pairs = Lines::zeros(rows.next_multiple_of(SIDE) * blocks * PAIRS);
        Self {
            pairs,
            blocks,
            rows,
        }
    }

    /// Some of the rows, in the order given.
    pub(super) fn gather(&self, rows: &[usize]) -> Self {
        let mut new = Self::zeros(rows.len(), self.blocks);
        for (to, &from) in rows.iter().enumerate() {
            for block in 0..self.blocks {
                let (to, from) = (self.place(to, block), self.place(from, block));
                new.pairs[to..to + PAIRS].copy_from_slice(&self.pairs[from..from + PAIRS]);
            }
        }
        new
    }

    /// Where a block of a row is.
    fn place(&self, row: usize, block: usize) -> usize {
        (row / PANEL * self.blocks + block) * TILE + row % PANEL * PAIRS
    }
}

/// Up to sixteen rows.
struct Round<'a> {
    x: &'a [f32],
    columns: usize,
    /// `[blocks][16][pairs of a block]`
    pairs: &'a mut [u32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (row, x) in self.x.chunks_exact(self.columns).enumerate() {
            for (x, tile) in x.chunks(BLOCK).zip(self.pairs.chunks_exact_mut(TILE)) {
                let mut padded = [0.0; BLOCK];
                let x = if x.len() == BLOCK {
                    x.as_ptr()
                } else {
                    padded[..x.len()].copy_from_slice(x);
                    padded.as_ptr()
                };
                let line = &mut tile[row * PAIRS..][..PAIRS];
                // SAFETY: a block of floats, and a line of pairs.
                unsafe { pair::<S>(x, line.as_mut_ptr()) };
            }
        }
    }
}

/// The pairs of a block of floats.
///
/// # Safety
/// `x` is valid for a block, `to` for its pairs.
#[inline(always)]
unsafe fn pair<S: Simd>(x: *const f32, to: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        for at in [0, 8] {
            let pairs = S::bfloat_pairs(S::load(x.add(at)), S::load(x.add(PAIRS + at)));
            S::store_bytes(to.add(at).cast(), pairs);
        }
    }
}

/// Weights of a thread's task; buffers keep their largest size.
#[derive(Default)]
struct Weights {
    /// Panels of 16 rows, `[blocks][pairs of a block][16]`.
    panels: Lines<u32>,
    /// A panel as rows, `[16][blocks][pairs of a block]`.
    rows: Lines<u32>,
    /// A row, `[columns]` and zeros.
    row: Lines<f32>,
}

/// `out[token][i] = W[rows.start + i] · x[token]`.
pub(super) fn multiply(matrix: &Matrix, rows: Range<usize>, x: &Bfloats, out: &mut [f32]) {
    thread_local!(static WEIGHTS: RefCell<Weights> = RefCell::default());
    WEIGHTS.with_borrow_mut(|weights| {
        let size = x.blocks * TILE;
        let panels = rows.len().next_multiple_of(SIDE) / PANEL;
        weights.panels.grow(panels * size);
        for panel in 0..panels {
            let first = (rows.start + panel * PANEL).min(matrix.rows() - 1);
            weights.fill(matrix, first, panel * size..(panel + 1) * size);
        }
        with_tiles(|| multiply_panels(&weights.panels, rows.len(), x, out));
    });
}

/// `out[token][i] = panels[i] · x[token]` for the first `count` rows of the panels.
fn multiply_panels(panels: &[u32], count: usize, x: &Bfloats, out: &mut [f32]) {
    let size = x.blocks * TILE;
    let halves = |from: &[u32], at: usize| {
        let both = &from[at / PANEL * size..][..2 * size];
        [&raw const both[0], &raw const both[size]]
    };
    for token in (0..x.rows).step_by(SIDE) {
        let tokens = halves(&x.pairs, token);
        for row in (0..count).step_by(SIDE) {
            let weights = halves(panels, row);
            let (height, width) = (SIDE.min(x.rows - token), SIDE.min(count - row));
            if (height, width) == (SIDE, SIDE) {
                let out = &mut out[token * count + row..][..(SIDE - 1) * count + SIDE];
                // SAFETY: two tiles of each for every block, and 32 lines of so many floats.
                unsafe { block(tokens, weights, x.blocks, out.as_mut_ptr(), count) };
                continue;
            }
            let mut whole = [[0.0; SIDE]; SIDE];
            // SAFETY: likewise.
            unsafe { block(tokens, weights, x.blocks, whole[0].as_mut_ptr(), SIDE) };
            for (i, whole) in whole[..height].iter().enumerate() {
                out[(token + i) * count + row..][..width].copy_from_slice(&whole[..width]);
            }
        }
    }
}

impl Weights {
    /// Makes a panel of the rows from `first` on; those past the matrix's end repeat its last.
    fn fill(&mut self, matrix: &Matrix, first: usize, place: Range<usize>) {
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

/// Calls `work`, in which [`block`] may be called.
fn with_tiles(work: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    if amx::is_there() {
        // SAFETY: they are there.
        return unsafe { amx::with_tiles(work) };
    }
    work();
}

/// The products of two tiles of tokens with two of rows, over so many blocks; lines of `out` are `stride` floats apart.
///
/// # Safety
/// In [`with_tiles`]. Pointers are valid for so many tiles, one after the other, and for 32 lines of 32 floats.
unsafe fn block(
    x: [*const u32; 2],
    weights: [*const u32; 2],
    blocks: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if amx::is_there() {
            return amx::multiply(x, weights, blocks, out, 4 * stride);
        }
        plain_block(x, weights, blocks, out, stride);
    }
}

/// The same in plain loops: what stands in for tiles in tests on processors that have none.
///
/// # Safety
/// As for [`block`].
unsafe fn plain_block(
    x: [*const u32; 2],
    weights: [*const u32; 2],
    blocks: usize,
    out: *mut f32,
    stride: usize,
) {
    let [first, second] = [|pair: u32| pair << 16, |pair: u32| pair & 0xffff_0000];
    for (token, row) in (0..SIDE).flat_map(|token| (0..SIDE).map(move |row| (token, row))) {
        let mut sum = 0.0;
        for (block, pair) in (0..blocks).flat_map(|block| (0..PAIRS).map(move |pair| (block, pair)))
        {
            // SAFETY: the caller's promise.
            let [x, w] = unsafe {
                let x = x[token / PANEL].add(block * TILE + token % PANEL * PAIRS + pair);
                let w = weights[row / PANEL].add(block * TILE + pair * PANEL + row % PANEL);
                [*x, *w]
            };
            sum += f32::from_bits(first(x)) * f32::from_bits(first(w));
            sum += f32::from_bits(second(x)) * f32::from_bits(second(w));
        }
        // SAFETY: the caller's promise.
        unsafe { *out.add(token * stride + row) = sum };
    }
}
