//! Which tokens merges make, and whether two tokens stay apart.
//!
//! Byte-pair encoding merges the pair that comes first in a list, again and again. Whether it parts a text into given
//! tokens can be told by looking at neighbours alone: it does if each token is what becomes of its own bytes, and no
//! merge across a border comes before those that make the tokens on its sides (the theorem behind
//! <https://github.blog/ai-and-ml/llms/so-many-tokens-so-little-time-introducing-a-faster-more-flexible-byte-pair-tokenizer/>).
//!
//! A list may have several pairs for one token. Only one of them ever merges: the one that comes last when the token's
//! own bytes are encoded, since nothing outside a token takes part in what happens inside it.
//!
//! Ranks are places in the list. A token may come before its parts there; it is then made at once when the last of them
//! is. So time is told in epochs: the epoch of a token is the largest rank of all merges that make it. Merges of an epoch
//! happen from left to right.

use super::hash;

/// No token.
pub(super) const NONE: u32 = u32::MAX;

/// A pair of the list, with what it makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) merged: u32,
}

/// How a token is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Split {
    left: u32,
    right: u32,
    /// Of this merge, from 1 on; 0 for what is not merged.
    rank: u32,
    /// When it happens.
    epoch: u32,
}

const NO_SPLIT: Split = Split {
    left: NONE,
    right: NONE,
    rank: 0,
    epoch: 0,
};

/// Bits of a token in the table of pairs.
const TOKEN_BITS: u32 = 22;
/// Stands for no token there.
const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;

/// The merges that ever happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merges {
    /// For each token.
    pub(super) splits: Vec<Split>,
    /// What pairs merge into, by a hash of the pair: open addressing, a power of two. The high bits are more of the hash,
    /// the low ones the token, whose split is the pair.
    pub(super) pairs: Vec<u32>,
}

impl Merges {
    /// Takes from a list the pairs that ever merge. `symbols` says of each token whether it is there before merges,
    /// `lengths` how long it is, in any unit.
    ///
    /// `None` where a pair is there twice.
    pub(super) fn new(list: &[Merge], symbols: &[bool], lengths: &[u32]) -> Option<Self> {
        let mut merges = Self {
            splits: vec![NO_SPLIT; symbols.len()],
            pairs: vec![NO_TOKEN; (list.len().min(symbols.len()) * 2).next_power_of_two()],
        };
        // What happens inside a token makes shorter ones.
        let mut order: Vec<(u32, u32)> = (0..)
            .zip(list)
            .map(|(at, merge)| (lengths[merge.merged as usize], at))
            .collect();
        order.sort_unstable();
        for (_, at) in order {
            let merge = list[at as usize];
            let is_there = |token: u32| symbols[token as usize] || merges.is_merged(token);
            if is_there(merge.merged) {
                let split = merges.splits[merge.merged as usize];
                if (split.left, split.right) == (merge.left, merge.right) {
                    return None;
                }
            } else if is_there(merge.left)
                && is_there(merge.right)
                && merges.are_apart(merge.left, merge.right)
            {
                merges.add(merge, at + 1);
            }
        }
        Some(merges)
    }

    /// Whether the token is made of others.
    pub(super) fn is_merged(&self, token: u32) -> bool {
        self.splits[token as usize].rank > 0
    }

    fn add(&mut self, merge: Merge, rank: u32) {
        let Merge {
            left,
            right,
            merged,
        } = merge;
        let (mut at, tag) = self.place(left, right);
        while self.pairs[at] & NO_TOKEN != NO_TOKEN {
            at = (at + 1) & (self.pairs.len() - 1);
        }
        self.pairs[at] = tag | merged;
        let epoch = [left, right].map(|part| self.splits[part as usize].epoch);
        let epoch = epoch.into_iter().fold(rank, u32::max);
        self.splits[merged as usize] = Split {
            left,
            right,
            rank,
            epoch,
        };
    }

    /// Where a pair is looked for first, and what of its hash stands there.
    #[inline]
    fn place(&self, left: u32, right: u32) -> (usize, u32) {
        let hash = hash::of_pair(left.into(), right.into());
        (
            (hash >> 32) as usize & (self.pairs.len() - 1),
            hash as u32 & !NO_TOKEN,
        )
    }

    /// Appends the symbols that a token is made of.
    fn symbols(&self, token: u32, symbols: &mut Vec<u32>) {
        let mut rest = vec![token];
        while let Some(token) = rest.pop() {
            let split = self.splits[token as usize];
            if split.rank == 0 {
                symbols.push(token);
            } else {
                rest.extend([split.right, split.left]);
            }
        }
    }

    /// What a pair merges into, and its rank; rank 0 for one that never merges.
    #[inline]
    fn merged(&self, left: u32, right: u32) -> (u32, u32) {
        let (mut at, tag) = self.place(left, right);
        loop {
            let token = self.pairs[at] & NO_TOKEN;
            if token == NO_TOKEN {
                return (NONE, 0);
            }
            if self.pairs[at] & !NO_TOKEN == tag {
                let split = self.splits[token as usize];
                if (split.left, split.right) == (left, right) {
                    return (token, split.rank);
                }
            }
            at = (at + 1) & (self.pairs.len() - 1);
        }
    }

    /// Whether the encoding of two tokens' bytes is these two tokens, given that each is that of its own.
    ///
    /// Undoes what was merged last on either side of the border, as long as there is something, and asks each time
    /// whether the two that meet there would have been merged before that.
    pub(super) fn are_apart(&self, left: u32, right: u32) -> bool {
        let (mut a, mut b) = (left, right);
        // What was undone last: its epoch, and whether it is right of the border. Of merges of one pair the left one
        // comes first.
        let (mut end, mut end_is_right) = (u32::MAX, false);
        loop {
            let (split_a, split_b) = (self.splits[a as usize], self.splits[b as usize]);
            let (_, across) = self.merged(a, b);
            if across > 0 && (across < end || (across == end && end_is_right)) {
                let begin = if end_is_right {
                    split_b.epoch
                } else {
                    split_a.epoch
                };
                // Within an epoch the order is not told by ranks.
                return begin == end && self.are_apart_when_merged(left, right);
            }
            if split_a.epoch > split_b.epoch {
                (end, end_is_right) = (split_a.epoch, false);
                a = split_a.right;
            } else if split_b.epoch > 0 {
                (end, end_is_right) = (split_b.epoch, true);
                b = split_b.left;
            } else {
                return true;
            }
        }
    }

    /// The same by merging both tokens' symbols.
    #[cold]
    fn are_apart_when_merged(&self, left: u32, right: u32) -> bool {
        let mut symbols = Vec::new();
        self.symbols(left, &mut symbols);
        let mut border = symbols.len();
        self.symbols(right, &mut symbols);
        loop {
            let pairs = symbols
                .windows(2)
                .map(|pair| self.merged(pair[0], pair[1]).1)
                .enumerate();
            let first = pairs
                .filter(|(_, rank)| *rank > 0)
                .min_by_key(|(at, rank)| (*rank, *at));
            let Some((at, _)) = first else {
                return true;
            };
            if at + 1 == border {
                return false;
            }
            let (merged, _) = self.merged(symbols[at], symbols[at + 1]);
            symbols.splice(at..at + 2, [merged]);
            border -= usize::from(at < border);
        }
    }
}
