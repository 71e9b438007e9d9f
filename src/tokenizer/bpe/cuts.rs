//! Long pieces are cut where no token of the vocabulary reaches across, so that what is between is merged as words are.
//!
//! A token that reaches across a place has the two bytes at it, and it has a third one with them or is these two.

use super::hash;

/// Which bytes follow each other in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cuts {
    /// A bit for each two bytes that are a token.
    pairs: Vec<u64>,
    /// A bit for each hash of three bytes that are in a token. Others may have the same, which only leaves parts longer.
    triples: Vec<u64>,
}

/// Words of the table of triples, as a power of two.
const WORD_BITS: u32 = 14;

impl Cuts {
    /// From all tokens that are made by merges.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut cuts = Self {
            pairs: vec![0; 1 << 10],
            triples: vec![0; 1 << WORD_BITS],
        };
        for token in tokens {
            if let [left, right] = token {
                let (word, bit) = pair(*left, *right);
                cuts.pairs[word] |= bit;
            }
            for bytes in token.windows(3) {
                let (word, bit) = triple(bytes);
                cuts.triples[word] |= bit;
            }
        }
        cuts
    }

    /// Whether no token reaches across the place before `at`, where a character begins.
    fn is_cut(&self, piece: &[u8], at: usize) -> bool {
        let is_in_token = |begin: usize| {
            piece.get(begin..begin + 3).is_some_and(|bytes| {
                let (word, bit) = triple(bytes);
                self.triples[word] & bit != 0
            })
        };
        let (word, bit) = pair(piece[at - 1], piece[at]);
        piece[at] & 0xc0 != 0x80
            && self.pairs[word] & bit == 0
            && !is_in_token(at - 1)
            && !(at > 1 && is_in_token(at - 2))
    }

    /// Where the part of a piece ends that begins at `begin`: the last place that is at most so many bytes behind it, or
    /// the next one.
    pub(super) fn end(&self, piece: &[u8], begin: usize, most: usize) -> usize {
        let far = begin + most;
        if far >= piece.len() {
            return piece.len();
        }
        let is_cut = |at: &usize| self.is_cut(piece, *at);
        let near = (begin + 1..=far).rfind(is_cut);
        near.or_else(|| (far + 1..piece.len()).find(is_cut))
            .unwrap_or(piece.len())
    }
}

fn pair(left: u8, right: u8) -> (usize, u64) {
    (
        usize::from(left) << 2 | usize::from(right >> 6),
        1 << (right & 63),
    )
}

#[inline]
fn triple(bytes: &[u8]) -> (usize, u64) {
    let key = bytes
        .iter()
        .fold(0, |key, byte| key << 8 | u64::from(*byte));
    let hash = key.wrapping_mul(hash::FACTORS[0]);
    ((hash >> (64 - WORD_BITS)) as usize, 1 << (hash >> 40 & 63))
}
