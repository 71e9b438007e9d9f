//! Products against plain loops in float64 over the same weights and the same rounded activations.

use proptest::prelude::*;

use super::super::matrix::made::{floats, formats, matrix};
use super::super::matrix::{Format, Number};
use super::super::pool::for_tests;
use super::super::simd::with_each;
use super::plain::{Right, gated, product};
use super::*;

/// What follows a product, and what of that is there.
#[derive(Debug, Clone, Copy)]
enum After {
    Store,
    Add,
    Gate(Activation),
}

#[derive(Debug, Clone)]
struct Case {
    format: Format,
    /// Of the matrix that is gated, and of a second product.
    other: Format,
    arithmetic: Arithmetic,
    tokens: usize,
    rows: usize,
    columns: usize,
    bias: bool,
    after: After,
    seed: usize,
    /// A number that is none, and where it stands among the activations.
    broken: Option<(f32, usize)>,
}

/// The least columns that a format takes, a multiple of them for both.
fn columns(format: Format, other: Format, units: usize) -> usize {
    format.group().max(other.group()) * units
}

fn cases() -> impl Strategy<Value = Case> {
    let formats = || prop::sample::select(formats());
    let arithmetic = prop_oneof![Just(Arithmetic::Int8), Just(Arithmetic::Float32)];
    let tokens = prop_oneof![4 => 1_usize..20, 1 => 60_usize..100];
    let sizes = (tokens, 1_usize..36, 1_usize..9);
    let after = prop_oneof![
        Just(After::Store),
        Just(After::Add),
        Just(After::Gate(Activation::Silu)),
        Just(After::Gate(Activation::GeluTanh)),
    ];
    let broken = prop::option::weighted(0.2, (not_numbers(), any::<prop::sample::Index>()));
    let options = (any::<bool>(), after, 0..1000_usize, broken);
    (formats(), formats(), arithmetic, sizes, options).prop_map(
        |(format, other, arithmetic, (tokens, rows, units), (bias, after, seed, broken))| {
            let columns = columns(format, other, units);
            Case {
                format,
                other,
                arithmetic,
                tokens,
                rows,
                columns,
                bias,
                after,
                seed,
                broken: broken.map(|(number, index)| (number, index.index(tokens * columns))),
            }
        },
    )
}

fn not_numbers() -> impl Strategy<Value = f32> {
    prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
}

fn check_all(name: &str, found: &[f32], right: &[Right]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), right.len());
    for (i, (&found, right)) in found.iter().zip(right).enumerate() {
        let off = (f64::from(found) - right.value).abs();
        let close = if right.value.is_finite() {
            off <= 2.0 * right.off
        } else {
            !found.is_finite()
        };
        prop_assert!(close, "{} [{}]: {} is not {}", name, i, found, right.value);
    }
    Ok(())
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let &Case {
        arithmetic,
        tokens,
        rows,
        columns,
        seed,
        ..
    } = case;
    let weights = matrix(case.format, [rows, columns], seed);
    let other = matrix(case.other, [rows, columns], seed + 10);
    let second = matrix(case.other, [rows + 3, columns], seed + 20);
    let mut x = floats(tokens * columns, seed + 30);
    if let Some((number, at)) = case.broken {
        x[at] = number;
    }
    let biases = [40, 50].map(|more| floats(rows, seed + more));
    let [bias, other_bias] = [0, 1].map(|i| case.bias.then_some(biases[i].as_slice()));
    let added = floats(tokens * rows, seed + 60);

    let then = match case.after {
        After::Store => Then::Store,
        After::Add => Then::Add(&added),
        After::Gate(activation) => Then::Gate(activation, &other, other_bias),
    };
    with_each(|instructions| {
        let mut right = product(&weights, &x, arithmetic, bias);
        let second_right = product(&second, &x, arithmetic, None);
        match case.after {
            After::Store => {}
            After::Add => {
                for (right, added) in right.iter_mut().zip(&added) {
                    right.value += f64::from(*added);
                    right.off += f64::from(added.abs() * f32::EPSILON);
                }
            }
            After::Gate(activation) => {
                let up = product(&other, &x, arithmetic, other_bias);
                for (right, up) in right.iter_mut().zip(up) {
                    *right = gated(activation, *right, up);
                }
            }
        }
        for pool in for_tests() {
            let mut out = vec![f32::NAN; tokens * rows];
            let mut second_out = vec![f32::NAN; tokens * second.rows()];
            let first = Product {
                matrix: &weights,
                bias,
                then,
                out: &mut out,
            };
            let last = Product {
                matrix: &second,
                bias: None,
                then: Then::Store,
                out: &mut second_out,
            };
            multiply(pool, &x, arithmetic, vec![first, last]);
            let name = format!("{instructions}, {} threads", pool.threads());
            check_all(&name, &out, &right)?;
            check_all(&format!("{name}, second"), &second_out, &second_right)?;
        }
        Ok(())
    })
}

