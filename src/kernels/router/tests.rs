//! The choice of experts against a full sort in float64, and by hand.

use proptest::prelude::*;

use super::super::pool::for_tests;
use super::*;

const PLAIN: Rule<'_> = Rule {
    scores: Scores::Softmax,
    correction: None,
    groups: None,
    taken: 2,
    normalize: None,
    factor: 1.0,
};

fn routed(rule: &Rule<'_>, logits: &[f32], rows: usize) -> (Vec<u32>, Vec<f32>) {
    let mut experts = vec![u32::MAX; rows * rule.taken];
    let mut weights = vec![f32::NAN; rows * rule.taken];
    route(for_tests()[1], rule, logits, &mut experts, &mut weights);
    (experts, weights)
}

/// Scores, and the order of experts by them and the correction, as plainly as can be.
fn plain(rule: &Rule<'_>, logits: &[f32]) -> (Vec<f64>, Vec<usize>) {
    let logits: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    let scores: Vec<f64> = logits
        .iter()
        .map(|x| match rule.scores {
            Scores::Softmax => x.exp() / sum,
            Scores::SoftmaxOfTaken => *x,
            Scores::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        })
        .collect();
    let rank =
        |expert: usize| scores[expert] + rule.correction.map_or(0.0, |all| f64::from(all[expert]));
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
    (scores, order)
}

proptest! {
    #[test]
    fn is_the_reference(
        rows in 0_usize..40,
        count in 1_usize..70,
        share in 0.0_f64..1.0,
        kind in 0_usize..3,
        corrected in any::<bool>(),
        normalized in any::<bool>(),
        seed in 0_u64..1000,
    ) {
        let taken = 1 + (share * (count - 1) as f64) as usize;
        // All numbers of a row differ by more than rounding does.
        let number = |row: usize, i: usize| {
            let place = (i * 37 + row * 11 + seed as usize) % 71;
            place as f32 * 0.11 - 4.0
        };
        let logits: Vec<f32> = (0..rows * count).map(|i| number(i / count, i % count)).collect();
        let correction: Vec<f32> = (0..count).map(|i| ((i * 29) % 71) as f32 * 0.003).collect();
        let rule = Rule {
            scores: [Scores::Softmax, Scores::SoftmaxOfTaken, Scores::Sigmoid][kind],
            correction: corrected.then_some(correction.as_slice()),
            taken,
            normalize: normalized.then_some(1e-20),
            factor: 1.5,
            ..PLAIN
        };
        let (experts, weights) = routed(&rule, &logits, rows);
        for row in 0..rows {
            let (scores, order) = plain(&rule, &logits[row * count..(row + 1) * count]);
            let found = &experts[row * taken..(row + 1) * taken];
            let rank = |expert: usize| {
                scores[expert] + rule.correction.map_or(0.0, |all| f64::from(all[expert]))
            };
            // Of near ties either may be taken.
            let mut right: Vec<f64> = found.iter().map(|&expert| scores[expert as usize]).collect();
            for (&found, &right) in found.iter().zip(&order) {
                prop_assert!((rank(found as usize) - rank(right)).abs() < 1e-6);
            }
            if rule.scores == Scores::SoftmaxOfTaken {
                let sum: f64 = right.iter().map(|x| x.exp()).sum();
                right = right.iter().map(|x| x.exp() / sum).collect();
            }
            let sum: f64 = if normalized { right.iter().sum() } else { 1.0 };
            for (found, right) in weights[row * taken..].iter().zip(&right) {
                prop_assert!((f64::from(*found) - right / sum * 1.5).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn equal_scores_go_to_the_first() {
    assert_eq!(
        routed(&PLAIN, &[1.0, 1.0, 1.0, 1.0], 1),
        (vec![0, 1], vec![0.25; 2])
    );
}

#[test]
fn groups_are_chosen_by_their_two_best() {
    // Sums of the two best: 0.9 and 1.1; the best expert of all is in the first.
    let logit = |score: f32| (score / (1.0 - score)).ln();
    let logits = [0.8, 0.1, 0.05, 0.55, 0.55, 0.1].map(logit);
    let rule = Rule {
        scores: Scores::Sigmoid,
        groups: Some((2, 1)),
        ..PLAIN
    };
    assert_eq!(routed(&rule, &logits, 1).0, [3, 4]);
}
