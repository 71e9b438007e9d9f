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

use super::pairs::{APART, Pairs};
use crate::kernels::table::Table;
use crate::kernels::text::prefetch;

/// Places in a list, those of merges that make shorter tokens first.
fn by_length(list: &[Merge], lengths: &[u32]) -> Vec<u32> {
    let length = |merge: &Merge| lengths[merge.merged as usize] as usize;
    let longest = list.iter().map(length).max().unwrap_or(0);
    // Where those of each length begin, and then where the next one of them is put.
    let mut places = vec![0; longest + 2];
    for merge in list {
        places[length(merge) + 1] += 1;
    }
    for length in 0..longest {
        places[length + 1] += places[length];
    }
    let mut order = vec![0; list.len()];
    for (at, merge) in (0..).zip(list) {
        let place = &mut places[length(merge)];
        order[*place] = at;
        *place += 1;
    }
    order
}

/// Merges whose tokens are asked of the memory before they are looked at.
const AHEAD: usize = 8;

/// No token.
pub(super) const NONE: u32 = u32::MAX;

/// A pair of the list, with what it makes.
#[derive(Debug, Clone, Copy, Default)]
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

/// The merges that ever happen.
///
/// Tokens have numbers here: first come those that are not made of others, then the others in the order of their merges.
/// So what comes first is told by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merges {
    /// By number.
    pub(super) splits: Table<Split>,
    pub(super) pairs: Pairs,
    /// Ids by number.
    pub(super) tokens: Table<u32>,
}

impl Merges {
    /// Takes from a list the pairs that ever merge. `symbols` says of each token whether it is there before merges,
    /// `lengths` how long it is, in any unit. With it come the tokens' numbers by id, [`NONE`] for what is never made.
    ///
    /// `None` where a pair is there twice.
    pub(super) fn new(
        list: Vec<Merge>,
        symbols: &[bool],
        lengths: &[u32],
    ) -> Option<(Self, Vec<u32>)> {
        // Until all are found, a token's number is its id, and ranks are places in the list.
        let mut merges = Self {
            splits: vec![NO_SPLIT; symbols.len()].into(),
            pairs: Pairs::new(list.len().min(symbols.len())),
            tokens: Vec::new().into(),
        };
        // What happens inside a token makes shorter ones.
        let order = by_length(&list, lengths);
        for (at, next) in order
            .iter()
            .zip(order.iter().skip(AHEAD).chain([&0; AHEAD]))
        {
            let next = list[*next as usize];
            for token in [next.merged, next.left, next.right] {
                prefetch(&merges.splits, token as usize);
            }
            let merge = list[*at as usize];
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
                merges.add(merge, *at + 1);
            }
        }
        let ranks = list.len();
        drop((list, order));
        Some(merges.numbered(ranks, symbols))
    }

    fn add(&mut self, merge: Merge, rank: u32) {
        let Merge {
            left,
            right,
            merged,
        } = merge;
        self.pairs.add(left, right, merged);
        let epoch = [left, right].map(|part| self.splits[part as usize].epoch);
        let epoch = epoch.into_iter().fold(rank, u32::max);
        self.splits[merged as usize] = Split {
            left,
            right,
            rank,
            epoch,
        };
    }

    /// The same with numbers in the order of merges, and these by id.
    fn numbered(self, ranks: usize, symbols: &[bool]) -> (Self, Vec<u32>) {
        let Self {
            splits: by_id,
            pairs,
            ..
        } = self;
        drop(pairs);
        let mut by_rank = vec![NONE; ranks + 1];
        for (token, split) in (0..).zip(by_id.iter()) {
            if split.rank > 0 {
                by_rank[split.rank as usize] = token;
            }
        }
        let symbols = (0..).zip(symbols).filter(|(_, is_symbol)| **is_symbol);
        let merged = by_rank.into_iter().filter(|token| *token != NONE);
        let tokens: Vec<u32> = symbols.map(|(token, _)| token).chain(merged).collect();
        let mut numbers = vec![NONE; by_id.len()];
        let mut of_rank = vec![0; ranks + 1];
        for (number, token) in (0..).zip(&tokens) {
            numbers[*token as usize] = number;
            of_rank[by_id[*token as usize].rank as usize] = number;
        }
        // Of what is not merged.
        of_rank[0] = 0;
        let numbered = |(number, token): (u32, &u32)| {
            let split = by_id[*token as usize];
            if split.rank == 0 {
                return NO_SPLIT;
            }
            Split {
                left: numbers[split.left as usize],
                right: numbers[split.right as usize],
                rank: number,
                epoch: of_rank[split.epoch as usize],
            }
        };
        let splits: Vec<Split> = (0..).zip(&tokens).map(numbered).collect();
        let mut pairs = Pairs::new(tokens.len());
        let merged = splits.iter().filter(|split| split.rank > 0);
        pairs.extend(merged.map(|split| [split.left, split.right, split.rank]));
        let numbered = Self {
            splits: splits.into(),
            pairs,
            tokens: tokens.into(),
        };
        (numbered, numbers)
    }

    /// Whether the token is made of others.
    pub(super) fn is_merged(&self, token: u32) -> bool {
        self.splits[token as usize].rank > 0
    }

    /// The numbers of tokens that may merge with others before they are made, would their bytes be merged already.
    pub(super) fn late(&self) -> impl Iterator<Item = u32> {
        let merged = self.splits.iter().filter(|split| split.rank > 0);
        let parts = merged.flat_map(|split| [(split.left, split.rank), (split.right, split.rank)]);
        let is_late = |(part, rank): &(u32, u32)| self.splits[*part as usize].epoch > *rank;
        parts.filter(is_late).map(|(part, _)| part)
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
        match self.pairs.find(left, right) {
            APART => (NONE, 0),
            token => (token, self.splits[token as usize].rank),
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
