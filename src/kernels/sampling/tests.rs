//! Choosing against a plain reference that sorts all tokens and computes in float64.

use proptest::prelude::*;

use super::super::simd::Instructions;
use super::row::{Key, Row};
use super::{Choice, Noise, choose, choose_with, last_allowed};
use crate::sample::{Mask, Sampling};

/// Scores after bias and penalties, with the same roundings as anywhere.
fn changed(logits: &[f32], sampling: &Sampling, seen: &[i32]) -> Vec<f32> {
    let mut scores = logits.to_vec();
    for &(id, bias) in &sampling.logit_bias {
        if let Some(score) = scores.get_mut(id as usize) {
            *score += bias;
        }
    }
    for (id, score) in scores.iter_mut().enumerate() {
        let count = seen.iter().filter(|&&token| token == id as i32).count();
        if count > 0 {
            let repeat = sampling.repeat_penalty;
            *score *= if *score < 0.0 { repeat } else { 1.0 / repeat };
            *score -= sampling.presence_penalty;
            for _ in 0..count {
                *score -= sampling.frequency_penalty;
            }
        }
    }
    scores
}

/// All tokens, the largest score first, then the lower id.
fn sorted(scores: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..scores.len() as u32).collect();
    ids.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).unwrap());
    ids
}

/// The tokens that may be drawn; `slack` moves the lines of top-p and min-p outwards.
fn allowed(scores: &[f32], sampling: &Sampling, slack: f64) -> Vec<u32> {
    let mut ids = sorted(scores);
    if sampling.top_k > 0 {
        ids.truncate(sampling.top_k);
    }
    let best = f64::from(scores[ids[0] as usize]);
    let weight = |id: u32| {
        let score = f64::from(scores[id as usize]);
        ((score - best) / f64::from(sampling.temperature)).exp()
    };
    let total: f64 = ids.iter().map(|&id| weight(id)).sum();
    if sampling.top_p < 1.0 {
        let mut before = 0.0;
        let count = ids.iter().position(|&id| {
            let is_outside = before >= (f64::from(sampling.top_p) + slack) * total;
            before += weight(id);
            is_outside
        });
        ids.truncate(count.unwrap_or(ids.len()).max(1));
    }
    let least = f64::from(sampling.min_p) * (1.0 - 10.0 * slack);
    ids.retain(|&id| weight(id) >= least.min(1.0));
    ids
}

fn noisy(scores: &[f32], sampling: &Sampling, noise: Noise, id: u32) -> f64 {
    let mixed = |mut h: u32| {
        h ^= h >> 16;
        h = h.wrapping_mul(0x85eb_ca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2_ae35);
        h ^ h >> 16
    };
    let hashed = mixed(mixed(id ^ noise.keys.0).wrapping_add(noise.keys.1));
    let uniform = (f64::from(hashed >> 9) + 0.5) / f64::from(1 << 23);
    f64::from(scores[id as usize]) / f64::from(sampling.temperature) - (-uniform.ln()).ln()
}

/// Compares a choice with the reference; rounding may move what stands at a line across it.
fn check(
    choice: &Choice,
    logits: &[f32],
    sampling: &Sampling,
    seen: &[i32],
    mask: Option<&Mask>,
    noise: Noise,
) {
    let mut scores = changed(logits, sampling, seen);
    let token = choice.token;
    if let Some(mask) = mask {
        assert!(mask.contains(token), "{token} is not in the mask");
        for (id, score) in (0..).zip(&mut scores) {
            if !mask.contains(id) {
                *score = f32::NEG_INFINITY;
            }
        }
    }
    if sampling.temperature == 0.0 {
        assert_eq!(token, sorted(&scores)[0], "{sampling:?}");
    } else {
        let wide = allowed(&scores, sampling, 1e-5);
        assert!(
            wide.contains(&token),
            "{token} is filtered out: {sampling:?}"
        );
        let own = noisy(&scores, sampling, noise, token);
        for id in allowed(&scores, sampling, -1e-5) {
            let other = noisy(&scores, sampling, noise, id);
            let slack = 1e-5 + own.abs() * 1e-6;
            assert!(
                own >= other - slack,
                "{token} has {own}, {id} has {other}: {sampling:?}"
            );
        }
    }
    let Some(found) = &choice.logprobs else {
        assert_eq!(sampling.logprobs, None);
        return;
    };
    let order = sorted(logits);
    let best = f64::from(logits[order[0] as usize]);
    let weights = logits.iter().map(|&logit| (f64::from(logit) - best).exp());
    let total = best + weights.sum::<f64>().ln();
    let pairs = found.top.iter().copied();
    for (id, logprob) in pairs.chain([(token, found.chosen)]) {
        let expected = f64::from(logits[id as usize]) - total;
        let off = (f64::from(logprob) - expected).abs();
        assert!(
            off <= 1e-5 * (1.0 + total.abs()),
            "{logprob} is not {expected}"
        );
    }
    let ids: Vec<u32> = found.top.iter().map(|&(id, _)| id).collect();
    let count = sampling.logprobs.unwrap().min(logits.len());
    assert_eq!(ids, order[..count]);
}

