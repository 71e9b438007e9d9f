//! The tokens of one piece: what merging would make of it, without merging.

use super::classes::character_at;
use super::merges::{Merges, NONE};
use super::pairs::APART;
use super::trie::Trie;
use super::vocabulary::Vocabulary;
use super::words::{SYMBOLS, Word};

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
    pub(super) byte_pairs: Vec<u32>,
}

/// What is remembered between pieces, and room to work in.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Pairs of tokens that stay apart, by a hash of the pair.
    apart: Vec<(u32, u32)>,
    /// Places of the piece that no way leads on from, a bit each.
    dead: Vec<u64>,
}

/// Pairs that are remembered.
const PAIRS: usize = 8192;

impl Workspace {
    pub(super) fn new() -> Self {
        Self {
            apart: vec![(NONE, NONE); PAIRS],
            dead: Vec::new(),
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
        let symbol = |byte| trie.longest(&[byte as u8]).map_or(NONE, |(token, _)| token);
        let symbols = std::array::from_fn(symbol);
        let pair = |both: usize| match (symbols[both >> 8], symbols[both & 0xff]) {
            (NONE, _) | (_, NONE) => APART,
            (left, right) => merges.pairs.find(left, right),
        };
        Self {
            byte_pairs: (0..1 << 16).map(pair).collect(),
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
            .zip(&self.merges.tokens)
            .filter(|(number, _)| self.merges.is_merged(*number))
            .map(|(_, token)| *token)
    }

    /// Begins to merge a piece; `false` where that is not possible: some of it is no symbol, or there is no room.
    pub(super) fn begin(&self, piece: &[u8], word: &mut Word) -> bool {
        let mut symbols = [0; SYMBOLS];
        let (mut at, mut count) = (0, 0);
        while at < piece.len() {
            let byte = self.symbols[usize::from(piece[at])];
            let (symbol, length) = if byte == NONE {
                let length = character_at(piece, at).1.min(piece.len() - at);
                match self.trie.longest(&piece[at..at + length]) {
                    Some(found) if found.1 == length => found,
                    _ => return false,
                }
            } else {
                (byte, 1)
            };
            symbols[count] = symbol;
            at += length;
            count += 1;
        }
        let symbols = &symbols[..count];
        if count == piece.len() {
            word.begin(symbols, |at| {
                self.byte_pairs[usize::from(piece[at]) << 8 | usize::from(piece[at + 1])]
            });
        } else {
            let pairs = &self.merges.pairs;
            word.begin(symbols, |at| pairs.find(symbols[at], symbols[at + 1]));
        }
        true
    }

    /// Appends the piece's tokens, in time that is linear in its length.
    ///
    /// Goes on with the longest token that stays apart from the one before it, and where there is none, goes back and
    /// takes a shorter one. A place from which it went back is never tried again.
    pub(super) fn encode(&self, piece: &[u8], workspace: &mut Workspace, out: &mut Vec<u32>) {
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
            if !is_dead && before.is_none_or(|before| self.are_apart(before, token, workspace)) {
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
    fn are_apart(&self, left: u32, right: u32, workspace: &mut Workspace) -> bool {
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
