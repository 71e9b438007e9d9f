//! Weights times many rows of activations, both as bfloat16: a prompt, where the processor multiplies tiles
//! ([`super::simd::amx`]).
//!
//! A tile is 16 tokens or 16 rows by a block of 32 columns. Sums are float32 from end to end, so that, unlike with
//! int8, nothing is scaled between blocks.

mod block;
mod weights;

use std::cell::RefCell;
use std::ops::Range;

use self::block::pair_rests;
pub(super) use self::block::{LINES, PAIRS, SIDE, TILE, Tiled, pair};
use self::weights::Weights;
use super::activations::BLOCK;
use super::lines::Lines;
use super::matrix::Matrix;
use super::pool::{self, Pool};
use super::simd::{self, Kernel, Simd};

/// Tokens from which tiles are faster: fewer do not pay for making panels of bfloat16.
pub(super) const MANY: usize = 64;

/// Rows of activations in tiles of sixteen, with zeros up to whole blocks and an even number of tiles.
#[derive(Debug)]
pub(super) struct Bfloats {
    /// `[rows/16][blocks][parts][16][pairs of a block]`
    pairs: Lines<u32>,
    blocks: usize,
    /// 1, or 2 where what rounding leaves follows, rounded too: for weights that bfloat16 holds as they are.
    parts: usize,
    rows: usize,
}

impl Bfloats {
    /// Rounds `x` `[rows, columns]`, and what that leaves where they come in two parts.
    pub(super) fn new(pool: &Pool, x: &[f32], columns: usize, parts: usize) -> Self {
        let mut new = Self::zeros(x.len() / columns, columns.div_ceil(BLOCK), parts);
        let tiles = new.pairs.chunks_exact_mut(new.blocks * parts * TILE);
        let tasks = tiles.zip(x.chunks(LINES * columns));
        let tasks = tasks.map(|(pairs, x)| Round {
            x,
            columns,
            parts,
            pairs,
        });
        pool::run_each(pool, tasks.collect(), simd::run);
        new
    }

    fn zeros(rows: usize, blocks: usize, parts: usize) -> Self {
        let pairs = Lines::zeros(rows.next_multiple_of(SIDE) * blocks * parts * PAIRS);
        Self {
            pairs,
            blocks,
            parts,
            rows,
        }
    }

    /// Some of the rows, in the order given.
    pub(super) fn gather(&self, rows: &[usize]) -> Self {
        let mut new = Self::zeros(rows.len(), self.blocks, self.parts);
        for (to, &from) in rows.iter().enumerate() {
            for tile in 0..self.blocks * self.parts {
                let (to, from) = (self.place(to, tile), self.place(from, tile));
                new.pairs[to..to + PAIRS].copy_from_slice(&self.pairs[from..from + PAIRS]);
            }
        }
        new
    }

    /// Where a row's line of a tile is.
    fn place(&self, row: usize, tile: usize) -> usize {
        (row / LINES * self.blocks * self.parts + tile) * TILE + row % LINES * PAIRS
    }
}

/// Up to sixteen rows.
struct Round<'a> {
    x: &'a [f32],
    columns: usize,
    parts: usize,
    /// `[blocks][parts][16][pairs of a block]`
    pairs: &'a mut [u32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (row, x) in self.x.chunks_exact(self.columns).enumerate() {
            let tiles = self.pairs.chunks_exact_mut(self.parts * TILE);
            for (x, tiles) in x.chunks(BLOCK).zip(tiles) {
                let mut padded = [0.0; BLOCK];
                let x = if x.len() == BLOCK {
                    x.as_ptr()
                } else {
                    padded[..x.len()].copy_from_slice(x);
                    padded.as_ptr()
                };
                let (tile, rests) = tiles.split_at_mut(TILE);
                let line = row * PAIRS..(row + 1) * PAIRS;
                // SAFETY: a block of floats, and lines of pairs.
                unsafe {
                    pair::<S>(x, tile[line.clone()].as_mut_ptr());
                    if self.parts == 2 {
                        pair_rests::<S>(x, rests[line].as_mut_ptr());
                    }
                }
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
        match x.parts {
            1 => multiply_panels::<1>(&weights.panels, rows.len(), x, out),
            _ => multiply_panels::<2>(&weights.panels, rows.len(), x, out),
        }
    });
}

/// `out[token][i] = panels[i] · x[token]` for the first `count` rows of the panels.
fn multiply_panels<const P: usize>(panels: &[u32], count: usize, x: &Bfloats, out: &mut [f32]) {
    let (tiled, size) = (Tiled::new(), x.blocks * TILE);
    let halves = |from: &[u32], at: usize, size: usize| {
        let both = &from[at / LINES * size..][..2 * size];
        [&raw const both[0], &raw const both[size]]
    };
    for token in (0..x.rows).step_by(SIDE) {
        let tokens = halves(&x.pairs, token, P * size);
        for row in (0..count).step_by(SIDE) {
            let weights = halves(panels, row, size);
            let (height, width) = (SIDE.min(x.rows - token), SIDE.min(count - row));
            if (height, width) == (SIDE, SIDE) {
                let out = &mut out[token * count + row..][..(SIDE - 1) * count + SIDE];
                // SAFETY: two tiles of each for every block and part, and 32 lines of so many floats.
                unsafe { tiled.multiply::<P>(tokens, weights, x.blocks, out.as_mut_ptr(), count) };
                continue;
            }
            let mut whole = [[0.0; SIDE]; SIDE];
            let to = whole[0].as_mut_ptr();
            // SAFETY: likewise.
            unsafe { tiled.multiply::<P>(tokens, weights, x.blocks, to, SIDE) };
            for (i, whole) in whole[..height].iter().enumerate() {
                out[(token + i) * count + row..][..width].copy_from_slice(&whole[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::made::floats;
    use super::super::pool::for_tests;
    use super::*;

    #[test]
    fn rows_that_are_gathered_are_those_that_are_rounded_alone() {
        let (columns, rows) = (75, [3, 40, 0, 17, 17, 33]);
        let x = floats(41 * columns, 1);
        let of_rows: Vec<f32> = (rows.iter())
            .flat_map(|row| &x[row * columns..(row + 1) * columns])
            .copied()
            .collect();
        for parts in [1, 2] {
            for pool in for_tests() {
                let found = Bfloats::new(pool, &x, columns, parts).gather(&rows);
                let right = Bfloats::new(pool, &of_rows, columns, parts);
                assert_eq!(*found.pairs, *right.pairs, "{parts} parts");
                assert!(right.pairs.iter().any(|&pair| pair != 0));
            }
        }
    }
}
