//! Rows of split codes, whose chunks are multiplied by pairs.

use super::{Stream, begun};
use crate::kernels::codes::{CHUNK, Codes, nibbles};
use crate::kernels::simd::{Lanes, Simd};
use crate::kernels::tiles::{Vectors, in_pairs};

impl Vectors<'_> {
    /// As [`Self::rows`], of split codes: sixteen lanes have both chunks of a pair side by side.
    ///
    /// # Safety
    /// The tokens are a tile, and the streams are at a row.
    #[inline(always)]
    pub(super) unsafe fn split_rows<
        S: Simd,
        C: Codes,
        const GROUP: usize,
        const N: usize,
        const T: usize,
    >(
        &self,
        token: usize,
        row_bytes: usize,
        streams: &[Stream; N],
    ) -> [[S::Floats; T]; N] {
        // SAFETY: the caller's promise.
        let mut totals = unsafe { begun::<S, N, T>(token, streams) };
        // Closures would not have the instructions.
        let zero = <S::Widest as Lanes>::splat(0.0);
        let mut sums = [[zero; T]; N];
        for (sums, totals) in sums.iter_mut().zip(&totals) {
            for (sums, total) in sums.iter_mut().zip(totals) {
                *sums = S::widened(*total);
            }
        }
        let chunks = row_bytes.div_ceil(C::BYTES);
        let (whole, record) = (row_bytes / C::BYTES, self.tiles.record);
        // SAFETY: the tokens have as many pairs of chunks as the rows, and there are scales for all groups, and zeros up
        // to eights.
        unsafe {
            let x = self.tiles.chunks.as_ptr();
            let mut x = x.add(token * in_pairs(chunks) * record);
            let mut chunk = 0;
            while chunk + 2 <= whole {
                for (sums, stream) in sums.iter_mut().zip(streams) {
                    let from = stream.codes.add(chunk * C::BYTES);
                    // Once for each cache line.
                    if S::AHEAD > 0 {
                        S::prefetch_far(from.wrapping_add(S::AHEAD));
                    }
                    let scales = stream.scales.add(chunk * CHUNK / GROUP);
                    add_pair::<S::Widest, C, GROUP, T>(sums, from, x, scales);
                }
                x = x.add(2 * T * record);
                chunk += 2;
            }
            // What is left may end within a chunk; what of its scales is not there meets zeros.
            if chunk < chunks {
                for (sums, stream) in sums.iter_mut().zip(streams) {
                    let mut tail = [0; 2 * CHUNK];
                    let from = stream.codes.add(chunk * C::BYTES);
                    let count = row_bytes - chunk * C::BYTES;
                    std::ptr::copy_nonoverlapping(from, tail.as_mut_ptr(), count);
                    let scales = stream.scales.add(chunk * CHUNK / GROUP);
                    add_pair::<S::Widest, C, GROUP, T>(sums, tail.as_ptr(), x, scales);
                }
            }
        }
        for (totals, sums) in totals.iter_mut().zip(&sums) {
            for (total, sums) in totals.iter_mut().zip(sums) {
                *total = S::folded(*sums);
            }
        }
        totals
    }
}

/// Adds a pair of chunks of a row for the `T` tokens of a tile.
///
/// # Safety
/// `codes` and `scales` are valid for two chunks, `x` for two chunks of the tile.
#[inline(always)]
unsafe fn add_pair<L: Lanes, C: Codes, const GROUP: usize, const T: usize>(
    sums: &mut [L::Floats; T],
    codes: *const u8,
    x: *const u8,
    scales: *const f32,
) {
    for i in 0..16 / L::LANES {
        // SAFETY: the caller's promise.
        unsafe {
            let [even, odd] = nibbles::<L, C>(codes.add(C::BYTES * i));
            let scales = L::group_scales::<GROUP>(scales.add(CHUNK * i / GROUP));
            for (t, sums) in sums.iter_mut().enumerate() {
                let x_of = x.add(2 * CHUNK * t + C::BYTES * i);
                let factors = x.add(2 * CHUNK * T + CHUNK * t + C::BYTES * i);
                let products = L::dot(L::zero_sums(), even, L::load_bytes(x_of));
                let products = L::dot(products, odd, L::load_bytes(x_of.add(CHUNK)));
                let products = L::scaled(products, L::load_bytes(factors));
                *sums = L::fma(products, scales, *sums);
            }
        }
    }
}
