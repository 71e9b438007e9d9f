//! Rows of packed weights times a few vectors of int8 activations: a decode step, bound by memory.

mod pairs;

use std::marker::PhantomData;
use std::ops::Range;

use super::codes::{Bits, CHUNK, Codes, Floats4, Nibbles, Wide};
use super::matrix::{Format, Matrix};
use super::scratch::Scratch;
use super::simd::{self, Kernel, Simd};
use super::starts::Begin;
use super::tiles::{Vectors, scale_lanes, tile};

/// Rows of a part whose scales are made floats at once: they stay in the nearest cache.
const ROWS: usize = 16;

/// `out[token][i] = W[rows.start + i] · x[token]` for packed integer formats. What a token gives does
/// not depend on the others.
pub(super) fn multiply(matrix: &Matrix, rows: Range<usize>, x: &Vectors<'_>, out: &mut [f32]) {
    if x.units.is_empty() {
        return;
    }
    let arguments = Arguments {
        matrix,
        rows,
        x,
        out,
    };
    match matrix.format() {
        Format::Affine { bits: 2, .. } => arguments.start::<Bits<2>>(),
        Format::Affine { bits: 3, .. } => arguments.start::<Bits<3>>(),
        Format::Affine { bits: 4, .. } => arguments.start::<Nibbles>(),
        Format::Affine { bits: 5, .. } => arguments.start::<Bits<5>>(),
        Format::Affine { bits: 6, .. } => arguments.start::<Bits<6>>(),
        Format::Affine { .. } => arguments.start::<Wide>(),
        Format::Mxfp4 | Format::Nvfp4 => arguments.start::<Floats4>(),
        Format::Mxfp8 | Format::Dense(_) => unreachable_format(matrix),
    }
}

/// Formats without integers have kernels of their own; calling one of these is a mistake in this
/// room.
#[cold]
pub(super) fn unreachable_format(matrix: &Matrix) {
    debug_assert!(false, "{:?} has no integer codes", matrix.format());
}

struct Arguments<'a> {
    matrix: &'a Matrix,
    rows: Range<usize>,
    x: &'a Vectors<'a>,
    out: &'a mut [f32],
}

impl<'a> Arguments<'a> {
    fn start<C: Codes>(self) {
        match self.matrix.format().group() {
            16 => self.start_with::<C, 16>(),
            32 => self.start_with::<C, 32>(),
            64 => self.start_with::<C, 64>(),
            _ => self.start_with::<C, 128>(),
        }
    }

    fn start_with<C: Codes, const GROUP: usize>(self) {
        if self.x.units.len() == 1 {
            simd::run(One(Rows::<'a, C, GROUP>(self, PhantomData)));
        } else {
            simd::run(Few(Rows::<'a, C, GROUP>(self, PhantomData)));
        }
    }
}

struct Rows<'a, C, const GROUP: usize>(Arguments<'a>, PhantomData<C>);

/// Of one token: more rows are read at once. It is compiled by itself, since registers are scarce.
struct One<'a, C, const GROUP: usize>(Rows<'a, C, GROUP>);

/// Of a few tokens, which need more registers, and less of the memory.
struct Few<'a, C, const GROUP: usize>(Rows<'a, C, GROUP>);

impl<C: Codes, const GROUP: usize> Kernel for One<'_, C, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        self.0.side_by_side::<S, 4, true>();
    }
}

impl<C: Codes, const GROUP: usize> Kernel for Few<'_, C, GROUP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        if S::REGISTERS > 16 {
            self.0.side_by_side::<S, 2, false>();
        } else {
            self.0.side_by_side::<S, 1, false>();
        }
    }
}