proptest! {
    // Each is many calls, slow without optimization.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn is_the_reference(case in cases()) {
        check(&case)?;
    }
}

#[test]
fn every_format_with_every_number_of_tokens() {
    for (i, format) in formats().into_iter().enumerate() {
        for (j, tokens) in [1, 2, 3, 4, 5, 8, 9, 17, 64, 70].into_iter().enumerate() {
            for arithmetic in [Arithmetic::Int8, Arithmetic::Float32] {
                let case = Case {
                    format,
                    other: format,
                    arithmetic,
                    tokens,
                    rows: [1, 15, 17, 33][(i + j) % 4],
                    // Some end within a chunk of 64.
                    columns: columns(format, format, [3, 1, 2][(i + j) % 3]),
                    bias: j % 2 == 0,
                    after: [After::Store, After::Add, After::Gate(Activation::Silu)][j % 3],
                    seed: i + j,
                    broken: None,
                };
                check(&case).unwrap_or_else(|error| panic!("{case:?}: {error}"));
            }
        }
    }
}

#[test]
fn large_matrices_are_cut_in_tasks() {
    for (tokens, arithmetic) in [
        (1, Arithmetic::Int8),
        (1, Arithmetic::Float32),
        (2, Arithmetic::Int8),
        (70, Arithmetic::Int8),
    ] {
        let case = Case {
            format: Format::Affine {
                bits: 4,
                group: 64,
                number: Number::Float16,
            },
            other: Format::Mxfp4,
            arithmetic,
            tokens,
            rows: 515,
            columns: 256,
            bias: true,
            after: After::Gate(Activation::Silu),
            seed: 1,
            broken: None,
        };
        check(&case).unwrap();
    }
}

#[test]
fn a_few_tokens_together_give_exactly_what_each_gives_alone() {
    let (rows, tokens) = (37, FEW);
    for (seed, format) in formats().into_iter().enumerate() {
        if form(format, Arithmetic::Int8, tokens) != Form::Int8 {
            continue;
        }
        let width = columns(format, format, 3);
        let weights = matrix(format, [rows, width], seed);
        let x = floats(tokens * width, seed + 30);
        let run = |x: &[f32]| {
            let mut out = vec![f32::NAN; x.len() / width * rows];
            let product = Product {
                matrix: &weights,
                bias: None,
                then: Then::Store,
                out: &mut out,
            };
            multiply(for_tests()[1], x, Arithmetic::Int8, vec![product]);
            out
        };
        with_each(|instructions| {
            for count in 1..=tokens {
                let together = run(&x[..count * width]);
                let alone: Vec<f32> = x[..count * width].chunks(width).flat_map(run).collect();
                prop_assert_eq!(together, alone, "{} {:?} {}", instructions, format, count);
            }
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn no_tokens_and_no_products_are_no_work() {
    let weights = matrix(Format::Mxfp4, [5, 64], 1);
    let [pool, _] = for_tests();
    for arithmetic in [Arithmetic::Int8, Arithmetic::Float32] {
        multiply(pool, &[], arithmetic, Vec::new());
        let product = Product {
            matrix: &weights,
            bias: None,
            then: Then::Store,
            out: &mut [],
        };
        multiply(pool, &[], arithmetic, vec![product]);
    }
}

#[test]
fn activations_of_any_size_are_rounded() {
    let weights = matrix(Format::Mxfp4, [1, 64], 1);
    let [pool, _] = for_tests();
    // The least that a float holds, and nearly the most.
    for size in [0.0, 1e-45, 1e-38, 1e-36, 1e-30, 1e30] {
        let x: Vec<f32> = floats(64, 2).iter().map(|x| x * size).collect();
        let right = product(&weights, &x, Arithmetic::Int8, None)[0];
        with_each(|instructions| {
            let mut out = [f32::NAN];
            let product = Product {
                matrix: &weights,
                bias: None,
                then: Then::Store,
                out: &mut out,
            };
            multiply(pool, &x, Arithmetic::Int8, vec![product]);
            let off = (f64::from(out[0]) - right.value).abs();
            // Beyond what floats hold in full, zeros are as good.
            if off <= 2.0 * right.off + 1e-35 {
                Ok(())
            } else {
                Err(format!("{instructions} {size}: {} {}", out[0], right.value))
            }
        })
        .unwrap();
    }
}
