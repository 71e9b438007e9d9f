//! The tokens of one piece: what merging would make of it. Long ones are not merged.

use std::sync::OnceLock;

use super::characters::Characters;
use super::classes::{self, character_at};
use super::cuts::Cuts;
use super::merges::{Merges, NONE};
use super::pairs::APART;
use super::trie::Trie;
use super::vocabulary::Vocabulary;
use super::words::{MergeAll, SYMBOLS, Word};
use crate::kernels::text::widest;

/// What is known of a vocabulary, as far as one piece needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) vocabulary: Vocabulary,
    pub(super) merges: Merges,
    /// What it gives are numbers.
    pub(super) trie: Trie,
    /// The tokens of bytes, for characters that no token begins with; all [`NONE`] in byte-level vocabularies, where
    /// each byte is a token.
    pub(super) bytes: [u32; 256],
    /// The numbers of bytes that are symbols; [`NONE`] for others.
    pub(super) symbols: [u32; 256],
    /// What pairs of them merge into, by both bytes.
    byte_pairs: Vec<u32>,
    /// Where merging may begin with characters.
    characters: Characters,
    /// Where long pieces may be cut, once there is one.
    cuts: OnceLock<Cuts>,
}

/// What is remembered between pieces, and room to work in.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Pairs of tokens that stay apart, by a hash of the pair.
    apart: Vec<(u32, u32)>,
    /// Places of the piece that no way leads on from, a bit each.
    dead: Vec<u64>,
    /// Parts of the piece that are merged together.
    words: Vec<Word>,
}

/// Bytes of a piece from which on it is worth to look where it may be cut.
const CUT: usize = 1 << 12;
/// Parts of a piece that are merged together.
const WORDS: usize = 32;
/// Pairs that are remembered.
const PAIRS: usize = 8192;

impl Workspace {
    pub(super) fn new() -> Self {
        Self {
            apart: vec![(NONE, NONE); PAIRS],
            dead: Vec::new(),
            words: Vec::new(),
        }
    }
}

impl Pieces {
    pub(super) fn new(
        vocabulary: Vocabulary,
        merges: Merges,
        trie: Trie,
        bytes: &[u32; 256],
    ) -> Self {
        classes::prepare();
        let symbol = |byte| trie.longest(&[byte as u8]).map_or(NONE, |(token, _)| token);
        let symbols = std::array::from_fn(symbol);
        let pair = |both: usize| match (symbols[both >> 8], symbols[both & 0xff]) {
            (NONE, _) | (_, NONE) => APART,
            (left, right) => merges.pairs.find(left, right),
        };
        let made = merges
            .tokens
            .iter()
            .map(|token| vocabulary.bytes_of(*token));
        let whole = |bytes: &[u8]| {
            trie.longest(bytes)
                .filter(|(_, length)| *length == bytes.len())
                .map(|(token, _)| token)
        };
        Self {
            byte_pairs: (0..1 << 16).map(pair).collect(),
            characters: Characters::new(made, whole, merges.late()),
            cuts: OnceLock::new(),
            vocabulary,
            merges,
            trie,
            bytes: *bytes,
            symbols,
        }
    }

    /// The tokens that are made by merges.
    pub(super) fn made(&self) -> impl Iterator<Item = u32> {
        (0..)
            .zip(self.merges.tokens.iter())
            .filter(|(number, _)| self.merges.is_merged(*number))
            .map(|(_, token)| *token)
    }

    /// Begins to merge a piece; `false` where that is not possible: some of it is no symbol, or there is no room.
    #[inline(always)]
    pub(super) fn begin(&self, piece: &[u8], word: &mut Word) -> bool {
        let symbols = word.symbols();
        if piece.len() <= SYMBOLS && piece.is_ascii() {
            let mut is_known = true;
            for (symbol, byte) in symbols.iter_mut().zip(piece) {
                *symbol = self.symbols[usize::from(*byte)];
                is_known &= *symbol != NONE;
            }
            word.begin(piece.len());
            for (at, pair) in piece.windows(2).enumerate() {
                let both = usize::from(pair[0]) << 8 | usize::from(pair[1]);
                word.first(at, self.byte_pairs[both]);
            }
            return is_known;
        }
        let Some(count) = self.split(piece, symbols) else {
            return false;
        };
        word.begin(count);
        word.ask_first(&self.merges.pairs, count);
        true
    }