impl<C: Codes, const GROUP: usize> Rows<'_, C, GROUP> {
    /// All rows, one of each of `N` parts at a time: the memory brings a few distant streams faster
    /// than one.
    #[inline(always)]
    fn side_by_side<S: Simd, const N: usize, const ONE: bool>(&mut self) {
        let Range { start, end } = self.0.rows;
        let part = (end - start) / N;
        for row in (0..part).step_by(ROWS) {
            self.block::<S, N, ONE>(start + row, part, ROWS.min(part - row));
        }
        for row in (start + N * part..end).step_by(ROWS) {
            self.block::<S, 1, ONE>(row, 0, ROWS.min(end - row));
        }
    }

    /// `count` rows from `first` on of each of `N` parts, so far apart. Their scales and biases, which
    /// lie row after row, are made floats at once.
    #[inline(always)]
    fn block<S: Simd, const N: usize, const ONE: bool>(
        &mut self,
        first: usize,
        distance: usize,
        count: usize,
    ) {
        let Arguments { matrix, x, .. } = self.0;
        let (tokens, stride) = (x.units.len(), x.stride);
        let (scales, starts) = (count * stride, count * 8 * tokens);
        let mut scratch = Scratch::new(N * (scales + starts) + scales);
        let (biases, numbers) = scratch.split_at_mut(scales);
        let mut streams = [Stream::NONE; N];
        let parts = numbers.chunks_exact_mut(scales + starts);
        for (i, (stream, numbers)) in streams.iter_mut().zip(parts).enumerate() {
            let rows = first + i * distance..first + i * distance + count;
            let (scales, starts) = numbers.split_at_mut(scales);
            *stream = Stream {
                codes: matrix.codes_of(rows.clone()).as_ptr(),
                scales: scales.as_ptr(),
                starts: starts.as_ptr(),
            };
            simd::run(Begin {
                matrix,
                rows,
                offset: offset::<S, C>(),
                x,
                scales,
                biases,
                starts,
            });
        }
        let width = self.0.rows.len();
        let out = &mut self.0.out[first - self.0.rows.start..];
        assert!(out.len() >= (tokens - 1) * width + (N - 1) * distance + count);
        let mut token = 0;
        while token < tokens {
            let size = if ONE { 1 } else { tile(tokens - token) };
            let block = Block {
                token,
                count,
                row_bytes: matrix.row_bytes(),
                streams,
                out: out[token * width..].as_mut_ptr(),
                width,
                distance,
            };
            // SAFETY: the streams are at the first row, the tokens are a tile, and there is room.
            unsafe {
                match size {
                    4 => x.multiply::<S, C, GROUP, N, 4>(block),
                    2 => x.multiply::<S, C, GROUP, N, 2>(block),
                    _ => x.multiply::<S, C, GROUP, N, 1>(block),
                }
            }
            token += size;
        }
    }
}

/// Rows of each of `N` streams, for a tile of tokens, which stays in the nearest cache meanwhile.
struct Block<const N: usize> {
    /// The first of the tile.
    token: usize,
    /// Rows of each stream.
    count: usize,
    row_bytes: usize,
    streams: [Stream; N],
    /// `[T][width]`, rows of a stream one after the other, streams `distance` apart.
    out: *mut f32,
    width: usize,
    distance: usize,
}

/// Rows of weights one after the other: where the next one's numbers are.
#[derive(Clone, Copy)]
struct Stream {
    codes: *const u8,
    /// One a group, and zeros up to eights.
    scales: *const f32,
    /// Eight a token, whose sum is what the biases add.
    starts: *const f32,
}

impl Stream {
    const NONE: Self = Self {
        codes: std::ptr::null(),
        scales: std::ptr::null(),
        starts: std::ptr::null(),
    };
}

/// What is added to codes, in units of the scales.
#[inline(always)]
fn offset<S: Simd, C: Codes>() -> f32 {
    let wide = if C::WIDE { S::WIDE_OFFSET } else { 0 };
    C::OFFSET / C::UNIT + f32::from(wide)
}

