//! Attention of many rows: two products of matrices, tile by tile, over packed keys and values.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

mod floats;
mod tiles;

use std::ops::Range;

use self::floats::Floats;
use self::tiles::Tiles;
use super::super::number::Number;
use super::super::scratch::Scratch;
use super::super::simd::Simd;
use super::softmax::Running;
use super::{Call, Group};

/// Keys of a block.
const KEYS: usize = 128;

/// How the matrices of a block are laid out and multiplied: in tiles of rows, and panels of keys, or of columns of
/// values.
trait Factors {
    /// Rows of a tile.
    const TILE: usize;
    /// The fewest and the most rows of a task, multiples of the tile's: packing keys pays only for many, and their sums
    /// should stay in a near cache.
    const ROWS: [usize; 2];
    /// Keys, or columns of values, of a panel.
    const COLUMNS: usize;
    /// What the weights of a tile's rows are a multiple of.
    const DEPTH: usize;

    /// Room for so many rows, a multiple of the tile's, keys of `width` and values of `columns`, a multiple of the
    /// panel's. Queries are zeros.
    fn new(rows: usize, width: usize, columns: usize) -> Self;

    fn take_query<S: Simd>(&mut self, row: usize, query: &[f32]);

    /// Copies keys and values into panels: what a tile reads lies together.
    ///
    /// # Safety
    /// The cache holds what `cached` says.
    unsafe fn pack<S: Simd, N: Number>(&mut self, cached: &Cached);

    /// The scores of a tile for a panel of keys: rows of [`KEYS`].
    fn multiply_keys<S: Simd>(&self, tile: usize, panel: usize, scores: &mut [f32]);

    /// Takes the weights of a tile's rows, of [`KEYS`] each, for the first `depth` keys.
    fn take_weights<S: Simd>(&mut self, tile: usize, weights: &[f32], depth: usize);

    /// Multiplies a tile's sums, rows of so many columns, by factors, and adds to a panel of them the weighted values of
    /// the first `depth` keys.
    fn add_values<S: Simd>(
        &self,
        tile: usize,
        weights: (&[f32], usize),
        column: usize,
        factors: &[f32],
        sums: (&mut [f32], usize),
    );
}

/// Keys and values of some positions, at most [`KEYS`], in a cache.
struct Cached {
    keys: *const u8,
    values: *const u8,
    count: usize,
    width: usize,
    value_width: usize,
}

/// The attention of some rows of a group.
pub(super) struct Block<'a> {
    group: Group<'a>,
    rows: Range<usize>,
    /// By tiles, as bfloat16.
    is_tiled: bool,
}

impl<'a> Block<'a> {
    /// Blocks of about `length` rows, the ones with most work first.
    pub(super) fn cut(
        group: Group<'a>,
        length: usize,
        is_tiled: bool,
    ) -> impl Iterator<Item = Self> {
        let (tile, [fewest, most]) = if is_tiled {
            (Tiles::TILE, Tiles::ROWS)
        } else {
            (Floats::TILE, Floats::ROWS)
        };
        let length = length.clamp(fewest, most).next_multiple_of(tile);
        let all = group.rows();
        (0..all.div_ceil(length)).rev().map(move |index| Self {
            group,
            rows: index * length..all.min((index + 1) * length),
            is_tiled,
        })
    }

    #[inline(always)]
    pub(super) fn run<S: Simd, N: Number>(&self, call: &Call<'_>) {
        if self.is_tiled {
            self.multiply::<S, N, Tiles>(call);
        } else {
            self.multiply::<S, N, Floats>(call);
        }
    }

    #[inline(always)]
    fn multiply<S: Simd, N: Number, F: Factors>(&self, call: &Call<'_>) {
        let attention = self.group.attention;
        let columns = attention.value_width.next_multiple_of(F::COLUMNS);
        let rows = self.rows.len().next_multiple_of(F::TILE);
        let mut factors = F::new(rows, attention.width, columns);
        let mut query = Scratch::new(attention.width);
        for (i, row) in self.rows.clone().enumerate() {
            let query = &mut query[..attention.width];
            self.group.query(row, call.queries, query);
            factors.take_query::<S>(i, query);
        }
        let mut sums = Scratch::new(rows * columns);
        sums[..rows * columns].fill(0.0);
        // Padding sees what the last row sees.
        let visible = (0..rows).map(|i| self.rows.end.min(self.rows.start + i + 1) - 1);
        let visible = visible.map(|row| self.group.visible(row)).collect();
        let mut matrices = Matrices {
            block: self,
            columns,
            factors,
            sums,
            scores: Scratch::new(rows * KEYS),
            visible,
            running: vec![Running::START; rows],
            scales: vec![1.0; rows],
        };
        // No block reaches over the end of a page.
        let all = matrices.seen(0).start / KEYS * KEYS..matrices.seen(rows / F::TILE - 1).end;
        for start in all.clone().step_by(KEYS) {
            matrices.take::<S, N>(start..all.end.min(start + KEYS));
        }
        matrices.finish(call);
    }
}