/// Logits with many equals among them, or with none.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let size = 1usize..700;
    let (equals, spread) = (-8i8..8, 0.01f32..30.0);
    prop_oneof![
        proptest::collection::vec(equals.prop_map(|half| f32::from(half) / 2.0), size.clone()),
        (proptest::collection::vec(-1f32..1.0, size), spread).prop_map(|(logits, spread)| {
            // More of them near the middle, as with a model.
            logits
                .iter()
                .map(|logit| logit * logit * logit * spread)
                .collect()
        }),
    ]
}

fn samplings() -> impl Strategy<Value = Sampling> {
    (
        prop_oneof![Just(0.0), 0.05f32..3.0, Just(100.0)],
        prop_oneof![Just(0usize), 1usize..20, 0usize..800],
        prop_oneof![Just(1.0), 0f32..=1.0, 0.999f32..1.0],
        prop_oneof![Just(0.0), 0f32..=1.0],
        prop_oneof![Just((1.0, 0.0, 0.0)), (0.5f32..2.0, -2f32..2.0, -2f32..2.0)],
        proptest::collection::vec((0u32..800, -9f32..9.0), 0..3),
        proptest::option::of(0usize..900),
    )
        .prop_map(
            |(temperature, top_k, top_p, min_p, penalties, logit_bias, logprobs)| Sampling {
                temperature,
                top_k,
                top_p,
                min_p,
                repeat_penalty: penalties.0,
                presence_penalty: penalties.1,
                frequency_penalty: penalties.2,
                repeat_last_n: None,
                logit_bias,
                seed: None,
                logprobs,
            },
        )
}

/// Few tokens, most of them, whole words, or none; some beyond the row.
fn masks() -> impl Strategy<Value = Mask> {
    let word = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        proptest::collection::vec(0u32..900, 0..4).prop_map(Mask::from_iter),
        proptest::collection::vec(0u32..900, 0..9)
            .prop_map(|gone| (0..800).filter(|id| !gone.contains(id)).collect()),
        proptest::collection::vec(word, 0..28).prop_map(|words| Mask::of_bits(&words, 900)),
    ]
}

proptest! {
    #[test]
    fn choices_are_those_of_a_full_sort(
        logits in logits(),
        sampling in samplings(),
        seen in proptest::collection::vec(-1i32..100, 0..60),
        seed: u64,
    ) {
        let noise = Noise::new(seed, 5);
        for instructions in Instructions::available() {
            let choice = choose_with(instructions, &logits, &sampling, &seen, None, noise).unwrap();
            check(&choice, &logits, &sampling, &seen, None, noise);
        }
    }

    #[test]
    fn choices_among_some_tokens_are_those_of_a_full_sort(
        logits in logits(),
        sampling in samplings(),
        seen in proptest::collection::vec(-1i32..100, 0..60),
        mask in masks(),
        first in 0u32..700,
        seed: u64,
    ) {
        let mut mask = mask;
        mask.insert(first % logits.len() as u32);
        let noise = Noise::new(seed, 5);
        for instructions in Instructions::available() {
            let choose = |mask| choose_with(instructions, &logits, &sampling, &seen, mask, noise);
            check(&choose(Some(&mask)).unwrap(), &logits, &sampling, &seen, Some(&mask), noise);
            let all = (0..logits.len() as u32).collect();
            prop_assert_eq!(choose(Some(&all)), choose(None));
        }
    }

    #[test]
    fn filters_leave_what_they_leave_of_a_full_sort(
        scores in logits(),
        sampling in samplings(),
    ) {
        let sampling = Sampling { temperature: sampling.temperature.max(0.05), ..sampling };
        for instructions in Instructions::available() {
            filters_leave_the_right_ones(instructions, &scores, &sampling);
        }
    }
}