impl Vectors<'_> {
    /// Stores the products of a tile of `T` tokens.
    ///
    /// # Safety
    /// The tokens are a tile, the streams have as many rows, and there is room.
    #[inline(always)]
    unsafe fn multiply<S: Simd, C: Codes, const GROUP: usize, const N: usize, const T: usize>(
        &self,
        mut block: Block<N>,
    ) {
        let tokens = self.units.len();
        let mut units = [0.0; T];
        for (t, unit) in units.iter_mut().enumerate() {
            *unit = C::UNIT * self.units[block.token + t];
        }
        let mut totals = [[[0.0; 4]; ROWS]; N];
        for row in 0..block.count {
            // SAFETY: the caller's promise.
            let sums = unsafe {
                self.rows::<S, C, GROUP, N, T>(block.token, block.row_bytes, &block.streams)
            };
            // Of one token the sums of all rows, or of one row those of all tokens, always by the same
            // function: a token's do not depend on the others.
            if T == 1 {
                let mut all = [S::splat(0.0); 4];
                for (all, sums) in all.iter_mut().zip(&sums) {
                    *all = sums[0];
                }
                for (i, sum) in S::sum4(all).into_iter().take(N).enumerate() {
                    // SAFETY: there is room.
                    unsafe { *block.out.add(i * block.distance + row) = sum * units[0] };
                }
            } else {
                for (totals, sums) in totals.iter_mut().zip(&sums) {
                    let mut all = [S::splat(0.0); 4];
                    all[..T].copy_from_slice(sums);
                    totals[row] = S::sum4(all);
                }
            }
            for stream in &mut block.streams {
                stream.codes = stream.codes.wrapping_add(block.row_bytes);
                stream.scales = stream.scales.wrapping_add(self.stride);
                stream.starts = stream.starts.wrapping_add(8 * tokens);
            }
        }
        if T == 1 {
            return;
        }
        for (i, totals) in totals.iter().enumerate() {
            for (t, unit) in units.iter().enumerate() {
                let out = block.out.wrapping_add(t * block.width + i * block.distance);
                for (row, totals) in totals.iter().enumerate().take(block.count) {
                    // SAFETY: there is room.
                    unsafe { *out.add(row) = totals[t] * unit };
                }
            }
        }
    }

    /// The products of `T` tokens with `N` rows of so many bytes: eight sums each.
    ///
    /// # Safety
    /// The tokens are a tile, and the streams are at a row.
    #[inline(always)]
    unsafe fn rows<S: Simd, C: Codes, const GROUP: usize, const N: usize, const T: usize>(
        &self,
        token: usize,
        row_bytes: usize,
        streams: &[Stream; N],
    ) -> [[S::Floats; T]; N] {
        if C::SPLIT {
            // SAFETY: the caller's promise.
            return unsafe { self.split_rows::<S, C, GROUP, N, T>(token, row_bytes, streams) };
        }
        // SAFETY: the caller's promise.
        let mut sums = unsafe { begun::<S, N, T>(token, streams) };
        let (whole, record) = (row_bytes / C::BYTES, T * self.tiles.record);
        let chunks = row_bytes.div_ceil(C::BYTES);
        // Chunks of a cache line.
        let line = const { if 64 % C::BYTES == 0 { 64 / C::BYTES } else { 1 } };
        // SAFETY: the tokens have as many chunks as the rows, and there are scales for all groups and
        // more.
        unsafe {
            let mut x = self
                .tiles
                .chunks
                .as_ptr()
                .add(token * chunks * self.tiles.record);
            let mut chunk = 0;
            while chunk + line <= whole {
                for i in 0..line {
                    for (sums, stream) in sums.iter_mut().zip(streams) {
                        let from = stream.codes.add((chunk + i) * C::BYTES);
                        // Once for each cache line.
                        if S::AHEAD > 0 && i == 0 && (line > 1 || chunk * C::BYTES % 64 < C::BYTES)
                        {
                            S::prefetch_far(from.wrapping_add(S::AHEAD));
                        }
                        let scales = stream.scales.add((chunk + i) * CHUNK / GROUP);
                        add_chunk::<S, C, GROUP, T>(sums, x, from, scales);
                    }
                    x = x.add(record);
                }
                chunk += line;
            }
            // What is left may end within a chunk; what of its scales is not there meets zeros.
            while chunk < chunks {
                for (sums, stream) in sums.iter_mut().zip(streams) {
                    let mut tail = [0; CHUNK];
                    let count = C::BYTES.min(row_bytes - chunk * C::BYTES);
                    let from = stream.codes.add(chunk * C::BYTES);
                    std::ptr::copy_nonoverlapping(from, tail.as_mut_ptr(), count);
                    let scales = stream.scales.add(chunk * CHUNK / GROUP);
                    add_chunk::<S, C, GROUP, T>(sums, x, tail.as_ptr(), scales);
                }
                x = x.add(record);
                chunk += 1;
            }
        }
        sums
    }
}

/// The sums of `T` tokens as they begin.
///
/// # Safety
/// The streams are at a row.
#[inline(always)]
unsafe fn begun<S: Simd, const N: usize, const T: usize>(
    token: usize,
    streams: &[Stream; N],
) -> [[S::Floats; T]; N] {
    let mut sums = [[S::splat(0.0); T]; N];
    for (sums, stream) in sums.iter_mut().zip(streams) {
        for (t, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sums = unsafe { S::load(stream.starts.add(8 * (token + t))) };
        }
    }
    sums
}

/// Adds one chunk of a row for the `T` tokens of a tile, of codes that are not split.
///
/// # Safety
/// `x` is valid for a chunk of the tile, `codes` for a chunk, `scales` for its groups.
#[inline(always)]
unsafe fn add_chunk<S: Simd, C: Codes, const GROUP: usize, const T: usize>(
    sums: &mut [S::Floats; T],
    x: *const u8,
    codes: *const u8,
    scales: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let weights = C::chunk::<S>(codes);
        let x_scales = x.add(T * CHUNK);
        for (i, weights) in weights.into_iter().enumerate() {
            let scale = S::splat(if GROUP == 32 { *scales.add(i) } else { *scales });
            for (t, sums) in sums.iter_mut().enumerate() {
                let x = S::load_bytes(x.add(t * CHUNK + 32 * i));
                let products = if C::WIDE {
                    S::products_wide(weights, x)
                } else {
                    S::dot(S::zero_sums(), weights, x)
                };
                let x_scales = x_scales.add(4 * (t * scale_lanes(C::SPLIT) + i));
                let x_scales = S::splat_word(x_scales.cast());
                *sums = S::fma(S::scaled(products, x_scales), scale, *sums);
            }
        }
    }
}
