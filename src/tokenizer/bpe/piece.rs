//! The tokens of one piece: what merging would make of it, without merging.

use super::classes::character_at;
use super::merges::{Merges, NONE};
use super::trie::Trie;
use super::vocabulary::Vocabulary;

/// What is known of a vocabulary, as far as one piece needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) vocabulary: Vocabulary,
    pub(super) merges: Merges,
    pub(super) trie: Trie,
    /// The tokens of bytes, for characters that no token begins with; all [`NONE`] in byte-level vocabularies, where
    /// each byte is a token.
    pub(super) bytes: [u32; 256],
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
    /// The tokens that are made by merges.
    pub(super) fn made(&self) -> impl Iterator<Item = u32> {
        (0..self.merges.splits.len() as u32).filter(|token| self.merges.is_merged(*token))
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
                let length = self.vocabulary.length(before);
                at -= length;
                next = Some((before, length));
            } else {
                unreachable!("a text has one encoding, and the ways to it were all tried");
            }
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
