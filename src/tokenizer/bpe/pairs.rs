//! What two tokens merge into: asked some ten times for each word that was never seen, mostly of pairs that never merge.

use std::hint::select_unpredictable;

use super::hash::FACTORS;
use crate::kernels::table::Table;
use crate::kernels::text::prefetch;

/// Bits of a token's number in a pair.
const NUMBER_BITS: u32 = 21;
/// Bits of what a pair merges into.
const MERGED_BITS: u32 = 22;
/// Tokens at most.
pub(super) const MOST_TOKENS: usize = (1 << NUMBER_BITS) - 1;
/// A number that no token has: no pair with it merges.
pub(super) const NOBODY: u32 = MOST_TOKENS as u32;
/// Says that a pair does not merge.
pub(super) const APART: u32 = (1 << MERGED_BITS) - 1;

/// Pairs in a bucket at most.
const ROOM: usize = 4;
/// Pairs whose places are asked of the memory before the first of them is put there.
const ASKED: usize = 16;
/// No pair.
const EMPTY: u64 = u64::MAX;
/// Words of the filter at most: 256 KB, which stay near.
const MOST_WORDS: usize = 1 << 15;

/// Pairs that are side by side in memory: the two tokens and, in the low bits, how far before [`APART`] that is what they
/// merge into, so that nothing stands for what is apart. Filled from the first place on; where all are taken, the next
/// bucket has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(32))]
pub(super) struct Bucket([u64; ROOM]);

/// Pairs that merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pairs {
    pub(super) buckets: Table<Bucket>,
    /// Two bits of one word for each pair: a pair that lacks one of them never merges. As many as a power of two.
    pub(super) filter: Table<u64>,
}

impl Pairs {
    /// No pairs, with room for so many.
    pub(super) fn new(count: usize) -> Self {
        Self {
            // The first bucket stays empty.
            buckets: vec![Bucket([EMPTY; ROOM]); count / 2 + 2].into(),
            filter: vec![0; (count / 8).next_power_of_two().min(MOST_WORDS)].into(),
        }
    }

    #[inline(always)]
    fn key(left: u32, right: u32) -> u64 {
        u64::from(left) << NUMBER_BITS | u64::from(right)
    }

    /// A pair's word of the filter, its bits there, and the first bucket that it may be in.
    #[inline(always)]
    fn places(&self, key: u64) -> (usize, u64, usize) {
        let hash = key.wrapping_mul(FACTORS[0]);
        let bits = 1 << (hash >> 20 & 63) | 1 << (hash >> 26 & 63);
        let bucket = ((hash >> 32) * (self.buckets.len() as u64 - 1)) >> 32;
        let word = (hash >> 40) as usize & (self.filter.len() - 1);
        (word, bits, bucket as usize + 1)
    }

    /// Adds a pair that is not there.
    pub(super) fn add(&mut self, left: u32, right: u32, merged: u32) {
        let key = Self::key(left, right);
        let (word, bits, mut at) = self.places(key);
        self.filter[word] |= bits;
        loop {
            if let Some(place) = self.buckets[at].0.iter_mut().find(|place| **place == EMPTY) {
                *place = key << MERGED_BITS | u64::from(APART - merged);
                return;
            }
            at = self.next(at);
        }
    }

    /// Adds pairs that are not there, with what they merge into.
    pub(super) fn extend(&mut self, pairs: impl Iterator<Item = [u32; 3]>) {
        let mut asked = Vec::with_capacity(ASKED);
        for pair in pairs {
            let (_, _, bucket) = self.places(Self::key(pair[0], pair[1]));
            prefetch(&self.buckets, bucket);
            asked.push(pair);
            if asked.len() == ASKED {
                for [left, right, merged] in asked.drain(..) {
                    self.add(left, right, merged);
                }
            }
        }
        for [left, right, merged] in asked {
            self.add(left, right, merged);
        }
    }

    #[inline(always)]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() {
            1
        } else {
            bucket + 1
        }
    }

    /// What a pair merges into, or [`APART`].
    #[inline(always)]
    pub(super) fn find(&self, left: u32, right: u32) -> u32 {
        let key = Self::key(left, right);
        let (word, bits, at) = self.places(key);
        if self.filter[word] & bits != bits {
            return APART;
        }
        self.answer(Asked { key, at })
    }

    /// Begins to find what a pair merges into: the answer will be near when it is asked for.
    #[inline(always)]
    pub(super) fn ask(&self, left: u32, right: u32) -> Asked {
        let key = Self::key(left, right);
        let (word, bits, at) = self.places(key);
        let may_merge = self.filter[word] & bits == bits;
        let at = select_unpredictable(may_merge, at, 0);
        prefetch(&self.buckets, at);
        Asked { key, at }
    }

    /// What a pair merges into, or [`APART`].
    #[inline(always)]
    pub(super) fn answer(&self, Asked { key, mut at }: Asked) -> u32 {
        loop {
            let Bucket(pairs) = &self.buckets[at];
            let is_this = |pair: &u64| (pair >> MERGED_BITS == key).into();
            let found = pairs.map(|pair| pair & u64::wrapping_neg(is_this(&pair)));
            let found = found.iter().fold(0, |all, pair| all | pair) as u32 & APART;
            if found != 0 || pairs[ROOM - 1] == EMPTY {
                return APART - found;
            }
            at = self.next(at);
        }
    }
}

/// A pair that was asked about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    key: u64,
    /// The bucket; the first one, which is empty, where the filter knows the answer.
    at: usize,
}

impl Asked {
    /// A pair whose bucket is known.
    #[inline(always)]
    pub(super) fn new(left: u32, right: u32, bucket: u32) -> Self {
        Self {
            key: Pairs::key(left, right),
            at: bucket as usize,
        }
    }

    /// The bucket.
    #[inline(always)]
    pub(super) fn bucket(self) -> u32 {
        self.at as u32
    }
}
