//! The loops over a row of scores, each compiled for every instruction set.

// Closures are not compiled with the instructions of the function around them: these loops have none.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use std::borrow::Cow;

use super::super::simd::{self, Kernel, Simd};
use super::Noise;
use super::row::{BLOCK, Key, Row};

/// All tokens of a row together, where each weighs less than e⁻³² of the best, are lost in rounding.
const NEGLIGIBLE: f32 = 32.0;

/// Parts of a row by score: bucket `b` holds the weights around `exp(-b / 64)` of the best's, the last
/// one all that are less.
pub(super) const BUCKETS: usize = 2048;

/// Buckets for a factor of e.
pub(super) const BUCKETS_PER_E: f32 = 64.0;

/// The last bucket.
const FARTHEST: f32 = BUCKETS as f32 - 1.0;

/// 2²³: added to a small number it leaves the nearest whole one in the lowest bits.
const WHOLE: f32 = 8_388_608.0;

/// The largest score of each block; `None` where one is NaN or plus infinity.
pub(super) struct Peaks<'a>(pub(super) &'a [Cow<'a, [f32]>]);

impl Kernel for Peaks<'_> {
    type Output = Option<Vec<f32>>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<Vec<f32>> {
        let (zero, lowest) = (S::splat(0.0), S::splat(f32::MIN));
        // Zero times a number is zero; times NaN or infinity it is NaN, and stays so.
        let mut poison = [zero; 4];
        let mut peaks = Vec::with_capacity(self.0.len());
        for block in self.0 {
            let mut largest = [S::splat(f32::NEG_INFINITY); 4];
            for scores in block.as_chunks::<32>().0 {
                for i in 0..4 {
                    // SAFETY: four times eight floats.
                    let score = unsafe { S::load(scores.as_ptr().add(8 * i)) };
                    poison[i] = S::fma(S::max(lowest, score), zero, poison[i]);
                    largest[i] = S::max(score, largest[i]);
                }
            }
            let [a, b, c, d] = largest;
            peaks.push(S::largest(S::max(S::max(a, b), S::max(c, d))));
        }
        let [a, b, c, d] = poison;
        let poison = S::sum(S::add(S::add(a, b), S::add(c, d)));
        (!poison.is_nan()).then_some(peaks)
    }
}

/// See [`Row::mass`].
pub(super) struct Mass<'a> {
    pub(super) row: &'a Row<'a>,
    pub(super) best: f32,
    pub(super) scale: f32,
}

impl Kernel for Mass<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let floor = self.best - NEGLIGIBLE / self.scale;
        let (best, scale) = (S::splat(self.best), S::splat(self.scale));
        let mut total = 0.0;
        for (peak, scores) in self.row.blocks() {
            if peak < floor {
                continue;
            }
            let mut sum = S::splat(0.0);
            for eight in scores.as_chunks::<8>().0 {
                // SAFETY: eight floats.
                let score = unsafe { S::load(eight.as_ptr()) };
                let weight = simd::exp::<S>(S::mul(S::sub(score, best), scale));
                sum = S::add(sum, weight);
            }
            total += f64::from(S::sum(sum));
        }
        total
    }
}

/// The sum of all weights, and those of each bucket; tokens that are too light to be within the share
/// are in no bucket.
pub(super) struct Histogram<'a> {
    pub(super) row: &'a Row<'a>,
    pub(super) best: f32,
    /// Buckets for a difference of scores of 1.
    pub(super) factor: f32,
    pub(super) share: f32,
}

