//! Tiles of bfloat16, and the product of two by two of them.

use std::marker::PhantomData;

use super::super::activations::BLOCK;
use super::super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::super::simd::amx;

/// Lines of a tile: tokens or rows.
pub(in super::super) const LINES: usize = 16;

/// Lines that are multiplied at once: two tiles of each.
pub(in super::super) const SIDE: usize = 2 * LINES;

/// Pairs of a block of columns. Columns `i` and `16 + i` lie side by side, the first in the lower bits: what one
/// instruction multiplies and adds.
pub(in super::super) const PAIRS: usize = BLOCK / 2;

/// Pairs of a tile. One of tokens is `[16][pairs]`, one of rows `[pairs][16]`.
pub(in super::super) const TILE: usize = LINES * PAIRS;

/// The pairs of a block of floats.
///
/// # Safety
/// `x` is valid for a block, `to` for its pairs.
#[inline(always)]
pub(in super::super) unsafe fn pair<S: Simd>(x: *const f32, to: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        for at in [0, 8] {
            let pairs = S::bfloat_pairs(S::load(x.add(at)), S::load(x.add(PAIRS + at)));
            S::store_bytes(to.add(at).cast(), pairs);
        }
    }
}

/// The pairs of what is lost of a block of floats by [`pair`].
///
/// # Safety
/// As for [`pair`].
#[inline(always)]
pub(in super::super) unsafe fn pair_rests<S: Simd>(x: *const f32, to: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        for at in [0, 8] {
            let [low, high] = [S::load(x.add(at)), S::load(x.add(PAIRS + at))];
            let pairs = S::bfloat_pairs(S::bfloat_rest(low), S::bfloat_rest(high));
            S::store_bytes(to.add(at).cast(), pairs);
        }
    }
}

/// The tiles of this thread, made ready for use until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Tiled(PhantomData<*const ()>);

impl Tiled {
    pub(in super::super) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if amx::is_there() {
            // SAFETY: they are there.
            unsafe { amx::configure() };
        }
        Self(PhantomData)
    }

    /// The products of two tiles of tokens with two of rows, over so many blocks of columns; lines of `out` are `stride`
    /// floats apart. There are `P` tiles of tokens for each block: the numbers, and their rests.
    ///
    /// # Safety
    /// Pointers are valid for so many tiles, one after the other, at least one, and for 32 lines of 32 floats. `P` is 1 or 2.
    #[expect(
        clippy::unused_self,
        reason = "that it is there is what makes the tiles ready"
    )]
    #[inline]
    pub(in super::super) unsafe fn multiply<const P: usize>(
        &self,
        x: [*const u32; 2],
        weights: [*const u32; 2],
        blocks: usize,
        out: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's promise; the tiles are ready.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if amx::is_there() {
                match P {
                    1 => amx::multiply(x, weights, blocks, out, 4 * stride),
                    _ => amx::multiply_with_rests(x, weights, blocks, out, 4 * stride),
                }
                return;
            }
            multiply_plainly::<P>(x, weights, blocks, out, stride);
        }
    }
}

impl Drop for Tiled {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if amx::is_there() {
            // SAFETY: they are there.
            unsafe { amx::release() };
        }
    }
}

/// The same in plain loops: what stands in for tiles in tests on processors that have none.
///
/// # Safety
/// As for [`Tiled::multiply`].
unsafe fn multiply_plainly<const P: usize>(
    x: [*const u32; 2],
    weights: [*const u32; 2],
    blocks: usize,
    out: *mut f32,
    stride: usize,
) {
    let [first, second] = [|pair: u32| pair << 16, |pair: u32| pair & 0xffff_0000];
    for (token, row) in (0..SIDE).flat_map(|token| (0..SIDE).map(move |row| (token, row))) {
        let mut sum = 0.0;
        for (tile, pair) in
            (0..P * blocks).flat_map(|tile| (0..PAIRS).map(move |pair| (tile, pair)))
        {
            // SAFETY: the caller's promise.
            let [x, w] = unsafe {
                let x = x[token / LINES].add(tile * TILE + token % LINES * PAIRS + pair);
                let w = weights[row / LINES].add(tile / P * TILE + pair * LINES + row % LINES);
                [*x, *w]
            };
            sum += f32::from_bits(first(x)) * f32::from_bits(first(w));
            sum += f32::from_bits(second(x)) * f32::from_bits(second(w));
        }
        // SAFETY: the caller's promise.
        unsafe { *out.add(token * stride + row) = sum };
    }
}
