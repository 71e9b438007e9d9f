//! Which bytes of a text are what, for 64 of them at once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::RangeInclusive;

/// What the bytes of a block of 64 are, a bit each, the first byte lowest. Control characters and bytes from 0x80 on are
/// nothing here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    /// `A` to `Z` and `a` to `z`.
    pub letters: u64,
    /// `A` to `Z`.
    pub upper: u64,
    /// `0` to `9`.
    pub digits: u64,
    /// The space.
    pub blank: u64,
    /// `\r` and `\n`.
    pub lines: u64,
    /// `\t`, and U+000B and U+000C.
    pub tabs: u64,
    /// Punctuation and symbols.
    pub marks: u64,
    /// Of those, `'`.
    pub apostrophes: u64,
}

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// The same of several blocks, kind by kind, so that some blocks may be worked at together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "these are the kinds of `Block`")]
pub struct Blocks<const COUNT: usize> {
    pub letters: [u64; COUNT],
    pub upper: [u64; COUNT],
    pub digits: [u64; COUNT],
    pub blank: [u64; COUNT],
    pub lines: [u64; COUNT],
    pub tabs: [u64; COUNT],
    pub marks: [u64; COUNT],
    pub apostrophes: [u64; COUNT],
}

impl<const COUNT: usize> Blocks<COUNT> {
    /// Blocks of nothing.
    pub fn new() -> Self {
        Self {
            letters: [0; COUNT],
            upper: [0; COUNT],
            digits: [0; COUNT],
            blank: [0; COUNT],
            lines: [0; COUNT],
            tabs: [0; COUNT],
            marks: [0; COUNT],
            apostrophes: [0; COUNT],
        }
    }

    /// Says what a block is.
    #[inline(always)]
    pub fn set(&mut self, at: usize, block: &Block) {
        self.letters[at] = block.letters;
        self.upper[at] = block.upper;
        self.digits[at] = block.digits;
        self.blank[at] = block.blank;
        self.lines[at] = block.lines;
        self.tabs[at] = block.tabs;
        self.marks[at] = block.marks;
        self.apostrophes[at] = block.apostrophes;
    }
}

impl<const COUNT: usize> Default for Blocks<COUNT> {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks for the memory of a slice's element at `at`, so that it is there when it is needed.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let element = slice.as_ptr().wrapping_add(at);
        // SAFETY: of the processor's first extensions, which all have; nothing is read, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(element.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}

/// Some work that is worth the best instructions.
pub trait Work {
    /// What comes of it.
    type Result;

    /// Does it; always inlined, as is all of it that shall be compiled for these instructions.
    fn run(self) -> Self::Result;
}

/// Does some work with the best instructions for numbers and bits that there are.
#[inline(always)]
pub fn widest<W: Work>(work: W) -> W::Result {
    #[cfg(target_arch = "x86_64")]
    {
        /// # Safety
        /// The processor must have what is enabled.
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        unsafe fn wide<W: Work>(work: W) -> W::Result {
            work.run()
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
        {
            // SAFETY: the processor has it.
            return unsafe { wide(work) };
        }
    }
    work.run()
}

/// Classifies bytes, a block for each 64 of them from `first` on, and one of nothing behind them; what is missing from the
/// last block is nothing. Gives how many they are.
///
/// # Panics
/// Where there are not as many.
pub fn classify<const COUNT: usize>(
    bytes: &[u8],
    blocks: &mut Blocks<COUNT>,
    first: usize,
) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has what the function needs.
            return each(bytes, blocks, first, |bytes| unsafe {
                avx512::block(bytes)
            });
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return each(bytes, blocks, first, |bytes| unsafe { avx2::block(bytes) });
        }
    }
    each(bytes, blocks, first, scalar)
}

/// A bit for each of the first 64 bytes that is one of these, the first byte lowest.
#[inline]
pub fn within(bytes: &[u8], range: RangeInclusive<u8>) -> u64 {
    let bytes = &bytes[..bytes.len().min(BLOCK)];
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has what the function needs.
            return unsafe { avx512::within(bytes, &range) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return unsafe { avx2::within(bytes, &range) };
        }
    }
    scalar_within(bytes, &range)
}

