//! Characters of several bytes with which merging may begin, instead of with their bytes.
//!
//! It may where the same comes of it. Bytes of a character merge among themselves, and these merges do not touch others,
//! unless some token has a part of the character together with something of its neighbours. Such tokens are few, and
//! where they can be is told by the two characters at a border. And no merge with the whole character may come before
//! those that make it (`Merges::late`).

use super::classes::character_at;
use super::hash;

/// Borders of characters at which there may be a token that has a part of one of them, and more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Characters {
    /// A bit for each hash of what such a token has at the border.
    borders: Vec<u64>,
    /// A bit for each number of a token that may merge with others before it is made.
    late: Vec<u64>,
}

/// Words of the table.
const WORDS: usize = 1 << 10;

impl Characters {
    /// From all tokens that are made by merges, by number, and from the numbers of those that are late.
    pub(super) fn new<'a>(
        tokens: impl ExactSizeIterator<Item = &'a [u8]>,
        late: impl Iterator<Item = u32>,
    ) -> Self {
        let mut characters = Self {
            borders: vec![0; WORDS],
            late: vec![0; tokens.len() / 64 + 1],
        };
        for token in late {
            characters.late[token as usize / 64] |= 1 << (token % 64);
        }
        for token in tokens {
            characters.add(token);
        }
        characters
    }

    /// Whether a token may merge with others before it is made.
    #[inline]
    pub(super) fn is_late(&self, token: u32) -> bool {
        self.late[token as usize / 64] >> (token % 64) & 1 == 1
    }

    fn add(&mut self, token: &[u8]) {
        let begins = |at: &usize| token[*at] & 0xc0 != 0x80;
        let Some(first) = (0..token.len()).find(begins) else {
            return;
        };
        let last = (first..token.len()).rfind(begins).unwrap_or(first);
        let is_whole = last + length(token[last]) <= token.len();
        if first > 0 {
            let right = (last > first || is_whole).then(|| character_at(token, first).0);
            self.mark(None, token[first - 1], token[first], right);
        }
        if last > first && !is_whole {
            let left = (first..last)
                .rfind(begins)
                .map(|at| character_at(token, at).0);
            self.mark(left, token[last - 1], token[last], None);
        }
    }

    /// Marks a border between two bytes, with the characters on its sides as far as they are known.
    fn mark(&mut self, left: Option<char>, left_byte: u8, right_byte: u8, right: Option<char>) {
        let (word, bit) = match (left, right) {
            (Some(left), _) => place(u32::from(left), u32::from(right_byte), 0),
            (None, Some(right)) => place(u32::from(left_byte), u32::from(right), 1),
            (None, None) => place(u32::from(left_byte), u32::from(right_byte), 2),
        };
        self.borders[word] |= bit;
    }

    /// Whether no token has a part of either of two characters, together with something of the other.
    #[inline]
    pub(super) fn are_apart(&self, left: Side, right: Side) -> bool {
        let left_byte = u32::from(left.last);
        let right_byte = u32::from(right.first);
        let places = [
            place(left.character, right_byte, 0),
            place(left_byte, right.character, 1),
            place(left_byte, right_byte, 2),
        ];
        let marks = places.map(|(word, bit)| self.borders[word] & bit);
        marks == [0; 3]
    }
}

/// A character at a border.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    character: u32,
    first: u8,
    last: u8,
}

impl Side {
    /// The character that begins at `at`, and its length in bytes.
    #[inline]
    pub(super) fn at(text: &[u8], at: usize) -> (Self, usize) {
        let (character, length) = character_at(text, at);
        let length = length.min(text.len() - at);
        let side = Self {
            character: character.into(),
            first: text[at],
            last: text[at + length - 1],
        };
        (side, length)
    }
}

/// Bytes of the character that begins with a byte.
fn length(byte: u8) -> usize {
    match byte {
        ..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    }
}

#[inline]
fn place(left: u32, right: u32, kind: u64) -> (usize, u64) {
    let key = u64::from(left) << 32 | u64::from(right) << 2 | kind;
    let hash = key.wrapping_mul(hash::FACTORS[0]);
    ((hash >> 54) as usize % WORDS, 1 << (hash >> 48 & 63))
}
