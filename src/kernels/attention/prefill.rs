//! Attention of many rows: two products of matrices, tile by tile, over packed keys and values.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use std::ops::Range;

use super::super::number::Number;
use super::super::scratch::Scratch;
use super::super::simd::Simd;
use super::softmax::Running;
use super::{Call, Group};

/// Keys of a block.
const KEYS: usize = 128;

/// Rows and columns of a tile of a product: 12 vectors of sums leave 4 registers.
const TILE: usize = 6;
const COLUMNS: usize = 16;

/// Rows of a task: packing keys pays only for many, and their sums should stay in a near cache.
const FEWEST_ROWS: usize = 8 * TILE;
const MOST_ROWS: usize = 24 * TILE;

/// The attention of some rows of a group.
pub(super) struct Block<'a> {
    group: Group<'a>,
    rows: Range<usize>,
}

impl<'a> Block<'a> {
    /// Blocks of about `length` rows, the ones with most work first.
    pub(super) fn cut(group: Group<'a>, length: usize) -> impl Iterator<Item = Self> {
        let length = length.clamp(FEWEST_ROWS, MOST_ROWS).next_multiple_of(TILE);
        let all = group.rows();
        (0..all.div_ceil(length)).rev().map(move |index| Self {
            group,
            rows: index * length..all.min((index + 1) * length),
        })
    }

    #[inline(always)]
    pub(super) fn run<S: Simd, N: Number>(&self, call: &Call<'_>) {
        let width = self.group.attention.width;
        let columns = self.group.attention.value_width.next_multiple_of(COLUMNS);
        let rows = self.rows.len().next_multiple_of(TILE);
        let sizes = [
            rows * width,
            rows * columns,
            rows * KEYS,
            KEYS * width,
            KEYS * columns,
        ];
        let mut scratch = Scratch::new(sizes.iter().sum());
        let (queries, scratch) = scratch.split_at_mut(sizes[0]);
        let (sums, scratch) = scratch.split_at_mut(sizes[1]);
        let (scores, scratch) = scratch.split_at_mut(sizes[2]);
        let (keys, values) = scratch.split_at_mut(sizes[3]);
        let (own, padding) = queries.split_at_mut(self.rows.len() * width);
        for (query, row) in own.chunks_exact_mut(width).zip(self.rows.clone()) {
            self.group.query(row, call.queries, query);
        }
        padding.fill(0.0);
        sums.fill(0.0);
        // Padding sees what the last row sees.
        let visible = (0..rows).map(|i| self.rows.end.min(self.rows.start + i + 1) - 1);
        let visible = visible.map(|row| self.group.visible(row)).collect();
        let mut matrices = Matrices {
            block: self,
            columns,
            queries,
            sums,
            scores,
            keys,
            values,
            visible,
            running: vec![Running::START; rows],
            factors: vec![1.0; rows],
        };
        // No block reaches over the end of a page.
        let all = matrices.seen(0).start / KEYS * KEYS..matrices.seen(rows / TILE - 1).end;
        for start in all.clone().step_by(KEYS) {
            matrices.take::<S, N>(start..all.end.min(start + KEYS));
        }
        matrices.finish(call);
    }
}

/// What a block multiplies. Its rows are padded to whole tiles.
struct Matrices<'a> {
    block: &'a Block<'a>,
    /// Width of a value, padded to whole tiles.
    columns: usize,
    /// `[rows, D]`.
    queries: &'a [f32],
    /// `[rows, columns]`: weighted values.
    sums: &'a mut [f32],
    /// `[rows, KEYS]`: scores, then weights.
    scores: &'a mut [f32],
    /// `[KEYS / COLUMNS, D, COLUMNS]`.
    keys: &'a mut [f32],
    /// `[columns / COLUMNS, KEYS, COLUMNS]`.
    values: &'a mut [f32],
    /// Positions that each row sees.
    visible: Vec<Range<usize>>,
    running: Vec<Running>,
    factors: Vec<f32>,
}

