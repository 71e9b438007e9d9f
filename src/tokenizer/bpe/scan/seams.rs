//! SentencePiece vocabularies have no expression: merges may join anything. A text is cut where two characters meet
//! that are side by side in no token.

use super::super::classes::character_at;
use super::super::hash;
use super::{Rules, Scan, Text};

/// Which pairs of characters are side by side in a token.
///
/// A pair may be taken for one that is, which only leaves a piece longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Seams {
    /// A bit for each hash of a pair; as many as a power of two.
    pub(in super::super) joined: Vec<u64>,
}

/// Words of the table.
const WORDS: usize = 1 << 15;

impl Seams {
    /// From all tokens that are made by merges.
    pub(in super::super) fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut seams = Self {
            joined: vec![0; WORDS],
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
        seams
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
    fn rules(&self) -> Option<Rules> {
        None
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
            if end >= text.end || self.is_seam(before, character_at(text.bytes, end).0) {
                return end;
            }
        }
    }
}
