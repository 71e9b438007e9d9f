//! Attention of a few rows: the cache is read once, for all query heads that share it.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::super::number::Number;
use super::super::scratch::Scratch;
use super::super::simd::Simd;
use super::softmax::Running;
use super::{Call, Group, Plan};

/// Keys of a block: theirs and their values' bytes, and those of the next block, stay in the nearest
/// cache.
const KEYS: usize = 16;

/// Queries that are done at once: as many as registers hold.
const QUERIES: usize = 4;

/// A group's attention to a range of its keys.
pub(super) struct Piece<'a> {
    group: Group<'a>,
    keys: Range<usize>,
    index: usize,
    /// Pieces of this group, and the place of the count of those done.
    pieces: usize,
    done: usize,
    /// Where the group's partial results begin.
    partials: usize,
}

/// A partial result is, for each row of the group, the sum of weighted values, the highest score
/// and the sum of weights.
fn partial(group: Group<'_>) -> (usize, usize) {
    let stride = group.attention.value_width.next_multiple_of(8);
    (stride, group.rows() * (stride + 2))
}

impl<'a> Piece<'a> {
    /// Pieces of about `length` keys, and where partial results end. Theirs begin at `partials`. The
    /// first begins with a block of the cache's.
    pub(super) fn cut(
        group: Group<'a>,
        length: usize,
        partials: usize,
        done: usize,
    ) -> (impl Iterator<Item = Self>, usize) {
        let mut keys = group.keys();
        keys.start -= keys.start % group.attention.number.block();
        let pieces = keys.len().div_ceil(length);
        let length = keys.len().div_ceil(pieces).next_multiple_of(KEYS);
        let pieces = keys.len().div_ceil(length);
        let cut = (0..pieces).map(move |index| {
            let start = keys.start + index * length;
            Self {
                group,
                keys: start..keys.end.min(start + length),
                index,
                pieces,
                done,
                partials,
            }
        });
        (cut, partials + pieces * partial(group).1)
    }

    #[inline(always)]
    pub(super) fn run<S: Simd, N: Number>(&self, call: &Call<'_>, plan: &Plan<'_>) {
        let (stride, size) = partial(self.group);
        // SAFETY: each piece has its own partial result.
        let partial = unsafe { call.partials.part(self.partials + self.index * size, size) };
        let (sums, states) = partial.split_at_mut(self.group.rows() * stride);
        sums.fill(0.0);
        let (states, _) = states.as_chunks_mut::<2>();
        states.fill([Running::START.highest, Running::START.sum]);
        let width = self.group.attention.width;
        let bytes = N::query_bytes(width);
        let mut scratch = Scratch::new(width + (self.group.rows() * bytes).div_ceil(4));
        let (query, queries) = scratch.split_at_mut(width);
        let queries = as_bytes(queries);
        let rows = queries.chunks_exact_mut(bytes).enumerate();
        for (row, to) in rows.take(self.group.rows()) {
            self.group.query(row, call.queries, query);
            N::store_query::<S>(query, to);
        }
        for start in self.keys.clone().step_by(KEYS) {
            let keys = start..self.keys.end.min(start + KEYS);
            self.block::<S, N>(keys, queries, sums, states);
        }
        let done = plan.done[self.done].fetch_add(1, Ordering::AcqRel) + 1;
        if done == self.pieces {
            self.merge(call);
        }
    }

    /// Takes in one block of keys for all rows.
    #[inline(always)]
    fn block<S: Simd, N: Number>(
        &self,
        keys: Range<usize>,
        queries: &[u8],
        sums: &mut [f32],
        states: &mut [[f32; 2]],
    ) {
        let (stride, _) = partial(self.group);
        let query_stride = N::query_bytes(self.group.attention.width);
        for first in (0..states.len()).step_by(QUERIES) {
            let count = QUERIES.min(states.len() - first);
            let tile = Tile {
                piece: self,
                keys: keys.clone(),
                first,
                queries: &queries[first * query_stride..][..count * query_stride],
                sums: &mut sums[first * stride..][..count * stride],
                states: &mut states[first..first + count],
            };
            match count {
                1 => tile.run::<S, N, 1, 4, 8>(),
                2 => tile.run::<S, N, 2, 4, 4>(),
                3 => tile.run::<S, N, 3, 2, 2>(),
                _ => tile.run::<S, N, 4, 2, 2>(),
            }
        }
    }

    /// Puts the group's partial results together: all of them are there.
    fn merge(&self, call: &Call<'_>) {
        let (stride, size) = partial(self.group);
        let rows = self.group.rows();
        // SAFETY: whoever wrote a piece has counted it as done, and the last of them comes here.
        let partials = unsafe { call.partials.part(self.partials, self.pieces * size) };
        for row in 0..rows {
            let pieces = partials.chunks_exact(size).map(|partial| {
                let state = &partial[rows * stride + 2 * row..][..2];
                (&partial[row * stride..], state[0], state[1])
            });
            let sink = self
                .group
                .attention
                .sinks
                .map(|sinks| sinks[self.group.head(row)]);
            let highest = pieces.clone().map(|piece| piece.1);
            let highest = highest.chain(sink).fold(f32::MIN, f32::max);
            let weights = pieces
                .clone()
                .map(|piece| piece.2 * (piece.1 - highest).exp());
            let total: f32 = weights.chain(sink.map(|sink| (sink - highest).exp())).sum();
            let width = self.group.attention.value_width;
            // SAFETY: each row and head belongs to one group.
            let out = unsafe { call.out.part(self.group.place(row) * width, width) };
            out.fill(0.0);
            for (sums, piece_highest, _) in pieces {
                let factor = (piece_highest - highest).exp() / total;
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out += sum * factor;
                }
            }
        }
    }
}

