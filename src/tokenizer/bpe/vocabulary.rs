//! The bytes that tokens stand for.

use std::borrow::Cow;

use super::hash;
use super::key::{self, Key, SHORT_BYTES};
use crate::kernels::table::Table;

/// Bytes by token, and tokens by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Vocabulary {
    /// All tokens' bytes, one after the other.
    pub(super) bytes: Table<u8>,
    /// Where each token's bytes begin, and where the last one's end.
    pub(super) starts: Table<u32>,
    /// Short tokens by a hash of their keys.
    pub(super) words: Table<Words>,
    /// Longer tokens by a hash of their bytes, likewise. The high bits are more of the hash.
    pub(super) slots: Table<u32>,
}

/// Short tokens that are side by side in memory, so that a word that was never seen waits for it once. Filled from the
/// first place on; where all are taken, the next ones have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Words {
    /// 0 for none.
    keys: [Key; ROOM],
    tokens: [u32; ROOM],
    rest: u32,
}

/// Short tokens that are side by side.
const ROOM: usize = 3;

/// Bits of a token in the table.
const TOKEN_BITS: u32 = 22;
/// Stands for no token there.
const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;

impl Vocabulary {
    /// Each token's bytes; those of which `is_known` says so are found by them. Of equal ones the first is.
    pub(in super::super) fn new(tokens: &[Cow<'_, [u8]>], is_known: impl Fn(u32) -> bool) -> Self {
        let count = |is_short: bool| {
            let known = (0..).zip(tokens).filter(|(token, _)| is_known(*token));
            known
                .filter(|(_, bytes)| (bytes.len() <= SHORT_BYTES) == is_short)
                .count()
        };
        let mut all = Vec::with_capacity(tokens.iter().map(|bytes| bytes.len()).sum());
        let mut starts = Vec::with_capacity(tokens.len() + 1);
        starts.push(0);
        for bytes in tokens {
            all.extend_from_slice(bytes);
            starts.push(all.len() as u32);
        }
        let mut vocabulary = Self {
            bytes: all.into(),
            starts: starts.into(),
            words: bytemuck::zeroed_vec(count(true) * 2 / ROOM + 1).into(),
            slots: vec![NO_TOKEN; (count(false) * 2).next_power_of_two()].into(),
        };
        for (token, bytes) in (0..).zip(tokens) {
            if is_known(token) {
                vocabulary.add(token, bytes);
            }
        }
        vocabulary
    }

    fn add(&mut self, token: u32, bytes: &[u8]) {
        if let Some(key) = key::of_bytes(bytes) {
            let mut at = self.word_place(key);
            loop {
                let words = &mut self.words[at];
                if let Some(place) = words.keys.iter().position(|other| *other == 0) {
                    words.keys[place] = key;
                    words.tokens[place] = token;
                    return;
                }
                at = self.next_words(at);
            }
        }
        let (mut at, tag) = self.place(bytes);
        while self.slots[at] & NO_TOKEN != NO_TOKEN {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = tag | token;
    }

    /// Where in `words` a short piece is looked for first.
    #[inline]
    pub(super) fn word_place(&self, key: Key) -> usize {
        (((key::hash(key) >> 32) * self.words.len() as u64) >> 32) as usize
    }

    fn next_words(&self, at: usize) -> usize {
        if at + 1 == self.words.len() {
            0
        } else {
            at + 1
        }
    }

    /// The token that is this short piece.
    #[inline]
    pub(super) fn find_short(&self, key: Key) -> Option<u32> {
        let mut at = self.word_place(key);
        loop {
            let words = &self.words[at];
            if let Some(place) = words.keys.iter().position(|other| *other == key) {
                return Some(words.tokens[place]);
            }
            if words.keys[ROOM - 1] == 0 {
                return None;
            }
            at = self.next_words(at);
        }
    }

    /// Where a token is looked for first, and what of its hash stands there.
    #[inline]
    fn place(&self, bytes: &[u8]) -> (usize, u32) {
        let hash = hash::of_bytes(bytes);
        (
            (hash >> 32) as usize & (self.slots.len() - 1),
            hash as u32 & !NO_TOKEN,
        )
    }

    /// The token that is this longer piece.
    #[inline]
    pub(super) fn find_long(&self, bytes: &[u8]) -> Option<u32> {
        let (mut at, tag) = self.place(bytes);
        loop {
            let token = self.slots[at] & NO_TOKEN;
            if token == NO_TOKEN {
                return None;
            }
            if self.slots[at] & !NO_TOKEN == tag && self.bytes_of(token) == bytes {
                return Some(token);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The bytes of a token of the vocabulary.
    #[inline]
    pub(in super::super) fn bytes_of(&self, token: u32) -> &[u8] {
        let token = token as usize;
        &self.bytes[self.starts[token] as usize..self.starts[token + 1] as usize]
    }

    /// How many bytes a token has.
    #[inline]
    pub(super) fn length(&self, token: u32) -> usize {
        let token = token as usize;
        (self.starts[token + 1] - self.starts[token]) as usize
    }
}
