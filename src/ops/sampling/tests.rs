//! Sampling against a scalar reference that follows the description word by word.

use proptest::prelude::*;

use super::{Choice, History, choose, device, largest};
use crate::kernels::sampling::{Noise, choose as kernel_choice};
use crate::mlx::opens_gpu;
use crate::mlx::{Array, DeviceChoice, Dtype, open, to_vec};
use crate::sample::{Mask, Sampling};

fn row(logits: &[f32]) -> Array {
    open(DeviceChoice::Cpu, None).unwrap();
    Array::from_slice(logits, &[1, logits.len() as i32])
}

fn pick(logits: &[f32], sampling: &Sampling, seed: u64, position: usize, prompt: &[u32]) -> Choice {
    let row = row(logits);
    let mut history = History::new(sampling, prompt);
    choose(
        &row,
        sampling,
        Noise::new(seed, position),
        None,
        &mut history,
    )
    .unwrap()
}

fn token(choice: &Choice) -> i32 {
    to_vec(&choice.token).unwrap()[0] as i32
}

fn greedy(logits: &[f32], sampling: &Sampling, prompt: &[u32]) -> i32 {
    token(&pick(
        logits,
        &Sampling {
            temperature: 0.0,
            ..sampling.clone()
        },
        0,
        0,
        prompt,
    ))
}

/// Scores after bias and penalties.
fn reference_scores(logits: &[f32], sampling: &Sampling, history: &[u32]) -> Vec<f32> {
    let mut scores = logits.to_vec();
    for &(id, bias) in &sampling.logit_bias {
        scores[id as usize] += bias;
    }
    let window = sampling
        .repeat_last_n
        .unwrap_or(history.len())
        .min(history.len());
    let seen = &history[history.len() - window..];
    for (id, score) in scores.iter_mut().enumerate() {
        let count = seen.iter().filter(|&&token| token as usize == id).count();
        if count > 0 {
            let repeat = sampling.repeat_penalty;
            *score = if *score < 0.0 {
                *score * repeat
            } else {
                *score / repeat
            };
            *score -= sampling.presence_penalty;
            *score -= sampling.frequency_penalty * count as f32;
        }
    }
    scores
}

/// The tokens that may be drawn, each with its probability.
fn reference_distribution(scores: &[f32], sampling: &Sampling) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let weight = |id: usize| (f64::from(scores[id]) / f64::from(sampling.temperature)).exp();
    let total: f64 = order.iter().map(|&id| weight(id)).sum();
    let mut kept: Vec<(usize, f64)> = Vec::new();
    let mut mass = 0.0;
    for id in order {
        if !kept.is_empty() && mass >= f64::from(sampling.top_p) {
            break;
        }
        kept.push((id, weight(id) / total));
        mass += weight(id) / total;
    }
    let floor = kept[0].1 * f64::from(sampling.min_p);
    kept.retain(|&(_, probability)| probability >= floor);
    let total: f64 = kept.iter().map(|(_, probability)| probability).sum();
    kept.iter()
        .map(|&(id, probability)| (id, probability / total))
        .collect()
}

#[test]
fn the_worked_examples_of_the_reference_hold() {
    let logits = [1.0, 2.0, 3.0, 4.0];
    let off = Sampling::default();
    assert_eq!(greedy(&logits, &off, &[3, 3]), 3);
    let repeat = Sampling {
        repeat_penalty: 2.0,
        ..off.clone()
    };
    assert_eq!(greedy(&logits, &repeat, &[3, 3]), 2, "4 becomes 2, once");
    assert_eq!(greedy(&[-1.0, -1.5], &repeat, &[0]), 1, "-1 becomes -2");
    let presence = |presence_penalty| Sampling {
        presence_penalty,
        ..off.clone()
    };
    assert_eq!(
        greedy(&logits, &presence(0.5), &[3, 3]),
        3,
        "3.5 stays above 3"
    );
    assert_eq!(greedy(&logits, &presence(1.5), &[3, 3]), 2);
    let frequency = |frequency_penalty| Sampling {
        frequency_penalty,
        ..off.clone()
    };
    assert_eq!(greedy(&logits, &frequency(0.75), &[3, 3]), 2, "twice 0.75");
    assert_eq!(greedy(&logits, &frequency(0.75), &[3]), 3, "once 0.75");
    let none = Sampling {
        frequency_penalty: 9.0,
        repeat_last_n: Some(0),
        ..off
    };
    assert_eq!(
        greedy(&logits, &none, &[3]),
        3,
        "a window of 0 switches penalties off"
    );
}

