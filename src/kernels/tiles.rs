//! A few rows of int8 activations as rows of weights meet them: in tiles of rows that are multiplied at
//! once, chunk after chunk.

use super::activations::{Activations, BLOCK};
use super::codes::CHUNK;
use super::lines::Lines;
use super::matrix::Format;

/// Rows of activations as the rows of a matrix of one format meet them.
#[derive(Debug)]
pub(super) struct Vectors<'a> {
    pub(super) tiles: &'a Tiles,
    /// The format's groups, and zeros up to eights.
    pub(super) stride: usize,
    /// Over the groups, in units: of each tile of rows `[stride/8][rows of the tile][8]`.
    pub(super) sums: Lines<f32>,
    /// `[count]`
    pub(super) units: &'a [f32],
}

/// A few rows of activations, in tiles of rows that are multiplied at once.
#[derive(Debug)]
pub(super) struct Tiles {
    /// Bytes of a chunk of one row: its codes, and their scales for [`Lanes::scaled`], a lane each for
    /// split codes, and else one lane a vector.
    ///
    /// [`Lanes::scaled`]: super::simd::Lanes::scaled
    pub(super) record: usize,
    /// Tile after tile and chunk after chunk: the codes of each row of the tile, then its scales. Split codes come by
    /// two chunks, see [`place_in_pair`].
    pub(super) chunks: Lines<u8>,
}

/// Lanes of the scales of a chunk.
pub(super) const fn scale_lanes(split: bool) -> usize {
    if split { 8 } else { 2 }
}

/// Chunks of a row of split codes, with one of zeros where they are odd: two are multiplied at once.
pub(super) const fn in_pairs(chunks: usize) -> usize {
    chunks.next_multiple_of(2)
}

/// Where in a pair of chunks of a tile of `tokens` rows the halves of a row's chunk are, and its scales: of each row the
/// first halves of both chunks and the second ones, then of each row the scales of both chunks.
const fn place_in_pair(chunk: usize, token: usize, tokens: usize) -> [usize; 3] {
    let (codes, half) = (2 * CHUNK * token, CHUNK / 2 * (chunk % 2));
    let scales = 2 * CHUNK * tokens + CHUNK * token + half;
    [codes + half, codes + CHUNK + half, scales]
}

/// How many of so many tokens that are left are multiplied at once.
pub(super) fn tile(left: usize) -> usize {
    match left {
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Tiles of so many rows: the first of each, and how many.
fn each_tile(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let (first, size) = (next, tile(count - next));
        next = count.min(next + size);
        (first < count).then_some((first, size))
    })
}

impl Tiles {
    /// All rows of `x`, whose codes are split or not.
    pub(super) fn new(x: &Activations, split: bool) -> Self {
        if split {
            return Self::pairs(x);
        }
        let record = CHUNK + 4 * scale_lanes(split);
        let mut chunks = Lines::zeros(x.codes.len() / CHUNK * record);
        let mut rest: &mut [u8] = &mut chunks;
        for (first, size) in each_tile(x.units.len()) {
            for chunk in 0..x.stride / CHUNK {
                let (records, after) = rest.split_at_mut(size * record);
                rest = after;
                let (codes, scales) = records.split_at_mut(size * CHUNK);
                let codes = codes.as_chunks_mut::<CHUNK>().0.iter_mut();
                let scales = scales.chunks_exact_mut(record - CHUNK);
                for (token, (codes, scales)) in (first..).zip(codes.zip(scales)) {
                    let at = token * x.stride + chunk * CHUNK;
                    for (to, code) in codes.iter_mut().zip(&x.codes[at..]) {
                        *to = code.cast_unsigned();
                    }
                    let scales = scales.as_chunks_mut::<4>().0;
                    let halves = scales.chunks_exact_mut(scale_lanes(split) / 2);
                    for (lanes, scale) in halves.zip(&x.scales[at / BLOCK..]) {
                        lanes.fill(scale.factor);
                    }
                }
            }
        }
        Self { record, chunks }
    }

    /// All rows of `x`, whose codes are split.
    fn pairs(x: &Activations) -> Self {
        let record = CHUNK + 4 * scale_lanes(true);
        let (rows, count) = (x.units.len(), x.stride / CHUNK);
        let mut chunks = Lines::zeros(rows * in_pairs(count) * record);
        let mut rest: &mut [u8] = &mut chunks;
        for (first, size) in each_tile(rows) {
            for pair in (0..count).step_by(2) {
                let (records, after) = rest.split_at_mut(2 * size * record);
                rest = after;
                for chunk in pair..count.min(pair + 2) {
                    for token in 0..size {
                        let at = (first + token) * x.stride + chunk * CHUNK;
                        let [near, far, scales] = place_in_pair(chunk, token, size);
                        let halves = x.codes[at..at + CHUNK].chunks(CHUNK / 2);
                        for (to, half) in [near, far].into_iter().zip(halves) {
                            for (to, code) in records[to..].iter_mut().zip(half) {
                                *to = code.cast_unsigned();
                            }
                        }
                        let lanes = records[scales..scales + CHUNK / 2].as_chunks_mut::<4>().0;
                        let halves = lanes.chunks_exact_mut(scale_lanes(true) / 2);
                        for (lanes, scale) in halves.zip(&x.scales[at / BLOCK..]) {
                            lanes.fill(scale.factor);
                        }
                    }
                }
            }
        }
        Self { record, chunks }
    }
}

impl<'a> Vectors<'a> {
    /// All rows of `x`, which are in the order of the format, and in tiles.
    pub(super) fn new(x: &'a Activations, tiles: &'a Tiles, format: Format) -> Self {
        let (count, groups) = (x.units.len(), x.columns / format.group());
        let stride = groups.next_multiple_of(8);
        let mut laid = Lines::zeros(count * stride);
        let sums = x.group_sums(format.group());
        for (first, size) in each_tile(count) {
            let tile = &mut laid[first * stride..(first + size) * stride];
            for token in 0..size {
                let sums = &sums[(first + token) * groups..][..groups];
                for (eight, sums) in sums.chunks(8).enumerate() {
                    tile[8 * (eight * size + token)..][..sums.len()].copy_from_slice(sums);
                }
            }
        }
        Self {
            tiles,
            stride,
            sums: laid,
            units: &x.units,
        }
    }
}