/// A few queries and a block of keys.
struct Tile<'a> {
    piece: &'a Piece<'a>,
    keys: Range<usize>,
    /// The first of the queries among the rows of the group.
    first: usize,
    /// As the numbers of the cache are multiplied with.
    queries: &'a [u8],
    sums: &'a mut [f32],
    states: &'a mut [[f32; 2]],
}

/// Scores of a tile's queries, then their weights.
type Scores = [[f32; KEYS]; QUERIES];

impl Tile<'_> {
    /// `Q` queries; `K` keys at once for the scores, `W` vectors of values at once for the sums.
    #[inline(always)]
    fn run<S: Simd, N: Number, const Q: usize, const K: usize, const W: usize>(mut self) {
        let group = self.piece.group;
        let attention = group.attention;
        let count = self.keys.len();
        let (keys, values) = group.cached::<N>(self.keys.start);
        let mut scores: Scores = [[0.0; KEYS]; QUERIES];
        // SAFETY: the cache holds the keys and values of `count` positions from here on, and the
        // queries are `Q` rows.
        unsafe {
            let bytes = N::row_bytes(attention.width);
            let mut key = 0;
            while key < count {
                let (keys, scores) = (keys.add(key * bytes), scores.as_mut_ptr().cast::<f32>());
                let (queries, scores) = (self.queries.as_ptr(), scores.add(key));
                let step = if N::BLOCK == 1 && key + K > count {
                    N::scores::<S, Q, 1>(keys, attention.width, queries, scores, KEYS);
                    1
                } else {
                    N::scores::<S, Q, K>(keys, attention.width, queries, scores, KEYS);
                    K.max(N::BLOCK)
                };
                key += step;
            }
        }
        let mut factors = [0.0; Q];
        let length = count.next_multiple_of(8);
        for (q, factor) in factors.iter_mut().enumerate() {
            let visible = group.visible(self.first + q);
            let within = |position: usize| position.clamp(self.keys.start, self.keys.end);
            let start = within(visible.start) - self.keys.start;
            let end = within(visible.end) - self.keys.start;
            let [highest, sum] = self.states[q];
            let mut running = Running { highest, sum };
            // SAFETY: a row of scores holds `KEYS`, a multiple of 8.
            *factor = unsafe {
                let scores = scores[q].as_mut_ptr();
                running.take::<S>(scores, (start, end.max(start)), length, attention.soft_cap)
            };
            self.states[q] = [running.highest, running.sum];
        }
        // SAFETY: as above; sums are `Q` rows.
        unsafe {
            let width = attention.value_width;
            let mut at = 0;
            while at + 8 * W <= width {
                self.sums::<S, N, Q, W, true>(keys, values, at, &scores, &factors);
                at += 8 * W;
            }
            while at + 8 <= width {
                self.sums::<S, N, Q, 1, true>(keys, values, at, &scores, &factors);
                at += 8;
            }
            if at < width {
                self.sums::<S, N, Q, 1, false>(keys, values, at, &scores, &factors);
            }
        }
    }

    /// Scales sums by the factors and adds the block's weighted values, in `W` vectors of columns
    /// from `at` on; the last may be part of one, unless all are `WHOLE`.
    ///
    /// # Safety
    /// `values` is valid for the block's values; `keys` is where its keys are; sums are `Q` rows.
    #[inline(always)]
    unsafe fn sums<S: Simd, N: Number, const Q: usize, const W: usize, const WHOLE: bool>(
        &mut self,
        keys: *const u8,
        values: *const u8,
        at: usize,
        weights: &Scores,
        factors: &[f32; Q],
    ) {
        let attention = self.piece.group.attention;
        let width = attention.value_width;
        let stride = width.next_multiple_of(8);
        let rows = self.sums.as_mut_ptr();
        let mut sums = [[S::splat(0.0); W]; Q];
        // SAFETY: all indices stay within the sums and values.
        unsafe {
            for (q, sums) in sums.iter_mut().enumerate() {
                for (w, sum) in sums.iter_mut().enumerate() {
                    let old = S::load(rows.add(q * stride + at + 8 * w));
                    *sum = S::mul(old, S::splat(factors[q]));
                }
            }
            // The next block's keys and values are asked for evenly over this one's sums, which take
            // most of the time.
            let bytes = [N::row_bytes(attention.width), N::row_bytes(width)];
            let step = bytes.map(|bytes| 8 * W * bytes / width);
            let next_keys = keys.wrapping_add(KEYS * bytes[0] + at * KEYS * bytes[0] / width);
            let next_values = values.wrapping_add(KEYS * bytes[1] + at * KEYS * bytes[1] / width);
            for key in 0..self.keys.len() {
                let mut splats = [S::splat(0.0); Q];
                for (splat, weights) in splats.iter_mut().zip(weights) {
                    *splat = S::splat(weights[key]);
                }
                let values = values.add(key * bytes[1]);
                if self.first == 0 {
                    S::prefetch(next_keys.wrapping_add(key * step[0]));
                    S::prefetch(next_values.wrapping_add(key * step[1]));
                }
                for w in 0..W {
                    let value = if WHOLE {
                        N::load_value::<S>(values, width, at + 8 * w)
                    } else {
                        N::load_some::<S>(values, width, at + 8 * w)
                    };
                    for (sums, &weight) in sums.iter_mut().zip(&splats) {
                        sums[w] = S::fma(weight, value, sums[w]);
                    }
                }
            }
            for (q, sums) in sums.into_iter().enumerate() {
                for (w, sum) in sums.into_iter().enumerate() {
                    S::store(rows.add(q * stride + at + 8 * w), sum);
                }
            }
        }
    }
}

/// The bytes of some floats.
fn as_bytes(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: every float is four bytes, and any four bytes are a float.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 4 * floats.len()) }
}
