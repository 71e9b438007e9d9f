//! Which experts tokens take, and with what weights.

use super::parts::Parts;
use super::pool::Pool;

/// Tokens of a task.
const ROWS: usize = 16;

/// How scores become a choice.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// What becomes of logits.
    pub scores: Scores,
    /// `[E]`: added to scores where experts are chosen, not where they are weighed.
    pub correction: Option<&'a [f32]>,
    /// Experts are in so many groups, of which as many as the second number says take part: those whose
    /// two best (corrected) scores add up to most.
    pub groups: Option<(usize, usize)>,
    /// Experts that a token takes, k.
    pub taken: usize,
    /// Weights are divided by their sum and this.
    pub normalize: Option<f32>,
    /// Weights are multiplied by this in the end.
    pub factor: f32,
}

/// What becomes of the logits of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Their softmax over all experts.
    Softmax,
    /// Their softmax over the experts that are taken.
    SoftmaxOfTaken,
    /// Their sigmoids.
    Sigmoid,
}

/// For each row of `logits` `[T, E]` the experts with the highest scores, highest first and of equal ones
/// the first, into `experts` `[T, k]`, and their weights into `weights` `[T, k]`.
///
/// # Panics
/// If the lengths do not fit each other, or there are fewer experts than are to be taken.
pub fn route(
    pool: &Pool,
    rule: &Rule<'_>,
    logits: &[f32],
    experts: &mut [u32],
    weights: &mut [f32],
) {
    let taken = rule.taken;
    assert_eq!(experts.len(), weights.len(), "a weight each");
    let rows = experts.len() / taken;
    if rows == 0 {
        return;
    }
    let count = logits.len() / rows;
    assert!(taken <= count, "{taken} of {count} experts");
    let (experts, weights) = (Parts::new(experts), Parts::new(weights));
    pool.run(rows.div_ceil(ROWS), |task| {
        let mut scratch = Scratch::default();
        for row in task * ROWS..rows.min((task + 1) * ROWS) {
            let logits = &logits[row * count..(row + 1) * count];
            // SAFETY: each row belongs to one task.
            let (experts, weights) = unsafe {
                (
                    experts.part(row * taken, taken),
                    weights.part(row * taken, taken),
                )
            };
            rule.route_row(logits, &mut scratch, experts, weights);
        }
    });
}

/// Of one row.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    ranks: Vec<f32>,
    order: Vec<u32>,
}

impl Rule<'_> {
    fn route_row(
        &self,
        logits: &[f32],
        scratch: &mut Scratch,
        experts: &mut [u32],
        weights: &mut [f32],
    ) {
        let Scratch {
            scores,
            ranks,
            order,
        } = scratch;
        scores.clear();
        match self.scores {
            Scores::Sigmoid => scores.extend(logits.iter().map(|x| 1.0 / (1.0 + (-x).exp()))),
            Scores::Softmax => softmax(logits, scores),
            Scores::SoftmaxOfTaken => scores.extend(logits),
        }
        ranks.clone_from(scores);
        if let Some(correction) = self.correction {
            for (rank, correction) in ranks.iter_mut().zip(correction) {
                *rank += correction;
            }
        }
        if let Some((groups, allowed)) = self.groups {
            keep_groups(ranks, groups, allowed);
        }
        order.clear();
        order.extend(0..ranks.len() as u32);
        let by_rank = |a: &u32, b: &u32| {
            let rank = |expert: &u32| ranks[*expert as usize];
            rank(b).total_cmp(&rank(a)).then(a.cmp(b))
        };
        if experts.len() < order.len() {
            order.select_nth_unstable_by(experts.len() - 1, by_rank);
        }
        order.truncate(experts.len());
        order.sort_unstable_by(by_rank);
        experts.copy_from_slice(order);
        for (weight, &expert) in weights.iter_mut().zip(&*experts) {
            *weight = scores[expert as usize];
        }
        if self.scores == Scores::SoftmaxOfTaken {
            scores.clear();
            softmax(weights, scores);
            weights.copy_from_slice(scores);
        }
        let divisor = match self.normalize {
            Some(epsilon) => weights.iter().sum::<f32>() + epsilon,
            None => 1.0,
        };
        for weight in weights {
            *weight = *weight / divisor * self.factor;
        }
    }
}

fn softmax(logits: &[f32], out: &mut Vec<f32>) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    out.extend(logits.iter().map(|x| (x - highest).exp()));
    let sum: f32 = out.iter().sum();
    for x in out {
        *x /= sum;
    }
}

/// Takes experts out whose group is not among the `allowed` best.
fn keep_groups(ranks: &mut [f32], groups: usize, allowed: usize) {
    let size = ranks.len() / groups;
    let mut sums: Vec<(f32, usize)> = ranks
        .chunks_exact(size)
        .enumerate()
        .map(|(group, ranks)| {
            let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            for &rank in ranks {
                if rank > first {
                    (first, second) = (rank, first);
                } else if rank > second {
                    second = rank;
                }
            }
            (if size > 1 { first + second } else { first }, group)
        })
        .collect();
    sums.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for &(_, group) in sums.iter().skip(allowed) {
        ranks[group * size..(group + 1) * size].fill(f32::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests;
