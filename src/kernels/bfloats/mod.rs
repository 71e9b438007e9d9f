//! Weights times many rows of activations, both as bfloat16: a prompt, where the processor multiplies tiles
//! ([`super::simd::amx`]).
//!
//! A tile is 16 tokens or 16 rows by a block of 32 columns. Sums are float32 from end to end, so that, unlike with
//! int8, nothing is scaled between blocks.

mod block;
mod weights;

use std::cell::RefCell;
use std::ops::Range;

use self::weights::Weights;
use super::activations::BLOCK;
use super::lines::Lines;
use super::matrix::Matrix;
use super::pool::{self, Pool};
use super::simd::{self, Kernel, Simd};

pub(super) use self::block::{LINES, PAIRS, SIDE, TILE, Tiled, pair};

/// Tokens from which tiles are faster: fewer do not pay for making panels of bfloat16.
pub(super) const MANY: usize = 64;

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
        let parts = tiles.zip(x.chunks(LINES * columns));
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
        (row / LINES * self.blocks + block) * TILE + row % LINES * PAIRS
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

/// `out[token][i] = W[rows.start + i] · x[token]`.
pub(super) fn multiply(matrix: &Matrix, rows: Range<usize>, x: &Bfloats, out: &mut [f32]) {
    thread_local!(static WEIGHTS: RefCell<Weights> = RefCell::default());
    WEIGHTS.with_borrow_mut(|weights| {
        let size = x.blocks * TILE;
        let panels = rows.len().next_multiple_of(SIDE) / LINES;
        weights.panels.grow(panels * size);
        for panel in 0..panels {
            let first = (rows.start + panel * LINES).min(matrix.rows() - 1);
            weights.fill(matrix, first, panel * size..(panel + 1) * size);
        }
        multiply_panels(&weights.panels, rows.len(), x, out);
    });
}

/// `out[token][i] = panels[i] · x[token]` for the first `count` rows of the panels.
fn multiply_panels(panels: &[u32], count: usize, x: &Bfloats, out: &mut [f32]) {
    let (tiled, size) = (Tiled::new(), x.blocks * TILE);
    let halves = |from: &[u32], at: usize| {
        let both = &from[at / LINES * size..][..2 * size];
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
                unsafe { tiled.multiply(tokens, weights, x.blocks, out.as_mut_ptr(), count) };
                continue;
            }
            let mut whole = [[0.0; SIDE]; SIDE];
            // SAFETY: likewise.
            unsafe { tiled.multiply(tokens, weights, x.blocks, whole[0].as_mut_ptr(), SIDE) };
            for (i, whole) in whole[..height].iter().enumerate() {
                out[(token + i) * count + row..][..width].copy_from_slice(&whole[..width]);
            }
        }
    }
}
