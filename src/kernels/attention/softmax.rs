//! The softmax of scores that come in blocks.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use super::super::simd::{Lanes, Simd, exp};

/// A score that stands for "not seen": far below every real one, and finite, so that the difference
/// of two is a number.
pub(super) const UNSEEN: f32 = -1e30;

/// What is known of a query's scores so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    /// The highest.
    pub(super) highest: f32,
    /// `Σ e^(score - highest)`.
    pub(super) sum: f32,
}

impl Running {
    pub(super) const START: Self = Self {
        highest: UNSEEN,
        sum: 0.0,
    };

    /// Takes in the scores of a block, which become weights `e^(score - highest)`; only those in
    /// `start..end` are seen. Gives the factor for what was summed with older weights.
    ///
    /// # Safety
    /// The pointer is valid for `length` floats, a multiple of 8 that is at least `end`.
    #[inline(always)]
    pub(super) unsafe fn take<S: Simd>(
        &mut self,
        scores: *mut f32,
        (start, end): (usize, usize),
        length: usize,
    ) -> f32 {
        // SAFETY: all indices stay below `length`.
        unsafe {
            let vectors = length / 8;
            fill(scores, (0, start), UNSEEN);
            fill(scores, (end, length), UNSEEN);
            let mut highest = S::splat(self.highest);
            for i in 0..vectors {
                highest = S::max(highest, S::load(scores.add(8 * i)));
            }
            let highest = S::largest(highest);
            let wide = S::Widest::LANES;
            for i in 0..length / wide {
                weigh::<S::Widest>(scores.add(wide * i), highest);
            }
            if !length.is_multiple_of(wide) {
                weigh::<S>(scores.add(length - 8), highest);
            }
            // Next to nothing is not nothing: it would break ties of rounding.
            fill(scores, (0, start), 0.0);
            fill(scores, (end, length), 0.0);
            // Apart from the loop above, which needs all registers.
            let mut sum = S::splat(0.0);
            for i in 0..vectors {
                sum = S::add(sum, S::load(scores.add(8 * i)));
            }
            // Most blocks bring no higher score.
            let factor = if highest > self.highest {
                (self.highest - highest).exp()
            } else {
                1.0
            };
            self.sum = self.sum * factor + S::sum(sum);
            self.highest = highest;
            factor
        }
    }

    /// Takes in one more score, that has no value. Gives the factor for what was summed.
    pub(super) fn take_sink(&mut self, score: f32) -> f32 {
        let highest = self.highest.max(score);
        let factor = (self.highest - highest).exp();
        self.sum = self.sum * factor + (score - highest).exp();
        self.highest = highest;
        factor
    }
}

/// # Safety
/// The pointer is valid for as many floats.
#[inline(always)]
unsafe fn fill(floats: *mut f32, (start, end): (usize, usize), with: f32) {
    for at in start..end {
        // SAFETY: the caller's promise.
        unsafe { *floats.add(at) = with };
    }
}

/// Makes a vector of scores weights.
///
/// # Safety
/// The pointer is valid for a vector.
#[inline(always)]
unsafe fn weigh<L: Lanes>(scores: *mut f32, highest: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let score = L::load(scores);
        L::store(scores, exp::<L>(L::sub(score, L::splat(highest))));
    }
}
