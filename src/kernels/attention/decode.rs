//! Attention of a few rows: the cache is read once, for all query heads that share it.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::super::number::{Number, POSITIONS, SUMS, Weighted};
use super::super::scratch::Scratch;
use super::super::simd::Simd;
use super::softmax::Running;
use super::{Call, Group, Plan};

/// Keys of a block: theirs and their values' bytes, and those of the next block, stay in the nearest
/// cache.
const KEYS: usize = POSITIONS;

/// Bytes of a line of the caches.
const LINE: usize = 64;

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
    let stride = group.attention.value_width.next_multiple_of(SUMS);
    (stride, group.rows() * (stride + 2))
}

impl<'a> Piece<'a> {
    /// Pieces of about `length` keys, and where partial results end. Theirs begin at `partials`. All
    /// begin with a block, so that none reaches over the end of a page, and that what is rounded in
    /// blocks does not depend on where a window begins.
    pub(super) fn cut(
        group: Group<'a>,
        length: usize,
        partials: usize,
        done: usize,
    ) -> (impl Iterator<Item = Self>, usize) {
        let mut keys = group.keys();
        keys.start -= keys.start % KEYS;
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
        let visible: Vec<_> = (0..self.group.rows())
            .map(|row| self.group.visible(row))
            .collect();
        let mut scores = [[0.0; KEYS]; QUERIES];
        let mut start = self.keys.start;
        while start < self.keys.end {
            let keys = start..self.keys.end.min(start + KEYS);
            self.block::<S, N>(keys, queries, &visible, &mut scores, sums, states);
            start += KEYS;
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
        visible: &[Range<usize>],
        scores: &mut Scores,
        sums: &mut [f32],
        states: &mut [[f32; 2]],
    ) {
        let (stride, _) = partial(self.group);
        let query_stride = N::query_bytes(self.group.attention.width);
        let mut first = 0;
        while first < states.len() {
            let count = QUERIES.min(states.len() - first);
            let tile = Tile {
                piece: self,
                keys: keys.clone(),
                first,
                queries: &queries[first * query_stride..][..count * query_stride],
                visible: &visible[first..first + count],
                scores: &mut *scores,
                sums: &mut sums[first * stride..][..count * stride],
                states: &mut states[first..first + count],
            };
            match count {
                1 => tile.run::<S, N, 1, 4, 8>(),
                2 => tile.run::<S, N, 2, 4, 4>(),
                3 => tile.run::<S, N, 3, 2, 2>(),
                _ => tile.run::<S, N, 4, 2, 2>(),
            }
            first += QUERIES;
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
    /// What each query sees.
    visible: &'a [Range<usize>],
    scores: &'a mut Scores,
    sums: &'a mut [f32],
    states: &'a mut [[f32; 2]],
}

/// Scores of a tile's queries, then their weights.
type Scores = [[f32; KEYS]; QUERIES];

impl Tile<'_> {
    /// `Q` queries; `K` keys at once for the scores, `W` vectors of values at once for the sums.
    #[inline(always)]
    fn run<S: Simd, N: Number, const Q: usize, const K: usize, const W: usize>(self) {
        let group = self.piece.group;
        let attention = group.attention;
        let count = self.keys.len();
        let (keys, values) = group.cached::<N>(self.keys.start);
        let scores = self.scores;
        // Memory is asked for once for all rows: values while their keys are used, and the next block's
        // keys while the values are.
        let is_first = self.first == 0;
        // SAFETY: the cache holds the keys and values of `count` positions from here on, and the
        // queries are `Q` rows.
        unsafe {
            let bytes = N::row_bytes(attention.width);
            let value_bytes = N::row_bytes(attention.value_width);
            let mut key = 0;
            while key < count {
                if is_first {
                    let values = values.add(key * value_bytes);
                    for line in 0..(K.max(N::BLOCK) * value_bytes).div_ceil(LINE) {
                        S::prefetch(values.wrapping_add(line * LINE));
                    }
                }
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
            let visible = &self.visible[q];
            let within = |position: usize| position.clamp(self.keys.start, self.keys.end);
            let start = within(visible.start) - self.keys.start;
            let end = within(visible.end) - self.keys.start;
            let [highest, sum] = self.states[q];
            let mut running = Running { highest, sum };
            // SAFETY: a row of scores holds `KEYS`, a multiple of 8.
            *factor = unsafe {
                let scores = scores[q].as_mut_ptr();
                running.take::<S>(scores, (start, end.max(start)), length)
            };
            self.states[q] = [running.highest, running.sum];
        }
        let after = self.keys.start + KEYS;
        let next = if is_first && after < group.segment.length {
            let bytes = KEYS * N::row_bytes(attention.width);
            (group.cached::<N>(after).0, bytes)
        } else {
            (keys, 0)
        };
        let weighted = Weighted {
            values,
            count,
            width: attention.value_width,
            stride: attention.value_width.next_multiple_of(SUMS),
            weights: scores.as_ptr(),
            sums: self.sums.as_mut_ptr(),
            factors,
            next,
        };
        // SAFETY: as above; sums are `Q` rows.
        unsafe { N::add_values::<S, Q, W>(&weighted) };
    }
}

/// The bytes of some floats.
fn as_bytes(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: every float is four bytes, and any four bytes are a float.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 4 * floats.len()) }
}