/// The reference.
fn scalar_within(bytes: &[u8], range: &RangeInclusive<u8>) -> u64 {
    // Whether there are some is told of many at once.
    if !bytes
        .iter()
        .fold(false, |any, byte| any | range.contains(byte))
    {
        return 0;
    }
    let bits = (0..).zip(bytes);
    bits.fold(0, |all, (at, byte)| {
        all | u64::from(range.contains(byte)) << at
    })
}

/// Calls `block` for all blocks; the last one may be shorter.
#[inline(always)]
fn each<const COUNT: usize>(
    bytes: &[u8],
    blocks: &mut Blocks<COUNT>,
    first: usize,
    block: impl Fn(&[u8]) -> Block,
) -> usize {
    let mut at = first;
    for bytes in bytes.chunks(BLOCK) {
        blocks.set(at, &block(bytes));
        at += 1;
    }
    blocks.set(at, &Block::default());
    at - first
}

/// The reference.
fn scalar(bytes: &[u8]) -> Block {
    let mut block = Block::default();
    for (at, byte) in bytes.iter().enumerate() {
        let bit = 1 << at;
        match byte {
            b'A'..=b'Z' => {
                block.upper |= bit;
                block.letters |= bit;
            }
            b'a'..=b'z' => block.letters |= bit,
            b'0'..=b'9' => block.digits |= bit,
            b' ' => block.blank |= bit,
            b'\r' | b'\n' => block.lines |= bit,
            b'\t' | 0x0b | 0x0c => block.tabs |= bit,
            b'!'..=b'~' => {
                block.marks |= bit;
                if *byte == b'\'' {
                    block.apostrophes |= bit;
                }
            }
            _ => {}
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Room for all blocks of a test.
    const COUNT: usize = 9;

    proptest! {
        #[test]
        fn blocks_are_those_of_the_reference(bytes in prop::collection::vec(any::<u8>(), 0..400), first in 0usize..2) {
            let (mut fast, mut slow) = (Blocks::<COUNT>::new(), Blocks::<COUNT>::new());
            fast.upper[first + bytes.len().div_ceil(BLOCK)] = 1;
            let count = classify(&bytes, &mut fast, first);
            prop_assert_eq!(count, each(&bytes, &mut slow, first, scalar));
            prop_assert_eq!(count, bytes.len().div_ceil(BLOCK));
            prop_assert_eq!(&fast, &slow);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has what the function needs.
                each(&bytes, &mut fast, first, |bytes| unsafe { avx2::block(bytes) });
                prop_assert_eq!(fast, slow);
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_within_are_those_of_the_reference(bytes in prop::collection::vec(any::<u8>(), 0..100), low: u8, more: u8) {
            let range = low..=low.saturating_add(more);
            let bytes = &bytes[..bytes.len().min(BLOCK)];
            let expected = scalar_within(bytes, &range);
            prop_assert_eq!(within(bytes, range.clone()), expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has what the function needs.
                prop_assert_eq!(unsafe { avx2::within(bytes, &range) }, expected);
            }
        }
    }

    #[test]
    fn every_byte_is_what_it_is() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut blocks = Blocks::<5>::new();
        classify(&bytes, &mut blocks, 0);
        for byte in bytes {
            let (at, bit) = (usize::from(byte) / BLOCK, 1 << (byte % 64));
            assert_eq!(
                blocks.letters[at] & bit != 0,
                byte.is_ascii_alphabetic(),
                "{byte}"
            );
            assert_eq!(
                blocks.upper[at] & bit != 0,
                byte.is_ascii_uppercase(),
                "{byte}"
            );
            assert_eq!(
                blocks.digits[at] & bit != 0,
                byte.is_ascii_digit(),
                "{byte}"
            );
            assert_eq!(blocks.blank[at] & bit != 0, byte == b' ', "{byte}");
            assert_eq!(
                blocks.lines[at] & bit != 0,
                matches!(byte, 10 | 13),
                "{byte}"
            );
            assert_eq!(
                blocks.tabs[at] & bit != 0,
                matches!(byte, 9 | 11 | 12),
                "{byte}"
            );
            assert_eq!(
                blocks.marks[at] & bit != 0,
                byte.is_ascii_punctuation(),
                "{byte}"
            );
            assert_eq!(blocks.apostrophes[at] & bit != 0, byte == b'\'', "{byte}");
        }
    }
}
