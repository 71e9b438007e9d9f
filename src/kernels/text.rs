//! Which bytes of a text are what, for 64 of them at once.

/// What the bytes of a block of 64 are, a bit each, the first byte lowest. Bytes from 0x80 on are nothing here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    /// `A` to `Z`.
    pub upper: u64,
    /// `a` to `z`.
    pub lower: u64,
    /// White space: U+0009 to U+000D, and the space.
    pub space: u64,
    /// The rest of ASCII but digits: punctuation, symbols, control characters.
    pub other: u64,
}

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// Classifies bytes, a block for each 64 of them; what is missing from the last block is nothing, as are all further
/// blocks.
pub fn classify(bytes: &[u8], blocks: &mut [Block]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function needs.
        unsafe { avx2::classify(bytes, blocks) };
        return;
    }
    scalar(bytes, blocks);
}

/// The reference.
fn scalar(bytes: &[u8], blocks: &mut [Block]) {
    let mut parts = bytes.chunks(BLOCK);
    for block in blocks {
        *block = parts.next().map_or_else(Block::default, scalar_block);
    }
}

fn scalar_block(bytes: &[u8]) -> Block {
    let mut block = Block::default();
    for (at, byte) in bytes.iter().enumerate() {
        let bit = 1 << at;
        match byte {
            b'A'..=b'Z' => block.upper |= bit,
            b'a'..=b'z' => block.lower |= bit,
            b'\t'..=b'\r' | b' ' => block.space |= bit,
            b'0'..=b'9' | 0x80.. => {}
            _ => block.other |= bit,
        }
    }
    block
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, scalar_block};

    /// # Safety
    /// The processor must have AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn classify(bytes: &[u8], blocks: &mut [Block]) {
        let (whole, rest) = bytes.as_chunks::<BLOCK>();
        let mut rest = Some(rest).filter(|rest| !rest.is_empty());
        let mut whole = whole.iter();
        for block in blocks {
            *block = match whole.next() {
                // SAFETY: AVX2 is there, as for this function.
                Some(bytes) => unsafe { one(bytes) },
                None => rest.take().map_or_else(Block::default, scalar_block),
            };
        }
    }

    /// # Safety
    /// The processor must have AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn one(bytes: &[u8; BLOCK]) -> Block {
        // SAFETY: both loads lie within the 64 bytes.
        let halves = unsafe {
            [
                _mm256_loadu_si256(bytes.as_ptr().cast()),
                _mm256_loadu_si256(bytes.as_ptr().add(32).cast()),
            ]
        };
        let mut block = Block::default();
        for (half, bytes) in halves.into_iter().enumerate() {
            // Comparisons are of signed numbers: bytes from 0x80 on are below all others.
            let within = |bytes, low: u8, high: u8| {
                let above = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(low.wrapping_sub(1) as i8));
                let beyond = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(high as i8));
                _mm256_andnot_si256(beyond, above)
            };
            let bits = |mask| u64::from(_mm256_movemask_epi8(mask).cast_unsigned()) << (32 * half);
            let (upper, lower) = (within(bytes, b'A', b'Z'), within(bytes, b'a', b'z'));
            let digit = within(bytes, b'0', b'9');
            let blank = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b' ' as i8));
            let space = _mm256_or_si256(within(bytes, b'\t', b'\r'), blank);
            let named =
                _mm256_or_si256(_mm256_or_si256(upper, lower), _mm256_or_si256(digit, space));
            let ascii = _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(-1));
            block.upper |= bits(upper);
            block.lower |= bits(lower);
            block.space |= bits(space);
            block.other |= bits(_mm256_andnot_si256(named, ascii));
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_those_of_the_reference(bytes: Vec<u8>, more in 0usize..3) {
            let count = bytes.len().div_ceil(BLOCK) + more;
            let (mut fast, mut slow) = (vec![Block { upper: 1, ..Block::default() }; count], vec![Block::default(); count]);
            classify(&bytes, &mut fast);
            scalar(&bytes, &mut slow);
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn every_byte_is_what_it_is() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut blocks = [Block::default(); 4];
        classify(&bytes, &mut blocks);
        for byte in bytes {
            let (block, bit) = (blocks[usize::from(byte) / BLOCK], 1 << (byte % 64));
            assert_eq!(block.upper & bit != 0, byte.is_ascii_uppercase(), "{byte}");
            assert_eq!(block.lower & bit != 0, byte.is_ascii_lowercase(), "{byte}");
            let space = byte.is_ascii_whitespace() || byte == 0x0b;
            assert_eq!(block.space & bit != 0, space, "{byte}");
            let other = byte.is_ascii() && !byte.is_ascii_alphanumeric() && !space;
            assert_eq!(block.other & bit != 0, other, "{byte}");
        }
    }
}