#[test]
fn the_window_holds_the_last_tokens_of_prompt_and_answer() {
    let sampling = Sampling {
        temperature: 0.0,
        presence_penalty: 100.0,
        repeat_last_n: Some(2),
        ..Sampling::default()
    };
    let logits = [5.0, 4.0, 3.0, 2.0];
    let row = row(&logits);
    let mut history = History::new(&sampling, &[0, 1, 2]);
    // The window slides: 1 2, then 2 0, then 0 1 …
    let mut next =
        || token(&choose(&row, &sampling, Noise::new(0, 0), None, &mut history).unwrap());
    assert_eq!([next(), next(), next(), next()], [0, 1, 2, 0]);
}

#[test]
fn one_number_that_is_none_is_told_wherever_it_is() {
    for bad in [f32::NAN, f32::INFINITY] {
        for temperature in [0.0, 1.0] {
            let sampling = Sampling {
                temperature,
                ..Sampling::default()
            };
            for place in 0..3 {
                let mut logits = [1.0, 2.0, 3.0];
                logits[place] = bad;
                assert_eq!(
                    token(&pick(&logits, &sampling, 1, 1, &[])),
                    -1,
                    "{bad} at {place}"
                );
            }
        }
    }
}

#[test]
fn logprobs_are_those_of_the_raw_logits() {
    let logits = [1000.0, 1001.0, 999.0, 900.0];
    let sampling = Sampling {
        logit_bias: vec![(2, 500.0)],
        logprobs: Some(2),
        ..Sampling::greedy()
    };
    let choice = pick(&logits, &sampling, 0, 0, &[]);
    assert_eq!(token(&choice), 2, "the bias decides");
    let found = choice.logprobs.unwrap();
    let total = logits
        .iter()
        .map(|logit| f64::from(*logit - 1001.0).exp())
        .sum::<f64>()
        .ln()
        + 1001.0;
    let expected = |id: usize| (f64::from(logits[id]) - total) as f32;
    assert!((to_vec(&found.chosen).unwrap()[0] - expected(2)).abs() < 1e-3);
    let tokens = to_vec(&found.top_tokens).unwrap();
    assert_eq!(tokens.len(), 2);
    for (id, value) in tokens.iter().zip(to_vec(&found.top).unwrap()) {
        assert!([0.0, 1.0].contains(id), "the two likeliest: {tokens:?}");
        assert!((value - expected(*id as usize)).abs() < 1e-3);
    }
}

#[test]
fn the_noise_of_a_token_does_not_depend_on_the_candidates_beside_it() {
    let logits: Vec<f32> = (0..50).map(|i| (i * 17 % 50) as f32 / 10.0).collect();
    let sampling = |top_k| Sampling {
        top_k,
        top_p: 1.0,
        temperature: 1.0,
        ..Sampling::default()
    };
    for position in 0..50 {
        let all = token(&pick(&logits, &sampling(0), 7, position, &[]));
        let most = token(&pick(&logits, &sampling(45), 7, position, &[]));
        let rank = logits
            .iter()
            .filter(|&&logit| logit > logits[all as usize])
            .count();
        assert!(
            rank >= 45 || most == all,
            "position {position}: {all} and {most}"
        );
    }
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -4.0];
    let settings = [
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            ..Sampling::default()
        },
        Sampling {
            temperature: 0.7,
            top_k: 5,
            top_p: 1.0,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1.3,
            top_k: 0,
            top_p: 0.8,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1.0,
            top_k: 6,
            top_p: 0.95,
            min_p: 0.2,
            ..Sampling::default()
        },
    ];
    for sampling in settings {
        let expected = reference_distribution(&logits, &sampling);
        let draws = 3000;
        let mut counts = [0usize; 8];
        for position in 0..draws {
            counts[token(&pick(&logits, &sampling, 42, position, &[])) as usize] += 1;
        }
        for (id, &count) in counts.iter().enumerate() {
            let allowed = expected.iter().find(|(kept, _)| *kept == id);
            let Some((_, probability)) = allowed else {
                assert_eq!(count, 0, "{sampling:?}: token {id} is filtered out");
                continue;
            };
            let mean = probability * draws as f64;
            let deviation = (mean * (1.0 - probability)).sqrt();
            // Fixed seed: this passes or fails always; 4.5 deviations are one in 10^5 a cell.
            let off = (count as f64 - mean).abs();
            assert!(
                off <= 4.5 * deviation,
                "{sampling:?}: token {id} came {count} times, not {mean:.0}"
            );
        }
    }
}

