//! SentencePiece vocabularies have no expression: merges may join anything. A text is cut where two characters meet
//! that are side by side in no token.

use super::super::classes::character_at;
use super::super::hash;
use super::{Ascii, Scan, Text};

/// Which pairs of characters are side by side in a token.
///
/// A pair may be taken for one that is, which only leaves a piece longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Seams {
    /// A bit for each hash of a pair; as many as a power of two.
    joined: Vec<u64>,
    /// For each character of ASCII, bits for those that it is joined to, once more.
    ascii: Vec<u128>,
    /// Whether a piece ends between any letter of ASCII and a space, and none between a space and a letter.
    has_words: bool,
}

/// Words of the table.
const WORDS: usize = 1 << 15;

impl Seams {
    /// No seams.
    pub(in super::super) fn none() -> Self {
        Self {
            joined: Vec::new(),
            ascii: Vec::new(),
            has_words: false,
        }
    }

    /// From the table.
    pub(in super::super) fn from_table(joined: Vec<u64>) -> Self {
        let mut seams = Self {
            joined,
            ascii: Vec::new(),
            has_words: false,
        };
        if !seams.joined.is_empty() {
            let bits = |left: u8| {
                let joined = |right: &u8| !seams.is_seam(left.into(), (*right).into());
                (0..128)
                    .filter(joined)
                    .fold(0, |bits, right| bits | 1 << right)
            };
            seams.ascii = (0..128).map(bits).collect();
            let is_joined = |left: u8, right: u8| seams.ascii[usize::from(left)] >> right & 1 == 1;
            let mut letters = (b'a'..=b'z').chain(b'A'..=b'Z');
            seams.has_words =
                letters.all(|letter| !is_joined(letter, b' ') && is_joined(b' ', letter));
        }
        seams
    }

    /// The table.
    pub(in super::super) fn table(&self) -> &[u64] {
        &self.joined
    }

    /// From all tokens that are made by merges.
    pub(in super::super) fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut seams = Self {
            joined: vec![0; WORDS],
            ascii: Vec::new(),
            has_words: false,
        };
        for token in tokens {
            let (mut before, mut at) = character_at(token, 0);
            while at < token.len() {
                let (character, length) = character_at(token, at);
                let (word, bit) = seams.place(before, character);
                seams.joined[word] |= bit;
                (before, at) = (character, at + length);
            }
        }
        Self::from_table(seams.joined)
    }

    /// Whether a piece ends between two characters as far as seams end pieces.
    pub(in super::super) fn is_between(&self, left: char, right: char) -> bool {
        self.joined.is_empty() || self.is_seam(left, right)
    }

    #[inline]
    fn place(&self, left: char, right: char) -> (usize, u64) {
        let hash = hash::of_pair(u32::from(left).into(), u32::from(right).into());
        (
            (hash >> 40) as usize & (self.joined.len() - 1),
            1 << (hash >> 34 & 63),
        )
    }

    /// Whether no token has the two side by side.
    #[inline]
    fn is_seam(&self, left: char, right: char) -> bool {
        let (word, bit) = self.place(left, right);
        self.joined[word] & bit == 0
    }
}

impl Scan for Seams {
    fn ascii(&self) -> Option<&'static Ascii> {
        self.has_words.then_some(&Ascii::Words)
    }

    #[inline]
    fn piece_end(&self, text: Text<'_>, at: usize) -> usize {
        let mut end = at;
        loop {
            let (mut before, length) = character_at(text.bytes, end);
            end += length;
            // Whether two letters of ASCII are side by side in a token is not asked: words are as good to look up.
            while before.is_ascii_alphabetic() && text.byte(end).is_ascii_alphabetic() {
                before = char::from(text.bytes[end]);
                end += 1;
            }
            if end >= text.end {
                return end;
            }
            let next = text.bytes[end];
            let is_seam = match self.ascii.get(before as usize) {
                Some(joined) if next < 128 => joined >> next & 1 == 0,
                _ => self.is_seam(before, character_at(text.bytes, end).0),
            };
            if is_seam {
                return end;
            }
        }
    }
}
