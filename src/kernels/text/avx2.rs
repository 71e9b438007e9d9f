//! What bytes are, told by AVX2.

use std::arch::x86_64::*;
use std::ops::RangeInclusive;

use super::{BLOCK, Block};

/// A block of bytes, 64 at most; what is missing is zero.
///
/// # Safety
/// The processor must have AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(bytes: &[u8]) -> [__m256i; 2] {
    let mut padded = [0; BLOCK];
    let bytes = if let Ok(whole) = <&[u8; BLOCK]>::try_from(bytes) {
        whole
    } else {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    };
    // SAFETY: both loads lie within the 64 bytes.
    unsafe {
        [
            _mm256_loadu_si256(bytes.as_ptr().cast()),
            _mm256_loadu_si256(bytes.as_ptr().add(32).cast()),
        ]
    }
}

/// # Safety
/// The processor must have AVX2.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn within(bytes: &[u8], range: &RangeInclusive<u8>) -> u64 {
    let [low, high] = [*range.start(), *range.end()];
    let missing = if bytes.len() < BLOCK {
        u64::MAX << bytes.len()
    } else {
        0
    };
    // SAFETY: the processor has what the function needs.
    let halves = unsafe { load(bytes) };
    let most = _mm256_set1_epi8((high - low) as i8);
    let bits = halves.map(|bytes| {
        let above = _mm256_sub_epi8(bytes, _mm256_set1_epi8(low as i8));
        let inside = _mm256_cmpeq_epi8(_mm256_max_epu8(above, most), most);
        _mm256_movemask_epi8(inside).cast_unsigned()
    });
    (u64::from(bits[0]) | u64::from(bits[1]) << 32) & !missing
}

/// What is missing is nothing.
///
/// # Safety
/// The processor must have AVX2.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn block(bytes: &[u8]) -> Block {
    // SAFETY: the processor has what the function needs.
    let halves = unsafe { load(bytes) };
    let mut block = Block::default();
    for (half, bytes) in halves.into_iter().enumerate() {
        // Comparisons are of signed numbers: bytes from 0x80 on are below all others.
        let within = |bytes, low: u8, high: u8| {
            let above = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(low.wrapping_sub(1) as i8));
            let beyond = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(high as i8));
            _mm256_andnot_si256(beyond, above)
        };
        let is = |bytes, byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
        let bits = |mask| u64::from(_mm256_movemask_epi8(mask).cast_unsigned()) << (32 * half);
        let upper = within(bytes, b'A', b'Z');
        let letters = _mm256_or_si256(upper, within(bytes, b'a', b'z'));
        let digits = within(bytes, b'0', b'9');
        let lines = _mm256_or_si256(is(bytes, b'\r'), is(bytes, b'\n'));
        let named = _mm256_or_si256(letters, digits);
        block.letters |= bits(letters);
        block.upper |= bits(upper);
        block.digits |= bits(digits);
        block.blank |= bits(is(bytes, b' '));
        block.lines |= bits(lines);
        block.tabs |= bits(_mm256_andnot_si256(lines, within(bytes, b'\t', b'\r')));
        block.marks |= bits(_mm256_andnot_si256(named, within(bytes, b'!', b'~')));
        block.apostrophes |= bits(is(bytes, b'\''));
    }
    block
}
