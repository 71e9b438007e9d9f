//! Layers of experts against plain loops over each token and each of its experts.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::linear::multiply as multiply_all;
use super::super::linear::plain::{Right, gated, product};
use super::super::matrix::made::{floats, formats, matrix};
use super::super::matrix::{Format, Number, Part};
use super::super::pool::for_tests;
use super::super::simd::with_each;
use super::*;

#[derive(Debug, Clone)]
struct Case {
    /// Of gate and up, and of down.
    formats: [Format; 2],
    arithmetic: Arithmetic,
    activation: Activation,
    inner: usize,
    hidden: usize,
    experts: usize,
    tokens: usize,
    taken: usize,
    seed: usize,
    biased: bool,
    /// A token with a NaN.
    broken: Option<usize>,
}

fn cases() -> impl Strategy<Value = Case> {
    let formats = || prop::sample::select(formats());
    let arithmetic = prop_oneof![Just(Arithmetic::Int8), Just(Arithmetic::Float32)];
    let activation = prop::sample::select(vec![
        Activation::Silu,
        Activation::GeluTanh,
        Activation::Clamped(0.5),
    ]);
    let sizes = (1_usize..3, 1_usize..3, 1_usize..7, 0_usize..9, 1_usize..4);
    let broken = prop::option::weighted(0.2, 0_usize..9);
    let options = (arithmetic, activation, 0..1000_usize, any::<bool>(), broken);
    (formats(), formats(), sizes, options).prop_map(
        |(up, down, sizes, (arithmetic, activation, seed, biased, broken))| Case {
            formats: [up, down],
            arithmetic,
            activation,
            inner: down.group().max(8) * sizes.0,
            hidden: up.group().max(8) * sizes.1,
            experts: sizes.2,
            tokens: sizes.3,
            taken: sizes.4,
            seed,
            biased,
            broken,
        },
    )
}

/// All experts as parts of matrices of noise.
fn stacked(case: &Case) -> Vec<Expert> {
    let &Case {
        formats: [up, down],
        inner,
        hidden,
        experts,
        seed,
        ..
    } = case;
    let gates = matrix(up, [experts * inner, hidden], seed);
    let ups = matrix(up, [experts * inner, hidden], seed + 10);
    let downs = matrix(down, [experts * hidden, inner], seed + 20);
    (0..experts)
        .map(|i| Expert {
            gate: gates.part(i * inner..(i + 1) * inner).unwrap(),
            up: ups.part(i * inner..(i + 1) * inner).unwrap(),
            down: downs.part(i * hidden..(i + 1) * hidden).unwrap(),
            biases: case
                .biased
                .then(|| [inner, inner, hidden].map(|width| floats(width, seed + 50 + i))),
        })
        .collect()
}

/// One expert over one token.
fn reference(case: &Case, expert: &Expert, x: &[f32]) -> Vec<Right> {
    let gates = product(&expert.gate, x, case.arithmetic, expert.bias(0));
    let ups = product(&expert.up, x, case.arithmetic, expert.bias(1));
    let pairs = gates.into_iter().zip(ups);
    let inner: Vec<Right> = pairs
        .map(|(gate, up)| gated(case.activation, gate, up))
        .collect();
    let rounded: Vec<f32> = inner.iter().map(|inner| inner.value as f32).collect();
    let mut out = product(&expert.down, &rounded, case.arithmetic, expert.bias(2));
    // What is off already, and two numbers that are rounded to the other neighbour for it.
    let off: f64 = inner.iter().map(|inner| inner.off).sum();
    let largest = rounded
        .iter()
        .fold(0_f32, |largest, x| largest.max(x.abs()));
    let step = match case.arithmetic {
        Arithmetic::Int8 => f64::from(largest) / 127.0,
        Arithmetic::Float32 => 0.0,
    };
    for (row, out) in out.iter_mut().enumerate() {
        let weights = expert.down.dense_row(row);
        let largest = weights
            .iter()
            .fold(0_f32, |largest, x| largest.max(x.abs()));
        out.off += f64::from(largest) * (off + 2.0 * step);
    }
    out
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let &Case {
        arithmetic,
        activation,
        hidden,
        tokens,
        taken,
        seed,
        ..
    } = case;
    let experts = stacked(case);
    let mut x = floats(tokens * hidden, seed + 30);
    if let Some(token) = case.broken.filter(|&token| token < tokens) {
        x[token * hidden] = f32::NAN;
    }
    let weights = floats(tokens * taken, seed + 40);
    // Some are chosen twice by a token, and some never.
    let ids: Vec<u32> = (0..tokens * taken)
        .map(|slot| ((slot * slot + seed) % experts.len()) as u32)
        .collect();
    let mut right = vec![
        Right {
            value: 0.0,
            off: 0.0
        };
        tokens * hidden
    ];
    for (slot, (&id, &weight)) in ids.iter().zip(&weights).enumerate() {
        let token = slot / taken;
        let x = &x[token * hidden..(token + 1) * hidden];
        let outputs = reference(case, &experts[id as usize], x);
        for (right, output) in right[token * hidden..].iter_mut().zip(outputs) {
            let weight = f64::from(weight);
            right.value += weight * output.value;
            right.off += weight.abs() * (output.off + output.value.abs() * f64::from(f32::EPSILON));
        }
    }
    let layer = Experts {
        experts: &experts,
        activation,
        arithmetic,
    };
    with_each(|instructions| {
        for pool in for_tests() {
            let mut out = vec![f32::NAN; tokens * hidden];
            let choice = Choice {
                experts: &ids,
                weights: &weights,
            };
            feed_forward(pool, &layer, &x, choice, &mut out);
            for (i, (&found, right)) in out.iter().zip(&right).enumerate() {
                let close = if right.value.is_finite() {
                    (f64::from(found) - right.value).abs() <= 2.0 * right.off
                } else {
                    !found.is_finite()
                };
                prop_assert!(
                    close,
                    "{} [{}]: {} is not {:?}",
                    instructions,
                    i,
                    found,
                    right
                );
            }
        }
        Ok(())
    })
}

