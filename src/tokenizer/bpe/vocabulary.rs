//! The bytes that tokens stand for.

use std::borrow::Cow;

use super::hash;
use super::key::{self, Key, SHORT_BYTES};

/// Bytes by token, and tokens by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Vocabulary {
    /// All tokens' bytes, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Where each token's bytes begin, and where the last one's end.
    pub(super) starts: Vec<u32>,
    /// Short tokens by their keys: open addressing, a power of two. All is in one place, so that a word that was never
    /// seen waits for memory once.
    pub(super) words: Vec<Word>,
    /// Longer tokens by a hash of their bytes, likewise. The high bits are more of the hash.
    pub(super) slots: Vec<u32>,
}

/// A short token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Word {
    /// As it is in memory; 0 for none.
    key: [u32; 4],
    token: u32,
}

/// Bits of a token in the table.
const TOKEN_BITS: u32 = 22;
/// Stands for no token there.
const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;

impl Vocabulary {
    /// Each token's bytes; those of which `is_known` says so are found by them. Of equal ones the first is.
    pub(in super::super) fn new(tokens: &[Cow<'_, [u8]>], is_known: impl Fn(u32) -> bool) -> Self {
        let count = |is_short: bool| {
            let known = (0..).zip(tokens).filter(|(token, _)| is_known(*token));
            let count = known
                .filter(|(_, bytes)| (bytes.len() <= SHORT_BYTES) == is_short)
                .count();
            (count * 2).next_power_of_two()
        };
        let mut vocabulary = Self {
            bytes: Vec::with_capacity(tokens.iter().map(|bytes| bytes.len()).sum()),
            starts: Vec::with_capacity(tokens.len() + 1),
            words: bytemuck::zeroed_vec(count(true)),
            slots: vec![NO_TOKEN; count(false)],
        };
        vocabulary.starts.push(0);
        for (token, bytes) in (0..).zip(tokens) {
            vocabulary.bytes.extend_from_slice(bytes);
            vocabulary.starts.push(vocabulary.bytes.len() as u32);
            if is_known(token) {
                vocabulary.add(token, bytes);
            }
        }
        vocabulary
    }

    fn add(&mut self, token: u32, bytes: &[u8]) {
        if let Some(key) = key::of_bytes(bytes) {
            let mut at = self.word_place(key);
            while self.words[at].key != [0; 4] {
                at = (at + 1) & (self.words.len() - 1);
            }
            self.words[at] = Word {
                key: bytemuck::cast(key),
                token,
            };
            return;
        }
        let (mut at, tag) = self.place(bytes);
        while self.slots[at] & NO_TOKEN != NO_TOKEN {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = tag | token;
    }

    #[inline]
    fn word_place(&self, key: Key) -> usize {
        (key::hash(key) >> 32) as usize & (self.words.len() - 1)
    }

    /// The token that is this short piece.
    #[inline]
    pub(super) fn find_short(&self, key: Key) -> Option<u32> {
        let wanted: [u32; 4] = bytemuck::cast(key);
        let mut at = self.word_place(key);
        loop {
            let word = &self.words[at];
            if word.key == wanted {
                return Some(word.token);
            }
            if word.key == [0; 4] {
                return None;
            }
            at = (at + 1) & (self.words.len() - 1);
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
