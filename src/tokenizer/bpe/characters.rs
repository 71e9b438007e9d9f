//! Characters of several bytes with which merging may begin, instead of with their bytes.
//!
//! It may where the same comes of it. Bytes of a character merge among themselves, and these merges do not touch others,
//! unless some token has a part of the character together with something of its neighbours. Such tokens are few, and
//! where they can be is told by the two characters at a border. And no merge with the whole character may come before
//! those that make it (`Merges::late`).

use std::collections::HashSet;

use super::classes::character_at;
use super::hash;

/// What characters are as tokens, and borders of characters at which there may be a token that has a part of one of them,
/// and more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Characters {
    /// Where each page of characters begins in `known`, in pages; the first one is for those of which nothing is known.
    pages: Vec<u16>,
    /// The number of the token that is the character, [`NO_TOKEN`] where none is with which merging may begin, and on
    /// which sides there may be such a border.
    known: Vec<u32>,
    /// A bit for each two bytes that are at such a border, in a token that has none of both characters.
    bytes: Vec<u64>,
    /// A bit for each hash of a character and a byte that are at such a border, in a token that has the character.
    borders: Vec<u64>,
}

/// Characters of a page.
const PAGE: usize = 256;
/// Words of the tables of borders.
const WORDS: usize = 1 << 10;
/// Some token has it, and a part of the next character.
const JOINS_NEXT: u32 = 1 << 31;
/// Some token has it, and a part of the character before it.
const JOINS_LAST: u32 = 1 << 30;
/// No token.
const NO_TOKEN: u32 = JOINS_LAST - 1;

impl Characters {
    /// From the bytes of all tokens that are made by merges, by number. `whole` says which of several tokens with the same
    /// bytes counts; `late` are the numbers of those that may merge with others before they are made, had their bytes
    /// been merged already.
    pub(super) fn new<'a>(
        tokens: impl Iterator<Item = &'a [u8]>,
        whole: impl Fn(&[u8]) -> Option<u32>,
        late: impl Iterator<Item = u32>,
    ) -> Self {
        let mut characters = Self {
            pages: vec![0; (char::MAX as usize + 1) / PAGE],
            known: vec![NO_TOKEN; PAGE],
            bytes: vec![0; WORDS],
            borders: vec![0; WORDS],
        };
        for token in tokens {
            characters.add(token);
            if token.len() > 1 && token.len() == length(token[0]) {
                let number = whole(token).unwrap_or(NO_TOKEN);
                let known = characters.known_mut(character_at(token, 0).0);
                *known = *known & !NO_TOKEN | number;
            }
        }
        let late: HashSet<u32> = late.collect();
        for known in &mut characters.known {
            if late.contains(&(*known & NO_TOKEN)) {
                *known |= NO_TOKEN;
            }
        }
        characters
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
            (Some(left), _) => {
                *self.known_mut(left) |= JOINS_NEXT;
                place(u32::from(left), u32::from(right_byte), 0)
            }
            (None, Some(right)) => {
                *self.known_mut(right) |= JOINS_LAST;
                place(u32::from(left_byte), u32::from(right), 1)
            }
            (None, None) => {
                let (word, bit) = pair(left_byte, right_byte);
                self.bytes[word] |= bit;
                return;
            }
        };
        self.borders[word] |= bit;
    }

    /// What is known of a character.
    #[inline(always)]
    fn known(&self, character: char) -> u32 {
        let code = character as usize;
        self.known[usize::from(self.pages[code / PAGE]) * PAGE + code % PAGE]
    }

    fn known_mut(&mut self, character: char) -> &mut u32 {
        let code = character as usize;
        let page = &mut self.pages[code / PAGE];
        if *page == 0 {
            *page = (self.known.len() / PAGE) as u16;
            self.known.resize(self.known.len() + PAGE, NO_TOKEN);
        }
        &mut self.known[usize::from(*page) * PAGE + code % PAGE]
    }

    /// The character that begins at `at`, and its length in bytes.
    #[inline(always)]
    pub(super) fn side(&self, text: &[u8], at: usize) -> (Side, usize) {
        let (character, length) = character_at(text, at);
        let length = length.min(text.len() - at);
        let side = Side {
            character: character.into(),
            known: self.known(character),
            first: text[at],
            last: text[at + length - 1],
        };
        (side, length)
    }

    /// Whether no token has a part of either of two characters, together with something of the other.
    #[inline(always)]
    pub(super) fn are_apart(&self, left: Side, right: Side) -> bool {
        let left_byte = u32::from(left.last);
        let right_byte = u32::from(right.first);
        let (word, bit) = pair(left.last, right.first);
        let is_marked = |(word, bit): (usize, u64)| self.borders[word] & bit != 0;
        !(self.bytes[word] & bit != 0
            || left.known & JOINS_NEXT != 0 && is_marked(place(left.character, right_byte, 0))
            || right.known & JOINS_LAST != 0 && is_marked(place(left_byte, right.character, 1)))
    }
}

/// A character at a border.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    character: u32,
    known: u32,
    first: u8,
    last: u8,
}

impl Side {
    /// The number of the token that is this character of several bytes, if merging may begin with it.
    #[inline]
    pub(super) fn token(self) -> Option<u32> {
        let known = self.known & NO_TOKEN;
        (known != NO_TOKEN).then_some(known)
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
fn pair(left: u8, right: u8) -> (usize, u64) {
    let place = usize::from(left) << 8 | usize::from(right);
    (place / 64 % WORDS, 1 << (place % 64))
}

#[inline]
fn place(left: u32, right: u32, kind: u64) -> (usize, u64) {
    let key = u64::from(left) << 32 | u64::from(right) << 2 | kind;
    let hash = key.wrapping_mul(hash::FACTORS[0]);
    ((hash >> 54) as usize % WORDS, 1 << (hash >> 48 & 63))
}
