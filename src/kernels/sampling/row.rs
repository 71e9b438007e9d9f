//! A row of scores in blocks, with the largest of each: most questions pass over most of the row.
//! Knows nothing of why they are asked.

use std::borrow::Cow;

use super::super::simd::{self, Instructions};
use super::passes::{BUCKETS_PER_E, Bucket, Draw, Histogram, Mass, Peaks};
use super::{Noise, last_within};
use crate::sample::{Mask, bits};

/// Scores of a block.
pub(super) const BLOCK: usize = 64;

/// A block of which nothing may be chosen.
const NOTHING: [f32; BLOCK] = [f32::NEG_INFINITY; BLOCK];

/// A score and its token, in the order of choice: the larger score first, then the lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    /// After all others.
    pub(super) const LAST: Self = Self(u64::MAX);

    /// `score` is not NaN.
    #[inline]
    pub(super) fn new(score: f32, id: u32) -> Self {
        // Adding zero makes both zeros one.
        let bits = (score + 0.0).to_bits();
        // Ascending as unsigned numbers where the floats descend.
        let rank = bits ^ if bits >> 31 == 0 { 0x7fff_ffff } else { 0 };
        Self(u64::from(rank) << 32 | u64::from(id))
    }

    #[inline]
    pub(super) fn score(self) -> f32 {
        let rank = (self.0 >> 32) as u32;
        f32::from_bits(rank ^ if rank >> 31 == 0 { 0x7fff_ffff } else { 0 })
    }

    #[inline]
    pub(super) fn id(self) -> u32 {
        self.0 as u32
    }
}

/// Scores in blocks; those that are changed are copied block by block.
pub(super) struct Row<'a> {
    instructions: Instructions,
    size: usize,
    /// Of [`BLOCK`] scores each; the last one is filled up with minus infinity.
    blocks: Vec<Cow<'a, [f32]>>,
    /// The largest score of each block.
    peaks: Vec<f32>,
}

impl<'a> Row<'a> {
    /// `None` where a score is NaN or infinite, but for minus infinity, or where there is none.
    pub(super) fn new(instructions: Instructions, scores: &'a [f32]) -> Option<Self> {
        if scores.is_empty() {
            return None;
        }
        let mut blocks: Vec<_> = scores.chunks(BLOCK).map(Cow::Borrowed).collect();
        if let Some(last) = blocks.last_mut().filter(|last| last.len() < BLOCK) {
            last.to_mut().resize(BLOCK, f32::NEG_INFINITY);
        }
        let peaks = simd::run_with(instructions, Peaks(&blocks))?;
        Some(Self {
            instructions,
            size: scores.len(),
            blocks,
            peaks,
        })
    }

    /// Count of scores.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Each block's largest score, and its scores.
    #[inline]
    pub(super) fn blocks(&self) -> impl Iterator<Item = (f32, &[f32])> {
        let blocks = self.blocks.iter().map(Cow::as_ref);
        self.peaks.iter().copied().zip(blocks)
    }

    /// Changes the score of one token. Ids that the row does not have are passed over.
    pub(super) fn change(&mut self, id: u32, to: impl FnOnce(f32) -> f32) {
        let id = id as usize;
        if id < self.size {
            let scores = self.blocks[id / BLOCK].to_mut();
            scores[id % BLOCK] = to(scores[id % BLOCK]);
            self.peaks[id / BLOCK] = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        }
    }

    /// Makes the scores of all tokens that are not in `mask` minus infinity.
    pub(super) fn restrict(&mut self, mask: &Mask) {
        for (index, (block, peak)) in self.blocks.iter_mut().zip(&mut self.peaks).enumerate() {
            let word = mask.word(index);
            if word == u64::MAX || *peak == f32::NEG_INFINITY {
                continue;
            }
            if word == 0 {
                *block = Cow::Borrowed(&NOTHING);
                *peak = f32::NEG_INFINITY;
                continue;
            }
            let scores = block.to_mut();
            let mut highest = f32::NEG_INFINITY;
            for bit in bits(!word) {
                let score = &mut scores[bit as usize];
                highest = highest.max(*score);
                *score = f32::NEG_INFINITY;
            }
            // Only where it was among those that are gone, the largest is another one.
            if highest >= *peak {
                *peak = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            }
        }
    }

    /// The first of all.
    pub(super) fn best(&self) -> Key {
        let peak = self.peak_keys().min().unwrap_or(Key::LAST);
        self.keys(peak.id()).min().unwrap_or(Key::LAST)
    }

    /// The first `count` of all, or all where there are fewer, in no order.
    pub(super) fn top(&self, count: usize) -> Vec<Key> {
        let mut peaks: Vec<Key> = self.peak_keys().collect();
        let mut floor = f32::NEG_INFINITY;
        if 0 < count && count < peaks.len() {
            // So many blocks have a score that is at least as large, and all others come later.
            let (_, last, _) = peaks.select_nth_unstable(count - 1);
            floor = last.score();
            peaks.truncate(count);
        }
        let mut keys = Vec::new();
        for peak in peaks {
            keys.extend(self.keys(peak.id()).filter(|key| key.score() >= floor));
        }
        if 0 < count && count < keys.len() {
            keys.select_nth_unstable(count - 1);
        }
        keys.truncate(count);
        keys
    }

    /// The peaks with the numbers of their blocks.
    fn peak_keys(&self) -> impl Iterator<Item = Key> {
        let peaks = (0..).zip(&self.peaks);
        peaks.map(|(block, &peak)| Key::new(peak, block))
    }

    /// The scores of a block.
    fn keys(&self, block: u32) -> impl Iterator<Item = Key> {
        let start = block as usize * BLOCK;
        let ids = start as u32..(start + BLOCK).min(self.size) as u32;
        let scores = self.blocks[block as usize].iter();
        ids.zip(scores).map(|(id, &score)| Key::new(score, id))
    }

    /// `Σ exp((score - best) · scale)`, where `best` is the largest score.
    pub(super) fn mass(&self, best: f32, scale: f32) -> f64 {
        let mass = Mass {
            row: self,
            best,
            scale,
        };
        simd::run_with(self.instructions, mass)
    }

    /// The last of the smallest set of first scores whose weights `exp((score - best) · scale)` reach
    /// `share`, below 1, of all weights. The best is always one of them.
    pub(super) fn nucleus(&self, best: f32, scale: f32, share: f32) -> Key {
        let factor = scale * BUCKETS_PER_E;
        let histogram = Histogram {
            row: self,
            best,
            factor,
            share,
        };
        let (total, masses) = simd::run_with(self.instructions, histogram);
        let mut wanted = f64::from(share) * total;
        let crossing = masses.iter().position(|&mass| {
            let crosses = mass > 0.0 && mass >= wanted;
            if !crosses {
                wanted -= mass;
            }
            crosses
        });
        let Some(crossing) = crossing else {
            return Key::LAST;
        };
        let bucket = Bucket {
            row: self,
            best,
            factor,
            number: crossing as u32,
        };
        let mut keys = simd::run_with(self.instructions, bucket);
        let weight = |key: &Key| f64::from(((key.score() - best) * scale).exp());
        last_within(&mut keys, weight, wanted)
    }

    /// The token whose noisy score `score · scale + noise` is the largest, among those that do not
    /// come after `last`. `best` is the first of all.
    pub(super) fn draw(&self, best: Key, last: Key, scale: f32, noise: Noise) -> u32 {
        let draw = Draw {
            row: self,
            best,
            last,
            scale,
            noise,
        };
        simd::run_with(self.instructions, draw)
    }
}
