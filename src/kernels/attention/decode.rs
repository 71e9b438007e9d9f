//! Attention of a few rows: the cache is read once, for all query heads that share it.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::super::number::Number;
use super::super::scratch::Scratch;
use super::super::simd::Simd;
use super::softmax::Running;
use super::{Call, Group, Plan};

/// Keys of a block: theirs and their values' bytes stay in the nearest cache between their uses.
const KEYS: usize = 32;

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
    /// Pieces of about `length` keys, and where partial results end. Theirs begin at `partials`.
    pub(super) fn cut(
        group: Group<'a>,
        length: usize,
        partials: usize,
        done: usize,
    ) -> (impl Iterator<Item = Self>, usize) {
        let keys = group.keys();
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
        let query_stride = self.group.attention.width.next_multiple_of(8);
        let mut queries = Scratch::new(self.group.rows() * query_stride);
        let rows = queries.chunks_exact_mut(query_stride).enumerate();
        for (row, query) in rows.take(self.group.rows()) {
            query[self.group.attention.width..].fill(0.0);
            self.group.query(row, call.queries, query);
        }
        for start in self.keys.clone().step_by(KEYS) {
            let keys = start..self.keys.end.min(start + KEYS);
            self.block::<S, N>(keys, &queries, sums, states);
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
        queries: &[f32],
        sums: &mut [f32],
        states: &mut [[f32; 2]],
    ) {
        let (stride, _) = partial(self.group);
        let query_stride = self.group.attention.width.next_multiple_of(8);
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
    queries: &'a [f32],
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
            let ahead = if self.first == 0 {
                values
            } else {
                std::ptr::null()
            };
            let mut key = 0;
            while key + K <= count {
                self.scores::<S, N, Q, K>(keys, key, ahead, &mut scores);
                key += K;
            }
            while key < count {
                self.scores::<S, N, Q, 1>(keys, key, ahead, &mut scores);
                key += 1;
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
        let next = keys.wrapping_add(KEYS * attention.width * N::BYTES);
        // SAFETY: as above; sums are `Q` rows.
        unsafe {
            let width = attention.value_width;
            let mut at = 0;
            while at + 8 * W <= width {
                self.sums::<S, N, Q, W, true>(next, values, at, &scores, &factors);
                at += 8 * W;
            }
            while at + 8 <= width {
                self.sums::<S, N, Q, 1, true>(next, values, at, &scores, &factors);
                at += 8;
            }
            if at < width {
                self.sums::<S, N, Q, 1, false>(next, values, at, &scores, &factors);
            }
        }
    }

    /// Scores of keys `key..key + K` of the block. Asks for the values of these keys if `ahead` is
    /// where the block's values are.
    ///
    /// # Safety
    /// `keys` is valid for those keys; queries are `Q` rows.
    #[inline(always)]
    unsafe fn scores<S: Simd, N: Number, const Q: usize, const K: usize>(
        &self,
        keys: *const u8,
        key: usize,
        ahead: *const u8,
        scores: &mut Scores,
    ) {
        let attention = self.piece.group.attention;
        let width = attention.width;
        let stride = width.next_multiple_of(8);
        if !ahead.is_null() {
            let bytes = attention.value_width * N::BYTES;
            for at in (key * bytes..(key + K) * bytes).step_by(64) {
                S::prefetch(ahead.wrapping_add(at));
            }
        }
        let mut sums = [[S::splat(0.0); Q]; K];
        // SAFETY: all indices stay within the keys and queries.
        unsafe {
            let keys = keys.add(key * width * N::BYTES);
            let queries = self.queries.as_ptr();
            let whole = width / 8 * 8;
            let mut eight = [S::splat(0.0); K];
            for at in (0..whole).step_by(8) {
                for (k, key) in eight.iter_mut().enumerate() {
                    *key = N::load::<S>(keys.add((k * width + at) * N::BYTES));
                }
                multiply::<S, Q, K>(&mut sums, queries.add(at), stride, eight);
            }
            if whole < width {
                for (k, key) in eight.iter_mut().enumerate() {
                    let from = keys.add((k * width + whole) * N::BYTES);
                    *key = N::load_some::<S>(from, width - whole);
                }
                multiply::<S, Q, K>(&mut sums, queries.add(whole), stride, eight);
            }
        }
        let mut set = |i: usize, score: f32| scores[i / K][key + i % K] = score;
        let sum = |i: usize| sums[i % K][i / K];
        let mut i = 0;
        while i + 4 <= Q * K {
            let four = S::sum4([sum(i), sum(i + 1), sum(i + 2), sum(i + 3)]);
            for (j, score) in four.into_iter().enumerate() {
                set(i + j, score);
            }
            i += 4;
        }
        while i < Q * K {
            set(i, S::sum(sum(i)));
            i += 1;
        }
    }

    /// Scales sums by the factors and adds the block's weighted values, in `W` vectors of columns
    /// from `at` on; the last may be part of one, unless all are `WHOLE`.
    ///
    /// # Safety
    /// `values` is valid for the block's values; sums are `Q` rows.
    #[inline(always)]
    unsafe fn sums<S: Simd, N: Number, const Q: usize, const W: usize, const WHOLE: bool>(
        &mut self,
        next: *const u8,
        values: *const u8,
        at: usize,
        weights: &Scores,
        factors: &[f32; Q],
    ) {
        let width = self.piece.group.attention.value_width;
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
            if self.first == 0 {
                // Spread over the tile, so that the memory never rests.
                let lines = at * KEYS * N::BYTES..(at + 8 * W) * KEYS * N::BYTES;
                for line in lines.step_by(64) {
                    S::prefetch(next.wrapping_add(line));
                }
            }
            for key in 0..self.keys.len() {
                let mut splats = [S::splat(0.0); Q];
                for (splat, weights) in splats.iter_mut().zip(weights) {
                    *splat = S::splat(weights[key]);
                }
                let values = values.add((key * width + at) * N::BYTES);
                for w in 0..W {
                    let from = values.add(8 * w * N::BYTES);
                    let value = if WHOLE {
                        N::load::<S>(from)
                    } else {
                        N::load_some::<S>(from, width - at - 8 * w)
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

/// Adds products of eight dimensions of `K` keys and of `Q` queries, `stride` apart.
///
/// # Safety
/// The pointer is valid for the queries.
#[inline(always)]
unsafe fn multiply<S: Simd, const Q: usize, const K: usize>(
    sums: &mut [[S::Floats; Q]; K],
    queries: *const f32,
    stride: usize,
    keys: [S::Floats; K],
) {
    for q in 0..Q {
        // SAFETY: the caller's promise.
        let query = unsafe { S::load(queries.add(q * stride)) };
        for (sums, &key) in sums.iter_mut().zip(&keys) {
            sums[q] = S::fma(query, key, sums[q]);
        }
    }
}