impl Kernel for Histogram<'_> {
    type Output = (f64, Box<[f64; BUCKETS]>);

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        // All tokens that weigh less than this are together less than what the share leaves.
        let least = (1.0 - self.share) / self.row.size() as f32;
        let mut total = 0.0;
        let mut buckets = Box::new([0.0; BUCKETS]);
        let (mut weights, mut distances) = ([0.0; 8], [0.0; 8]);
        for (_, scores) in self.row.blocks() {
            let mut sum = S::splat(0.0);
            for eight in scores.as_chunks::<8>().0 {
                // SAFETY: eight floats.
                let score = unsafe { S::load(eight.as_ptr()) };
                let distance = S::mul(S::sub(S::splat(self.best), score), S::splat(self.factor));
                let distance = S::min(distance, S::splat(FARTHEST));
                let weight = simd::exp::<S>(S::mul(distance, S::splat(-1.0 / BUCKETS_PER_E)));
                sum = S::add(sum, weight);
                if S::largest(weight) < least {
                    continue;
                }
                // SAFETY: eight floats each.
                unsafe {
                    S::store(weights.as_mut_ptr(), weight);
                    S::store(distances.as_mut_ptr(), distance);
                }
                for i in 0..8 {
                    buckets[bucket(distances[i]) as usize] += f64::from(weights[i]);
                }
            }
            total += f64::from(S::sum(sum));
        }
        (total, buckets)
    }
}

/// The bucket at a distance, in buckets, from the best.
#[inline]
fn bucket(distance: f32) -> u32 {
    let distance = if distance < FARTHEST {
        distance
    } else {
        FARTHEST
    };
    (distance + WHOLE).to_bits() & (BUCKETS as u32 - 1)
}

/// The keys of one bucket of a [`Histogram`], in no order.
pub(super) struct Bucket<'a> {
    pub(super) row: &'a Row<'a>,
    pub(super) best: f32,
    pub(super) factor: f32,
    pub(super) number: u32,
}

impl Kernel for Bucket<'_> {
    type Output = Vec<Key>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<Key> {
        let mut keys = Vec::new();
        for ((peak, scores), start) in self.row.blocks().zip((0..).step_by(BLOCK)) {
            if bucket((self.best - peak) * self.factor) > self.number {
                continue;
            }
            for (part, start) in scores.as_chunks::<32>().0.iter().zip((start..).step_by(32)) {
                let mut is_inside = [0; 32];
                for (is_inside, score) in is_inside.iter_mut().zip(part) {
                    let found = bucket((self.best - score) * self.factor);
                    *is_inside = u32::from(found == self.number);
                }
                if is_inside == [0; 32] {
                    continue;
                }
                for i in 0..32 {
                    if is_inside[i] > 0 {
                        keys.push(Key::new(part[i], start + i as u32));
                    }
                }
            }
        }
        keys
    }
}

/// See [`Row::draw`].
pub(super) struct Draw<'a> {
    pub(super) row: &'a Row<'a>,
    pub(super) best: Key,
    pub(super) last: Key,
    pub(super) scale: f32,
    pub(super) noise: Noise,
}

impl Draw<'_> {
    /// A score above the best one, with noise.
    fn noisy(&self, key: Key) -> Key {
        let score = (key.score() - self.best.score()) * self.scale;
        Key::new(score + self.noise.of(key.id()), key.id())
    }
}

impl Kernel for Draw<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self) -> u32 {
        let mut winner = self.noisy(self.best);
        for ((peak, scores), start) in self.row.blocks().zip((0..).step_by(BLOCK)) {
            if Key::new(peak, start) > self.last {
                continue;
            }
            // Noise of at least t has u >= exp(-exp(-t)), so 1 - u <= exp(-t): only tokens that are
            // so near to 1 may win here. A hundredth more is left for rounding.
            let needed = winner.score() - (peak - self.best.score()) * self.scale;
            let nearest = (-needed).exp() * WHOLE * 1.01;
            if nearest < 0.5 {
                continue;
            }
            let nearest = nearest as u32;
            for (part, start) in scores.as_chunks::<32>().0.iter().zip((start..).step_by(32)) {
                let mut is_near = [0; 32];
                for (is_near, id) in is_near.iter_mut().zip(start..) {
                    *is_near = u32::from(self.noise.below_one(id) <= nearest);
                }
                if is_near == [0; 32] {
                    continue;
                }
                for i in 0..32 {
                    let key = Key::new(part[i], start + i as u32);
                    if is_near[i] > 0 && key <= self.last {
                        winner = winner.min(self.noisy(key));
                    }
                }
            }
        }
        winner.id()
    }
}