#[test]
fn seeds_and_positions_give_draws_of_their_own() {
    let logits = [0.0; 64];
    let sampling = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        ..Sampling::default()
    };
    let draws = |seed| -> Vec<i32> {
        (0..64)
            .map(|position| token(&pick(&logits, &sampling, seed, position, &[])))
            .collect()
    };
    let first = draws(1);
    assert_eq!(first, draws(1), "the same seed gives the same draws");
    let same = first
        .iter()
        .zip(draws(2))
        .filter(|(a, b)| **a == *b)
        .count();
    assert!(same < 8, "{same} of 64 draws agree under another seed");
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(distinct.len() > 30, "positions differ: {distinct:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn only_allowed_tokens_are_drawn(
        logits in proptest::collection::vec(-8f32..8.0, 2..40),
        history in proptest::collection::vec(0u32..40, 0..30),
        temperature in 0.05f32..3.0,
        top_k in 0usize..45,
        top_p in 0f32..=1.0,
        min_p in 0f32..0.9,
        (repeat, presence, frequency) in (0.5f32..2.0, -2f32..2.0, -2f32..2.0),
        window in proptest::option::of(0usize..40),
        seed: u64,
    ) {
        let history: Vec<u32> = history.into_iter().map(|id| id % logits.len() as u32).collect();
        let sampling = Sampling {
            temperature, top_k, top_p, min_p,
            repeat_penalty: repeat, presence_penalty: presence, frequency_penalty: frequency,
            repeat_last_n: window, logit_bias: vec![(0, 1.5), (9999, 3.0)], ..Sampling::default()
        };
        let own = Sampling { logit_bias: vec![(0, 1.5)], ..sampling };
        let own = if own.has_penalties() { own } else { Sampling { repeat_last_n: Some(0), ..own } };
        let scores = reference_scores(&logits, &own, &history);
        let best = greedy(&logits, &sampling, &history) as usize;
        let top = scores.iter().copied().fold(f32::MIN, f32::max);
        prop_assert!(scores[best] >= top - 1e-4, "{best} has {}, the largest is {top}", scores[best]);
        // Rounding may move a token across a line: the reference with slightly wider lines decides.
        let wider = Sampling {
            top_p: (top_p + 1e-4).min(1.0),
            min_p: (min_p - 1e-4).max(0.0),
            ..own
        };
        let drawn = token(&pick(&logits, &sampling, seed, 3, &history)) as usize;
        if top_k > 0 {
            let above = scores.iter().filter(|&&score| score > scores[drawn] + 1e-4).count();
            prop_assert!(above < top_k, "{above} tokens go before the one drawn, top_k {top_k}");
        } else {
            let allowed = reference_distribution(&scores, &wider);
            prop_assert!(allowed.iter().any(|(id, _)| *id == drawn), "{drawn} is not in {allowed:?}");
        }
    }
}

#[test]
fn a_mask_decides_and_one_of_all_tokens_changes_nothing() {
    let logits: Vec<f32> = (0..90).map(|id| (id * 37 % 90) as f32 / 10.0).collect();
    let row = row(&logits);
    let token = |mask: Option<&Mask>, sampling: &Sampling, position| {
        let noise = Noise::new(5, position);
        token(&device::choose(&row, sampling, None, mask, noise).unwrap())
    };
    let banned = Sampling {
        logit_bias: vec![(64, f32::NEG_INFINITY), (65, f32::NEG_INFINITY)],
        ..Sampling::default()
    };
    let (all, two) = ((0..90).collect(), [64, 65].into_iter().collect());
    for temperature in [0.0, 0.3, 2.0] {
        let sampling = |sampling: &Sampling| Sampling {
            temperature,
            ..sampling.clone()
        };
        let (plain, banned) = (sampling(&Sampling::default()), sampling(&banned));
        for position in 0..20 {
            assert_eq!(
                token(Some(&all), &plain, position),
                token(None, &plain, position)
            );
            assert!([64, 65].contains(&token(Some(&two), &plain, position)));
            assert!([64, 65].contains(&token(Some(&two), &banned, position)));
        }
    }
}

/// The token, its log-probability, and the likeliest tokens by id with theirs.
type Read = (i32, Option<(f32, Vec<(u32, f32)>)>);