impl Matrices<'_> {
    /// Positions that some row of a tile sees.
    fn seen(&self, tile: usize) -> Range<usize> {
        self.visible[tile * TILE].start..self.visible[tile * TILE + TILE - 1].end
    }

    /// Takes in a block of keys for all rows that see one of them.
    #[inline(always)]
    fn take<S: Simd, N: Number>(&mut self, keys: Range<usize>) {
        let sees = |tile: &usize| {
            let seen = self.seen(*tile);
            seen.start < keys.end && keys.start < seen.end
        };
        let all = self.running.len() / TILE;
        let Some(first) = (0..all).find(sees) else {
            return;
        };
        let end = (first..all).rev().find(sees).map_or(all, |last| last + 1);
        self.pack::<S, N>(&keys);
        for panel in 0..keys.len().div_ceil(COLUMNS) {
            for tile in first..end {
                if keys.start + panel * COLUMNS < self.seen(tile).end {
                    self.multiply_keys::<S>(tile, panel);
                }
            }
        }
        for tile in first..end {
            self.weigh::<S>(tile, &keys);
        }
        for column in (0..self.columns).step_by(COLUMNS) {
            for tile in first..end {
                let depth = self.seen(tile).end.min(keys.end) - keys.start;
                self.multiply_values::<S>(tile, column, depth);
            }
        }
    }

    /// Copies keys into panels of [`COLUMNS`] keys, and values into panels of [`COLUMNS`] columns, as
    /// floats: what a tile reads lies together.
    #[inline(always)]
    fn pack<S: Simd, N: Number>(&mut self, range: &Range<usize>) {
        let attention = self.block.group.attention;
        let (width, value_width) = (attention.width, attention.value_width);
        let (keys, values) = self.block.group.cached::<N>(range.start);
        let count = range.len();
        // SAFETY: the cache holds `count` keys and values from here on; the panels have
        // room for `KEYS`, and for whole vectors.
        unsafe {
            for key in (0..count).step_by(8) {
                let panel = self.keys.as_mut_ptr();
                let panel = panel.add(key / COLUMNS * width * COLUMNS + key % COLUMNS);
                for at in (0..width).step_by(8) {
                    // Keys beyond the last may be any: nobody sees them.
                    let from = keys.add(key * N::row_bytes(width));
                    let eight = N::eight_keys::<S>(from, count - key, width, at);
                    for (i, column) in eight.into_iter().enumerate().take(width - at) {
                        S::store(panel.add((at + i) * COLUMNS), column);
                    }
                }
            }
            for key in (0..count).step_by(2) {
                let panel = self.values.as_mut_ptr().add(key * COLUMNS);
                for at in (0..value_width).step_by(8) {
                    // A value beyond the last may be any: nobody sees it.
                    let alone = key + 1 == count;
                    let [first, second] = N::two_values::<S>(values, key, alone, value_width, at);
                    let panel = panel.add(at / COLUMNS * KEYS * COLUMNS + at % COLUMNS);
                    S::store(panel, first);
                    S::store(panel.add(COLUMNS), second);
                }
            }
        }
    }

    /// The scores of a tile for a panel of keys.
    #[inline(always)]
    fn multiply_keys<S: Simd>(&mut self, tile: usize, panel: usize) {
        let width = self.block.group.attention.width;
        let (size, at) = (width * COLUMNS, tile * TILE * KEYS + panel * COLUMNS);
        let queries = &self.queries[tile * TILE * width..][..TILE * width];
        let keys = &self.keys[panel * size..][..size];
        let scores = &mut self.scores[at..][..(TILE - 1) * KEYS + COLUMNS];
        // SAFETY: the slices hold what is multiplied.
        unsafe {
            let zero = [[S::splat(0.0); 2]; TILE];
            let tile = product::<S>((queries.as_ptr(), width), keys.as_ptr(), width, zero);
            store_tile::<S>(scores.as_mut_ptr(), KEYS, tile);
        }
    }

    /// Turns the scores of a tile into weights.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, tile: usize, keys: &Range<usize>) {
        let seen = self.seen(tile).end.min(keys.end) - keys.start;
        for i in tile * TILE..(tile + 1) * TILE {
            let visible = &self.visible[i];
            let start = visible.start.clamp(keys.start, keys.end) - keys.start;
            let end = visible.end.clamp(keys.start, keys.end) - keys.start;
            let scores = &mut self.scores[i * KEYS..][..seen.next_multiple_of(8)];
            let length = scores.len();
            // SAFETY: `seen` is the most that a row of the tile sees.
            self.factors[i] = unsafe {
                let scores = scores.as_mut_ptr();
                let seen = (start.min(end), end);
                self.running[i].take::<S>(scores, seen, length)
            };
        }
    }

    /// Scales a tile's sums and adds weighted values of the first `depth` keys.
    #[inline(always)]
    fn multiply_values<S: Simd>(&mut self, tile: usize, column: usize, depth: usize) {
        let at = tile * TILE * self.columns + column;
        let weights = &self.scores[tile * TILE * KEYS..][..TILE * KEYS];
        let values = &self.values[column * KEYS..][..depth * COLUMNS];
        let sums = &mut self.sums[at..][..(TILE - 1) * self.columns + COLUMNS];
        let factors = &self.factors[tile * TILE..][..TILE];
        // SAFETY: the slices hold what is multiplied.
        unsafe {
            let mut tile = [[S::splat(0.0); 2]; TILE];
            for (i, [low, high]) in tile.iter_mut().enumerate() {
                let factor = S::splat(factors[i]);
                let from = sums.as_ptr().add(i * self.columns);
                *low = S::mul(S::load(from), factor);
                *high = S::mul(S::load(from.add(8)), factor);
            }
            let tile = product::<S>((weights.as_ptr(), KEYS), values.as_ptr(), depth, tile);
            store_tile::<S>(sums.as_mut_ptr(), self.columns, tile);
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

/// A tile of sums plus the product of [`TILE`] rows of `depth`, so far apart, and `depth` rows of
/// [`COLUMNS`].
///
/// # Safety
/// Both are valid for their rows.
#[inline(always)]
unsafe fn product<S: Simd>(
    (a, a_stride): (*const f32, usize),
    b: *const f32,
    depth: usize,
    mut sums: [[S::Floats; 2]; TILE],
) -> [[S::Floats; 2]; TILE] {
    // SAFETY: all indices stay within the rows.
    unsafe {
        for k in 0..depth {
            let b = b.add(k * COLUMNS);
            let (low, high) = (S::load(b), S::load(b.add(8)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = S::splat(*a.add(i * a_stride + k));
                sums[0] = S::fma(a, low, sums[0]);
                sums[1] = S::fma(a, high, sums[1]);
            }
        }
    }
    sums
}

/// # Safety
/// The pointer is valid for [`TILE`] rows of [`COLUMNS`], `stride` apart.
#[inline(always)]
unsafe fn store_tile<S: Simd>(to: *mut f32, stride: usize, tile: [[S::Floats; 2]; TILE]) {
    // SAFETY: the caller's promise.
    unsafe {
        for (i, [low, high]) in tile.into_iter().enumerate() {
            S::store(to.add(i * stride), low);
            S::store(to.add(i * stride + 8), high);
        }
    }
}
