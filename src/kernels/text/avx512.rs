//! What bytes are, told by AVX-512.

use std::arch::x86_64::*;
use std::ops::RangeInclusive;

use super::{BLOCK, Block};

/// Bits for so many bytes.
fn there(count: usize) -> u64 {
    if count < BLOCK {
        !(u64::MAX << count)
    } else {
        u64::MAX
    }
}

/// A block of bytes; what is missing is zero.
///
/// # Safety
/// The processor must have AVX-512BW.
#[inline]
#[target_feature(enable = "avx512bw")]
unsafe fn load(bytes: &[u8]) -> __m512i {
    // A copy with zeros behind it would have to be waited for.
    // SAFETY: nothing is read but bytes that are there.
    unsafe { _mm512_maskz_loadu_epi8(there(bytes.len()), bytes.as_ptr().cast()) }
}

/// # Safety
/// The processor must have AVX-512BW.
#[inline]
#[target_feature(enable = "avx512bw")]
pub(super) unsafe fn within(bytes: &[u8], range: &RangeInclusive<u8>) -> u64 {
    let [low, high] = [*range.start(), *range.end()];
    let there = there(bytes.len());
    // SAFETY: the processor has what the function needs.
    let bytes = unsafe { load(bytes) };
    let above = _mm512_sub_epi8(bytes, _mm512_set1_epi8(low as i8));
    there & _mm512_cmple_epu8_mask(above, _mm512_set1_epi8((high - low) as i8))
}

/// What is missing is nothing.
///
/// # Safety
/// The processor must have AVX-512BW.
#[inline]
#[target_feature(enable = "avx512bw")]
pub(super) unsafe fn block(bytes: &[u8]) -> Block {
    // SAFETY: the processor has what the function needs.
    let bytes = unsafe { load(bytes) };
    let all = |byte: u8| _mm512_set1_epi8(byte as i8);
    let is = |byte| _mm512_cmpeq_epi8_mask(bytes, all(byte));
    let within = |bytes, low: u8, high: u8| {
        _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, all(low)), all(high - low))
    };
    let letters = within(_mm512_or_si512(bytes, all(0x20)), b'a', b'z');
    let digits = within(bytes, b'0', b'9');
    let lines = is(b'\r') | is(b'\n');
    Block {
        letters,
        upper: within(bytes, b'A', b'Z'),
        digits,
        blank: is(b' '),
        lines,
        tabs: within(bytes, b'\t', b'\r') & !lines,
        marks: within(bytes, b'!', b'~') & !letters & !digits,
        apostrophes: is(b'\''),
    }
}
