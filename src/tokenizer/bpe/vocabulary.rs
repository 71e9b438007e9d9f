//! The bytes that tokens stand for.

use super::hash;
use super::key::{self, Key, SHORT_BYTES};
use crate::kernels::table::Table;
use crate::kernels::text::prefetch;

/// Bytes by token, and tokens by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Vocabulary {
    pub(super) spelled: Spelled,
    pub(super) found: Found,
}

/// Tokens' bytes, one token after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Spelled {
    pub(super) bytes: Table<u8>,
    /// Where each token's bytes begin, and where the last one's end.
    pub(super) starts: Table<u32>,
}

/// Tokens by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Found {
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
/// Tokens whose places are asked of the memory before the first of them is put there.
const ASKED: usize = 16;

impl Spelled {
    /// Tokens, each of whose bytes `append` puts behind those of others.
    pub(in super::super) fn new<T>(
        tokens: impl Iterator<Item = T>,
        mut append: impl FnMut(T, &mut Vec<u8>),
    ) -> Self {
        let mut bytes = Vec::new();
        let mut starts = Vec::with_capacity(tokens.size_hint().0 + 1);
        starts.push(0);
        for token in tokens {
            append(token, &mut bytes);
            starts.push(bytes.len() as u32);
        }
        Self {
            bytes: bytes.into(),
            starts: starts.into(),
        }
    }

    /// All tokens' bytes.
    pub(super) fn each(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.starts.len() as u32 - 1).map(|token| self.bytes_of(token))
    }

    #[inline]
    pub(super) fn bytes_of(&self, token: u32) -> &[u8] {
        let token = token as usize;
        &self.bytes[self.starts[token] as usize..self.starts[token + 1] as usize]
    }
}

impl Found {
    /// Those tokens of which `is_known` says so. Of equal ones the first is found.
    pub(super) fn new(spelled: &Spelled, is_known: &[bool]) -> Self {
        let known = || {
            let all = (0..).zip(spelled.each()).zip(is_known);
            all.filter_map(|(token, is_known)| is_known.then_some(token))
        };
        let is_short = |bytes: &[u8]| bytes.len() <= SHORT_BYTES;
        let short = known().filter(|(_, bytes)| is_short(bytes)).count();
        let long = known().count() - short;
        let mut found = Self {
            words: bytemuck::zeroed_vec(short * 2 / ROOM + 1).into(),
            slots: vec![NO_TOKEN; (long * 2).next_power_of_two()].into(),
        };
        let mut asked = Vec::with_capacity(ASKED);
        for (token, bytes) in known() {
            let Some(key) = key::of_bytes(bytes) else {
                found.add_long(token, bytes);
                continue;
            };
            prefetch(&found.words, found.word_place(key));
            asked.push((token, key));
            if asked.len() == ASKED {
                found.add_short(asked.drain(..));
            }
        }
        found.add_short(asked.drain(..));
        found
    }

    fn add_short(&mut self, tokens: impl Iterator<Item = (u32, Key)>) {
        for (token, key) in tokens {
            let mut at = self.word_place(key);
            loop {
                let words = &mut self.words[at];
                if let Some(place) = words.keys.iter().position(|other| *other == 0) {
                    words.keys[place] = key;
                    words.tokens[place] = token;
                    break;
                }
                at = self.next_words(at);
            }
        }
    }

    fn add_long(&mut self, token: u32, bytes: &[u8]) {
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
}

impl Vocabulary {
    /// Bytes by token alone: none is found by its bytes.
    pub(in super::super) fn to_spell(spelled: Spelled) -> Self {
        let found = Found::new(&spelled, &[]);
        Self { spelled, found }
    }

    /// The token that is this longer piece.
    #[inline]
    pub(super) fn find_long(&self, bytes: &[u8]) -> Option<u32> {
        let slots = &*self.found.slots;
        let (mut at, tag) = self.found.place(bytes);
        loop {
            let token = slots[at] & NO_TOKEN;
            if token == NO_TOKEN {
                return None;
            }
            if slots[at] & !NO_TOKEN == tag && self.bytes_of(token) == bytes {
                return Some(token);
            }
            at = (at + 1) & (slots.len() - 1);
        }
    }

    /// The bytes of a token of the vocabulary.
    #[inline]
    pub(in super::super) fn bytes_of(&self, token: u32) -> &[u8] {
        self.spelled.bytes_of(token)
    }

    /// How many bytes a token has.
    #[inline]
    pub(super) fn length(&self, token: u32) -> usize {
        let (token, starts) = (token as usize, &*self.spelled.starts);
        (starts[token + 1] - starts[token]) as usize
    }
}