    /// The symbols that merging a piece begins with, and how many; `None` where some of it is no symbol, or there is no
    /// room.
    #[inline(always)]
    fn split(&self, piece: &[u8], symbols: &mut [u32; SYMBOLS]) -> Option<usize> {
        let (mut at, mut count) = (0, 0);
        let mut is_apart = true;
        let (mut this, mut length) = self.characters.side(piece, 0);
        while at < piece.len() {
            let end = at + length;
            let next = (end < piece.len()).then(|| self.characters.side(piece, end));
            let was_apart = is_apart;
            is_apart = next.is_none_or(|(next, _)| self.characters.are_apart(this, next));
            let whole = this.token().filter(|_| was_apart && is_apart);
            if let Some(token) = whole {
                *symbols.get_mut(count)? = token;
                count += 1;
            } else {
                for byte in &piece[at..end] {
                    let symbol = self.symbols[usize::from(*byte)];
                    *symbols.get_mut(count).filter(|_| symbol != NONE)? = symbol;
                    count += 1;
                }
            }
            at = end;
            (this, length) = next.unwrap_or((this, length));
        }
        Some(count)
    }

    /// Appends the piece's tokens, in time that is linear in its length.
    pub(super) fn encode(&self, piece: &[u8], workspace: &mut Workspace, out: &mut Vec<u32>) {
        if piece.len() < CUT {
            return self.encode_part(piece, workspace, out);
        }
        let cuts = self.cuts.get_or_init(|| {
            let tokens = self.merges.tokens.iter();
            Cuts::new(tokens.map(|token| self.vocabulary.bytes_of(*token)))
        });
        let mut words = std::mem::take(&mut workspace.words);
        words.resize(WORDS, Word::new());
        let (mut at, mut count) = (0, 0);
        while at < piece.len() {
            let end = cuts.end(piece, at, SYMBOLS);
            let part = &piece[at..end];
            at = end;
            if part.len() <= SYMBOLS && self.begin(part, &mut words[count]) {
                count += 1;
                if count < WORDS {
                    continue;
                }
                self.merge(&mut words[..count], out);
            } else {
                self.merge(&mut words[..count], out);
                self.encode_part(part, workspace, out);
            }
            count = 0;
        }
        self.merge(&mut words[..count], out);
        workspace.words = words;
    }

    /// Merges words that follow each other and appends their tokens.
    fn merge(&self, words: &mut [Word], out: &mut Vec<u32>) {
        widest(MergeAll(&self.merges, &mut *words));
        for word in words {
            out.extend(
                word.tokens()
                    .map(|token| self.merges.tokens[token as usize]),
            );
        }
    }

    /// Appends the tokens of a part of any length.
    ///
    /// Goes on with the longest token that stays apart from the one before it, and where there is none, goes back and
    /// takes a shorter one. A place from which it went back is never tried again.
    fn encode_part(&self, piece: &[u8], workspace: &mut Workspace, out: &mut Vec<u32>) {
        workspace.dead.clear();
        workspace.dead.resize(piece.len() / 64 + 1, 0);
        let (mut begin, mut at) = (out.len(), 0);
        let mut next = self.trie.longest(piece);
        while at < piece.len() {
            let Some((token, length)) = next else {
                self.name(&mut out[begin..]);
                at += self.fall_back(&piece[at..], out);
                begin = out.len();
                next = self.trie.longest(&piece[at..]);
                continue;
            };
            let end = at + length;
            let is_dead = workspace.dead[end / 64] >> (end % 64) & 1 == 1;
            let before = out[begin..].last().copied();
            if !is_dead && before.is_none_or(|before| self.stay_apart(before, token, workspace)) {
                out.push(token);
                at = end;
                next = self.trie.longest(&piece[at..]);
            } else if let Some(shorter) = self.trie.longest(&piece[at..end - 1]) {
                next = Some(shorter);
            } else if let Some(before) = before {
                workspace.dead[at / 64] |= 1 << (at % 64);
                out.pop();
                let length = self.vocabulary.length(self.merges.tokens[before as usize]);
                at -= length;
                next = Some((before, length));
            } else {
                unreachable!("a text has one encoding, and the ways to it were all tried");
            }
        }
        self.name(&mut out[begin..]);
    }

    /// Ids for numbers.
    #[inline]
    fn name(&self, tokens: &mut [u32]) {
        for token in tokens {
            *token = self.merges.tokens[*token as usize];
        }
    }

    /// Appends the tokens of the bytes of the first character, which no token begins with.
    fn fall_back(&self, text: &[u8], out: &mut Vec<u32>) -> usize {
        let length = character_at(text, 0).1.min(text.len());
        out.extend(
            text[..length]
                .iter()
                .map(|byte| self.bytes[usize::from(*byte)]),
        );
        length
    }

    #[inline]
    fn stay_apart(&self, left: u32, right: u32, workspace: &mut Workspace) -> bool {
        let place =
            (left.wrapping_mul(0x9e37_79b1) ^ right.wrapping_mul(0x85eb_ca77)) as usize >> 19;
        let known = &mut workspace.apart[place % PAIRS];
        if *known == (left, right) {
            return true;
        }
        let apart = self.merges.are_apart(left, right);
        if apart {
            *known = (left, right);
        }
        apart
    }
}