/// What a block multiplies. Its rows are padded to whole tiles.
struct Matrices<'a, F> {
    block: &'a Block<'a>,
    /// Width of a value, padded to whole panels.
    columns: usize,
    factors: F,
    /// `[rows, columns]`: weighted values.
    sums: Scratch,
    /// `[rows, KEYS]`: scores, then weights.
    scores: Scratch,
    /// Positions that each row sees.
    visible: Vec<Range<usize>>,
    running: Vec<Running>,
    /// What the sums of each row are multiplied by next.
    scales: Vec<f32>,
}

impl<F: Factors> Matrices<'_, F> {
    /// Positions that some row of a tile sees.
    fn seen(&self, tile: usize) -> Range<usize> {
        self.visible[tile * F::TILE].start..self.visible[tile * F::TILE + F::TILE - 1].end
    }

    /// Takes in a block of keys for all rows that see one of them.
    #[inline(always)]
    fn take<S: Simd, N: Number>(&mut self, keys: Range<usize>) {
        let sees = |tile: &usize| {
            let seen = self.seen(*tile);
            seen.start < keys.end && keys.start < seen.end
        };
        let all = self.running.len() / F::TILE;
        let Some(first) = (0..all).find(sees) else {
            return;
        };
        let end = (first..all).rev().find(sees).map_or(all, |last| last + 1);
        let attention = self.block.group.attention;
        let (cached_keys, values) = self.block.group.cached::<N>(keys.start);
        let cached = Cached {
            keys: cached_keys,
            values,
            count: keys.len(),
            width: attention.width,
            value_width: attention.value_width,
        };
        // SAFETY: the cache holds so many keys and values from here on.
        unsafe { self.factors.pack::<S, N>(&cached) };
        for panel in 0..keys.len().div_ceil(F::COLUMNS) {
            for tile in first..end {
                if keys.start + panel * F::COLUMNS < self.seen(tile).end {
                    let scores = &mut self.scores[tile * F::TILE * KEYS + panel * F::COLUMNS..];
                    self.factors.multiply_keys::<S>(tile, panel, scores);
                }
            }
        }
        let depth = |tile: usize| self.seen(tile).end.min(keys.end) - keys.start;
        let depths: Vec<usize> = (first..end).map(depth).collect();
        let tiles = || (first..end).zip(&depths);
        for (tile, &depth) in tiles() {
            self.weigh::<S>(tile, &keys, depth);
            let weights = &self.scores[tile * F::TILE * KEYS..];
            self.factors.take_weights::<S>(tile, weights, depth);
        }
        for column in (0..self.columns).step_by(F::COLUMNS) {
            for (tile, &depth) in tiles() {
                let row = tile * F::TILE;
                let sums = &mut self.sums[row * self.columns + column..];
                self.factors.add_values::<S>(
                    tile,
                    (&self.scores[row * KEYS..], depth),
                    column,
                    &self.scales[row..],
                    (sums, self.columns),
                );
            }
        }
    }

    /// Turns the scores of a tile into weights.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, tile: usize, keys: &Range<usize>, depth: usize) {
        for i in tile * F::TILE..(tile + 1) * F::TILE {
            let visible = &self.visible[i];
            let start = visible.start.clamp(keys.start, keys.end) - keys.start;
            let end = visible.end.clamp(keys.start, keys.end) - keys.start;
            let scores = &mut self.scores[i * KEYS..][..depth.next_multiple_of(F::DEPTH)];
            let length = scores.len();
            // SAFETY: `depth` is the most that a row of the tile sees.
            self.scales[i] = unsafe {
                let scores = scores.as_mut_ptr();
                let seen = (start.min(end), end);
                self.running[i].take::<S>(scores, seen, length)
            };
        }
    }

    /// Writes sums divided by the sums of weights.
    fn finish(mut self, call: &Call<'_>) {
        let group = self.block.group;
        let width = group.attention.value_width;
        for (i, row) in self.block.rows.clone().enumerate() {
            let running = &mut self.running[i];
            let sink = group.attention.sinks.map(|sinks| sinks[group.head(row)]);
            let factor = sink.map_or(1.0, |sink| running.take_sink(sink));
            let factor = factor / running.sum;
            // SAFETY: each row and head belongs to one block.
            let out = unsafe { call.out.part(group.place(row) * width, width) };
            for (out, sum) in out.iter_mut().zip(&self.sums[i * self.columns..]) {
                *out = sum * factor;
            }
        }
    }
}