fn filters_leave_the_right_ones(instructions: Instructions, scores: &[f32], sampling: &Sampling) {
    let row = Row::new(instructions, scores).unwrap();
    let last = last_allowed(&row, sampling, row.best().score());
    let order = sorted(scores).into_iter();
    let keys = order.map(|id| Key::new(scores[id as usize], id));
    let left = keys.take_while(|key| *key <= last).count();
    let least = allowed(scores, sampling, -1e-5).len();
    let most = allowed(scores, sampling, 1e-5).len();
    assert!(
        (least..=most).contains(&left),
        "{left} of {least} to {most}: {sampling:?}"
    );
}

#[test]
fn rows_as_long_as_a_real_vocabulary_are_chosen_from_as_well() {
    let default = Sampling::default();
    let settings = [
        Sampling {
            logprobs: Some(20),
            ..Sampling::greedy()
        },
        default.clone(),
        Sampling {
            top_k: 3000,
            ..default.clone()
        },
        Sampling {
            top_k: 0,
            ..default.clone()
        },
        Sampling {
            top_k: 0,
            top_p: 0.999,
            ..default.clone()
        },
        Sampling {
            top_k: 0,
            top_p: 1.0,
            min_p: 0.02,
            ..default.clone()
        },
        Sampling {
            top_k: 0,
            top_p: 1.0,
            ..default
        },
    ];
    for (seed, sampling) in (0..).zip(&settings) {
        // Gumbel noise is as good a row of logits as any.
        let (logits_of, noise) = (Noise::new(seed, 0), Noise::new(seed, 1));
        let spread = [0.1, 2.0][seed as usize % 2];
        let logits: Vec<f32> = (0..32_000).map(|id| logits_of.of(id) * spread).collect();
        for instructions in Instructions::available() {
            let choice = choose_with(instructions, &logits, sampling, &[], None, noise).unwrap();
            check(&choice, &logits, sampling, &[], None, noise);
            if sampling.temperature > 0.0 {
                filters_leave_the_right_ones(instructions, &logits, sampling);
            }
        }
    }
}

#[test]
fn what_is_no_number_is_refused_wherever_it_is() {
    let (greedy, noise) = (Sampling::greedy(), Noise::new(0, 0));
    for size in [1, 64, 100] {
        for bad in [f32::NAN, f32::INFINITY] {
            for place in 0..size {
                let mut logits = vec![1.0; size];
                logits[place] = bad;
                assert_eq!(
                    choose(&logits, &greedy, &[], None, noise),
                    None,
                    "{bad} at {place}"
                );
            }
        }
        assert_eq!(
            choose(&vec![f32::NEG_INFINITY; size], &greedy, &[], None, noise),
            None
        );
    }
    assert_eq!(choose(&[], &greedy, &[], None, noise), None);
}

#[test]
fn minus_infinity_is_never_chosen_and_an_infinite_bias_decides() {
    let token = |bias, position| {
        let mut logits = [f32::NEG_INFINITY; 90];
        (logits[7], logits[70]) = (1.0, 1.5);
        let sampling = Sampling {
            temperature: 2.0,
            logit_bias: vec![bias],
            ..Sampling::default()
        };
        choose(&logits, &sampling, &[], None, Noise::new(1, position))
            .unwrap()
            .token
    };
    for position in 0..50 {
        assert!([7, 70].contains(&token((0, 1.0), position)));
        assert_eq!(token((70, f32::NEG_INFINITY), position), 7);
        assert_eq!(token((7, f32::INFINITY), position), 7);
    }
}

#[test]
fn a_mask_decides_where_logits_and_biases_do_not() {
    let mut logits = [1.0; 90];
    (logits[70], logits[80]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    let token = |mask: &[u32], bias| {
        let sampling = Sampling {
            logit_bias: vec![bias],
            ..Sampling::default()
        };
        let mask = mask.iter().copied().collect();
        let choice = choose(&logits, &sampling, &[], Some(&mask), Noise::new(1, 1));
        choice.map(|choice| choice.token)
    };
    assert_eq!(token(&[70, 80], (0, 1.0)), Some(70));
    assert_eq!(token(&[3], (3, f32::NEG_INFINITY)), Some(3));
    assert_eq!(token(&[3, 70], (80, f32::INFINITY)), Some(3));
    assert_eq!(token(&[], (0, 1.0)), None);
    assert_eq!(token(&[90], (0, 1.0)), None);
}
