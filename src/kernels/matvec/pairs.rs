//! Rows of split codes, whose chunks are multiplied two at a time.

use super::{Stream, begun};
use crate::kernels::codes::{CHUNK, Codes};
use crate::kernels::simd::Simd;
use crate::kernels::tiles::{Vectors, in_pairs};

impl Vectors<'_> {
    /// As [`Self::rows`], of split codes, two chunks at a time.
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
        let mut sums = unsafe { begun::<S, N, T>(token, streams) };
        let chunks = row_bytes.div_ceil(C::BYTES);
        let (whole, record) = (row_bytes / C::BYTES, self.tiles.record);
        // SAFETY: the tokens have as many pairs of chunks as the rows, and there are scales for all groups.
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
                    let weights = [C::chunk::<S>(from), C::chunk::<S>(from.add(C::BYTES))];
                    let scales = [0, 1].map(|i| scale_of::<S, GROUP>(stream.scales, chunk + i));
                    S::add_pair::<T>(sums, weights, x, scales);
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
                    let tail = tail.as_ptr();
                    let weights = [C::chunk::<S>(tail), C::chunk::<S>(tail.add(C::BYTES))];
                    let mut scales = [S::splat(0.0); 2];
                    for (scale, chunk) in scales.iter_mut().zip(chunk..chunks) {
                        *scale = scale_of::<S, GROUP>(stream.scales, chunk);
                    }
                    S::add_pair::<T>(sums, weights, x, scales);
                }
            }
        }
        sums
    }
}

/// The scales of a chunk of split codes.
///
/// # Safety
/// There are those of its groups.
#[inline(always)]
unsafe fn scale_of<S: Simd, const GROUP: usize>(scales: *const f32, chunk: usize) -> S::Floats {
    // SAFETY: the caller's promise.
    unsafe {
        let scales = scales.add(chunk * CHUNK / GROUP);
        match GROUP {
            16 => S::pairs(scales),
            32 => S::halves(*scales, *scales.add(1)),
            _ => S::splat(*scales),
        }
    }
}