fn read(choice: &Choice) -> Read {
    let logprobs = choice.logprobs.as_ref().map(|found| {
        let ids = to_vec(&found.top_tokens).unwrap();
        let ids = ids.into_iter().map(|id| id as u32);
        let mut top: Vec<_> = ids.zip(to_vec(&found.top).unwrap()).collect();
        top.sort_by_key(|&(id, _)| id);
        (to_vec(&found.chosen).unwrap()[0], top)
    });
    (token(choice), logprobs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_kernel_chooses_as_the_graph_does(
        logits in proptest::collection::vec(-8f32..8.0, 1..200),
        seen in proptest::collection::vec(0i32..200, 0..30),
        temperature in prop_oneof![Just(0.0), 0.1f32..3.0],
        top_k in prop_oneof![Just(0usize), 1usize..220],
        top_p in prop_oneof![Just(1.0), 0.1f32..1.0],
        min_p in prop_oneof![Just(0.0), 0f32..0.9],
        (repeat, presence, frequency) in (0.5f32..2.0, -2f32..2.0, -2f32..2.0),
        logit_bias in proptest::collection::vec((0u32..250, -3f32..3.0), 0..4),
        logprobs in proptest::option::of(0usize..210),
        mask in proptest::option::of(proptest::collection::vec(any::<u32>(), 1..8)),
        seed: u64,
    ) {
        let row = row(&logits);
        let seen: Vec<i32> = seen.into_iter().map(|id| id % logits.len() as i32).collect();
        let array = (!seen.is_empty()).then(|| Array::from_slice(&seen, &[seen.len() as i32]));
        let sampling = Sampling {
            temperature, top_k, top_p, min_p, logit_bias, logprobs,
            repeat_penalty: repeat, presence_penalty: presence, frequency_penalty: frequency,
            ..Sampling::default()
        };
        let noise = Noise::new(seed, 9);
        let mask = mask.map(|words| {
            let mut mask = Mask::of_bits(&words, logits.len());
            mask.insert(seed as u32 % logits.len() as u32);
            mask
        });
        let (graph, graph_logprobs) =
            read(&device::choose(&row, &sampling, array.as_ref(), mask.as_ref(), noise).unwrap());
        let kernel = |sampling: &Sampling| {
            let chosen = kernel_choice(&logits, sampling, &seen, mask.as_ref(), noise).unwrap();
            let logprobs = chosen.logprobs.map(|found| {
                let mut top = found.top;
                top.sort_by_key(|&(id, _)| id);
                (found.chosen, top)
            });
            (chosen.token as i32, logprobs)
        };
        let (token, logprobs) = kernel(&sampling);
        if token != graph {
            // Rounding may have moved a token across a line: then a line moved a little moves it too.
            let moved = [-1e-5, 1e-5].map(|by| {
                let (top_p, min_p) = (top_p + by, (min_p * (1.0 - 10.0 * by)).max(0.0));
                kernel(&Sampling { top_p, min_p, ..sampling.clone() }).0
            });
            prop_assert!(moved.contains(&graph), "{token} and {graph}: {sampling:?}");
        }
        prop_assert_eq!(logprobs.is_some(), graph_logprobs.is_some());
        if let (Some((chosen, top)), Some((graph_chosen, graph_top))) = (logprobs, graph_logprobs) {
            prop_assert!(token != graph || (chosen - graph_chosen).abs() < 1e-4);
            prop_assert_eq!(top.len(), graph_top.len());
            for ((id, logprob), (graph_id, graph_logprob)) in top.into_iter().zip(graph_top) {
                prop_assert_eq!(id, graph_id);
                prop_assert!((logprob - graph_logprob).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn a_kernel_finds_the_largest_of_each_row() {
    if !opens_gpu() {
        return;
    }
    let size = 9001;
    let mut rows = vec![vec![-1.0_f32; size]; 6];
    rows[0][7000] = 2.0;
    (rows[1][8999], rows[1][3]) = (0.5, 0.5);
    rows[2][44] = f32::NAN;
    rows[3][9000] = f32::INFINITY;
    rows[4].fill(f32::NEG_INFINITY);
    rows[5].fill(f32::NEG_INFINITY);
    rows[5][6] = -1e30;
    let logits = Array::from_slice(&rows.concat(), &[6, size as i32]);
    let found = largest(&logits).unwrap();
    for tokens in [&found.for_host, &found.tokens] {
        let tokens = tokens.as_dtype(Dtype::Float32).unwrap();
        assert_eq!(
            to_vec(&tokens).unwrap(),
            [7000.0, 3.0, -1.0, -1.0, -1.0, 6.0]
        );
    }
}
