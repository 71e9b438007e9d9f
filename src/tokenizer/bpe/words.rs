//! Words of several tokens that were never seen: merged as the reference does it, some words side by side.
//!
//! What one merge makes must be known before the next one is chosen, and each asks the table of pairs twice. The
//! processor waits for one word's answers while it asks for the others'.

use super::merges::Merges;
use super::pairs::{APART, Asked, NOBODY, Pairs};
use crate::kernels::text::{Work, prefetch};

/// Symbols of a word at most.
pub(super) const SYMBOLS: usize = PLACES - 2;
/// Places for them, and for two that no symbol is at.
const PLACES: usize = 64;
/// Places that the symbols of most words have room in.
const NEAR: usize = 16;
/// Words that are merged side by side.
const LANES: usize = 16;
/// Stands for the symbol behind the last one.
const END: usize = SYMBOLS;
/// Stands for the one before the first.
const BEGIN: usize = SYMBOLS + 1;
/// Bits of a place in a word.
const PLACE_BITS: u32 = PLACES.trailing_zeros();
/// From here on no merge is, whatever the place.
const NEVER: u32 = APART << PLACE_BITS;

/// A word on its way.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Numbers of tokens, of those places that `alive` has a bit for, and behind them [`NOBODY`], twice.
    tokens: [u32; PLACES],
    /// What the token at a place and the next one merge into, with the place in the low bits: the least is next. From
    /// [`NEAR`] on only where the word reaches there.
    merges: [u32; PLACES],
    alive: u64,
    /// What was asked about the token that was merged last: its place and that of the one before it, and whether they
    /// merge with what is behind them.
    asked: [(usize, Asked); 2],
}

impl Word {
    pub(super) fn new() -> Self {
        Self {
            tokens: [NOBODY; PLACES],
            merges: [NEVER; PLACES],
            alive: 0,
            asked: [(BEGIN, Asked::default()); 2],
        }
    }

    /// Where the symbols are put that it begins with.
    #[inline(always)]
    pub(super) fn symbols(&mut self) -> &mut [u32; SYMBOLS] {
        let (symbols, _) = self
            .tokens
            .split_first_chunk_mut()
            .unwrap_or_else(|| unreachable!("there are more places"));
        symbols
    }

    /// Begins with so many of them, one at least.
    #[inline(always)]
    pub(super) fn begin(&mut self, count: usize) {
        self.alive = (1 << count) - 1;
        let (near, far) = self.merges.split_at_mut(NEAR);
        near.fill(NEVER);
        if count > NEAR {
            far.fill(NEVER);
        }
    }

    /// Asks what the symbols merge into that it begins with, so many.
    #[inline(always)]
    pub(super) fn ask_first(&mut self, pairs: &Pairs, count: usize) {
        let tokens = &self.tokens[..count];
        for (merge, pair) in self.merges.iter_mut().zip(tokens.windows(2)) {
            *merge = pairs.ask(pair[0], pair[1]).bucket();
        }
        for (at, (merge, pair)) in self.merges.iter_mut().zip(tokens.windows(2)).enumerate() {
            let asked = Asked::new(pair[0], pair[1], *merge);
            *merge = with_place(pairs.answer(asked), at);
        }
    }

    /// Says what the symbol at a place and the next one merge into.
    #[inline(always)]
    pub(super) fn first(&mut self, at: usize, merged: u32) {
        self.merges[at] = with_place(merged, at);
    }

    /// Merges the pair that comes first and asks what then merges; `false` where none is left.
    #[inline(always)]
    fn step(&mut self, pairs: &Pairs) -> bool {
        let (near, far) = self.merges.split_at(NEAR);
        let least = |merges: &[u32]| merges.iter().fold(u32::MAX, |a, b| a.min(*b));
        let mut first = least(near);
        if self.alive >> NEAR != 0 {
            first = first.min(least(far));
        }
        if first >= NEVER {
            return false;
        }
        let at = first as usize % PLACES;
        let merged = first >> PLACE_BITS;
        let behind = self.alive & (!1 << at);
        let second = behind.trailing_zeros() as usize % PLACES;
        let third = (behind & (behind.wrapping_sub(1)) | 1 << END).trailing_zeros() as usize;
        let before = self.alive & ((1 << at) - 1);
        let before = if before == 0 {
            BEGIN
        } else {
            before.ilog2() as usize
        };
        self.alive ^= 1 << second;
        self.tokens[at] = merged;
        self.merges[second] = NEVER;
        self.asked = [
            (at, pairs.ask(merged, self.tokens[third % PLACES])),
            (before, pairs.ask(self.tokens[before % PLACES], merged)),
        ];
        true
    }

    /// Takes the answers.
    #[inline(always)]
    fn answer(&mut self, pairs: &Pairs) {
        for (at, asked) in self.asked {
            self.merges[at % PLACES] = with_place(pairs.answer(asked), at);
        }
    }

    /// What it has become.
    #[inline(always)]
    pub(super) fn tokens(&self) -> impl Iterator<Item = u32> {
        let mut alive = self.alive;
        std::iter::from_fn(move || {
            let at = (alive != 0).then_some(alive.trailing_zeros())?;
            alive &= alive - 1;
            self.tokens.get(at as usize).copied()
        })
    }
}

/// What `merges` has at a place.
#[inline(always)]
fn with_place(merged: u32, at: usize) -> u32 {
    merged << PLACE_BITS | (at % PLACES) as u32
}

/// Merges all that there is to merge.
#[inline(always)]
pub(super) fn merge_all(merges: &Merges, words: &mut [Word]) {
    let pairs = &merges.pairs;
    let mut lanes: [usize; LANES] = std::array::from_fn(|lane| lane);
    let mut count = words.len().min(LANES);
    let mut next = count;
    while count > 0 {
        let mut lane = 0;
        while lane < count {
            if words[lanes[lane]].step(pairs) {
                lane += 1;
                continue;
            }
            // Somebody will ask for their ids.
            for token in words[lanes[lane]].tokens() {
                prefetch(&merges.tokens, token as usize);
            }
            if next < words.len() {
                lanes[lane] = next;
                next += 1;
            } else {
                count -= 1;
                lanes[lane] = lanes[count];
            }
        }
        for lane in &lanes[..count] {
            words[*lane].answer(pairs);
        }
    }
}

/// Merging all that there is to merge.
pub(super) struct MergeAll<'a>(pub(super) &'a Merges, pub(super) &'a mut [Word]);

impl Work for MergeAll<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        merge_all(self.0, self.1);
    }
}