proptest! {
    // Each is many calls, slow without optimization.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn is_the_reference(case in cases()) {
        check(&case)?;
    }
}

fn plain(tokens: usize, experts: usize, taken: usize) -> Case {
    Case {
        formats: [Format::Mxfp4, Format::Nvfp4],
        arithmetic: Arithmetic::Int8,
        activation: Activation::Silu,
        inner: 32,
        hidden: 64,
        experts,
        tokens,
        taken,
        seed: 3,
        biased: false,
        broken: None,
    }
}

#[test]
fn a_prompt_gives_each_expert_its_tokens() {
    check(&plain(40, 3, 2)).unwrap();
    check(&plain(7, 64, 4)).unwrap();
}

#[test]
fn one_token_is_the_sum_of_products_of_its_own() {
    let case = plain(1, 5, 3);
    let experts = stacked(&case);
    let x = floats(case.hidden, 1);
    let (ids, weights) = ([4, 1, 2], [0.5, -0.25, 2.0]);
    let [pool, threads] = for_tests();
    let mut right = vec![0.0; case.hidden];
    for (id, weight) in ids.into_iter().zip(weights) {
        let Expert { gate, up, down, .. } = &experts[id as usize];
        let one = |matrix, then, x: &[f32], rows| {
            let mut out = vec![0.0; rows];
            let product = Product {
                matrix,
                bias: None,
                then,
                out: &mut out,
            };
            multiply_all(pool, x, case.arithmetic, vec![product]);
            out
        };
        let then = Then::Gate(case.activation, up, None);
        let inner = one(gate, then, &x, case.inner);
        let output = one(down, Then::Store, &inner, case.hidden);
        for (right, output) in right.iter_mut().zip(output) {
            *right += weight * output;
        }
    }
    let layer = Experts {
        experts: &experts,
        activation: case.activation,
        arithmetic: case.arithmetic,
    };
    let choice = Choice {
        experts: &ids,
        weights: &weights,
    };
    let mut out = vec![f32::NAN; case.hidden];
    feed_forward(threads, &layer, &x, choice, &mut out);
    assert_eq!(out, right);
}

#[test]
fn experts_that_nobody_chose_change_nothing() {
    let case = plain(9, 4, 2);
    let mut experts = stacked(&case);
    let x = floats(case.tokens * case.hidden, 1);
    let ids: Vec<u32> = (0..case.tokens * case.taken)
        .map(|slot| slot as u32 % 2 * 3)
        .collect();
    let weights = floats(ids.len(), 2);
    let [_, pool] = for_tests();
    let compute = |experts: &[Expert]| {
        let layer = Experts {
            experts,
            activation: case.activation,
            arithmetic: case.arithmetic,
        };
        let choice = Choice {
            experts: &ids,
            weights: &weights,
        };
        let mut out = vec![f32::NAN; x.len()];
        feed_forward(pool, &layer, &x, choice, &mut out);
        out
    };
    let right = compute(&experts);
    assert!(right.iter().all(|y| y.is_finite()));
    let nowhere = |shape: [usize; 2]| {
        let bytes = vec![0xff; 4 * shape[0] * shape[1]];
        let length = bytes.len();
        let codes = Part::new(Arc::new(bytes), 0..length).unwrap();
        let format = Format::Dense(Number::Float32);
        Matrix::new(shape, format, codes, Part::empty(), Part::empty()).unwrap()
    };
    for expert in &mut experts[1..3] {
        expert.gate = nowhere([case.inner, case.hidden]);
        expert.up = nowhere([case.inner, case.hidden]);
        expert.down = nowhere([case.hidden, case.inner]);
    }
    assert_eq!(compute(&experts), right);
}

#[test]
fn a_token_without_experts_is_zeros() {
    let case = plain(2, 2, 1);
    let experts = stacked(&case);
    let layer = Experts {
        experts: &experts,
        activation: case.activation,
        arithmetic: case.arithmetic,
    };
    let choice = Choice {
        experts: &[],
        weights: &[],
    };
    let mut out = vec![f32::NAN; 2 * case.hidden];
    feed_forward(
        for_tests()[0],
        &layer,
        &vec![1.0; out.len()],
        choice,
        &mut out,
    );
    assert_eq!(out, vec![0.0; 2 * case.hidden]);
}
