//! Attention against the plain formula in float64.

use half::f16;
use proptest::prelude::*;

use super::super::pool::for_tests;
use super::*;

/// A layer and its segments (rows, length, capacity).
#[derive(Debug, Clone)]
struct Case {
    kv_heads: usize,
    group: usize,
    width: usize,
    value_width: usize,
    window: Option<usize>,
    soft_cap: Option<f32>,
    sinks: bool,
    number: CacheNumber,
    segments: Vec<(usize, usize, usize)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let segment = (0_usize..30, 0_usize..100, 0_usize..4)
        .prop_map(|(rows, before, rest)| (rows, before + rows, before + rows + rest));
    let widths = (1_usize..70, 1_usize..70);
    let number = prop_oneof![Just(CacheNumber::F32), Just(CacheNumber::F16)];
    let options = (
        prop::option::of(1_usize..90),
        prop::option::of(0.5_f32..20.0),
        any::<bool>(),
    );
    let segments = prop::collection::vec(segment, 0..4);
    (1_usize..4, 1_usize..7, widths, options, number, segments).prop_map(
        |(kv_heads, group, (width, value_width), options, number, segments)| Case {
            kv_heads,
            group,
            width,
            value_width,
            window: options.0,
            soft_cap: options.1,
            sinks: options.2,
            number,
            segments,
        },
    )
}

fn noise(length: usize, seed: f32) -> Vec<f32> {
    (0..length)
        .map(|i| ((i as f32 + seed) * 12.9898).sin() * 2.0)
        .collect()
}

/// Bytes of a cache that holds noise, and NaN in places from `length` on.
fn cache(case: &Case, length: usize, capacity: usize, width: usize, seed: f32) -> Vec<u8> {
    let numbers = noise(case.kv_heads * capacity * width, seed);
    let numbers = numbers.into_iter().enumerate().map(|(i, x)| {
        if i / width % capacity < length {
            x
        } else {
            f32::NAN
        }
    });
    match case.number {
        CacheNumber::F32 => numbers.flat_map(f32::to_le_bytes).collect(),
        CacheNumber::F16 => numbers
            .flat_map(|x| f16::from_f32(x).to_le_bytes())
            .collect(),
    }
}

fn number(bytes: &[u8], i: usize, number: CacheNumber) -> f64 {
    match number {
        CacheNumber::F32 => f64::from(f32::from_le_bytes(
            bytes[4 * i..4 * i + 4].try_into().unwrap(),
        )),
        CacheNumber::F16 => {
            f16::from_le_bytes(bytes[2 * i..2 * i + 2].try_into().unwrap()).to_f64()
        }
    }
}

/// One row and head, in float64.
fn reference(
    attention: &Attention<'_>,
    segment: &AttentionSegment<'_>,
    row: usize,
    head: usize,
    query: &[f32],
) -> Vec<f64> {
    let (width, value_width) = (attention.width, attention.value_width);
    let first = head / (attention.heads / attention.kv_heads) * segment.capacity;
    let position = segment.length - segment.rows + row;
    let seen: Vec<usize> = (0..=position)
        .filter(|key| {
            attention
                .window
                .is_none_or(|window| position - key < window)
        })
        .collect();
    let scores: Vec<f64> = (seen.iter())
        .map(|key| {
            let at = (first + key) * width;
            let products = query
                .iter()
                .enumerate()
                .map(|(i, &x)| f64::from(x) * number(segment.keys, at + i, attention.number));
            let score = products.sum::<f64>() * f64::from(attention.scale);
            attention.soft_cap.map_or(score, |cap| {
                f64::from(cap) * (score / f64::from(cap)).tanh()
            })
        })
        .collect();
    let sink = attention.sinks.map(|sinks| f64::from(sinks[head]));
    let highest = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
    let total: f64 = (scores.iter().copied().chain(sink))
        .map(|s| (s - highest).exp())
        .sum();
    let mut out = vec![0.0; value_width];
    for (key, score) in seen.iter().zip(scores) {
        let weight = (score - highest).exp() / total;
        for (i, out) in out.iter_mut().enumerate() {
            let at = (first + key) * value_width + i;
            *out += weight * number(segment.values, at, attention.number);
        }
    }
    out
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let heads = case.kv_heads * case.group;
    let sinks = noise(heads, 5.0);
    let attention = Attention {
        heads,
        kv_heads: case.kv_heads,
        width: case.width,
        value_width: case.value_width,
        scale: 1.0 / (case.width as f32).sqrt(),
        window: case.window,
        soft_cap: case.soft_cap,
        sinks: case.sinks.then_some(&sinks),
        number: case.number,
    };
    let caches: Vec<_> = (case.segments.iter().enumerate())
        .map(|(i, &(_, length, capacity))| {
            let keys = cache(case, length, capacity, case.width, i as f32);
            (
                keys,
                cache(case, length, capacity, case.value_width, i as f32 + 0.3),
            )
        })
        .collect();
    let segments: Vec<_> = (case.segments.iter().zip(&caches))
        .map(
            |(&(rows, length, capacity), (keys, values))| AttentionSegment {
                rows,
                length,
                capacity,
                keys,
                values,
            },
        )
        .collect();
    let rows: usize = segments.iter().map(|segment| segment.rows).sum();
    let queries = noise(rows * heads * case.width, 9.0);
    let mut right = Vec::new();
    let mut row = 0;
    for segment in &segments {
        for i in 0..segment.rows {
            for head in 0..heads {
                let query = &queries[((row + i) * heads + head) * case.width..][..case.width];
                right.extend(reference(&attention, segment, i, head, query));
            }
        }
        row += segment.rows;
    }
    for pool in for_tests() {
        for instructions in Instructions::available() {
            let mut out = vec![f32::NAN; right.len()];
            attend_with(
                instructions,
                pool,
                &attention,
                &segments,
                &queries,
                &mut out,
            );
            for (i, (&found, right)) in out.iter().zip(&right).enumerate() {
                let close = (f64::from(found) - right).abs() < 2e-5;
                prop_assert!(
                    close,
                    "{instructions}, {} threads: {found} {right} at {i}",
                    pool.threads()
                );
            }
        }
    }
    Ok(())
}

proptest! {
    // Each is many calls, slow without optimization.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn is_the_reference(case in cases()) {
        check(&case)?;
    }
}

fn plain(group: usize, width: usize, segments: &[(usize, usize, usize)]) -> Case {
    Case {
        kv_heads: 2,
        group,
        width,
        value_width: width,
        window: None,
        soft_cap: None,
        sinks: false,
        number: CacheNumber::F16,
        segments: segments.to_vec(),
    }
}

#[test]
fn a_long_cache_is_cut_in_pieces() {
    check(&plain(4, 128, &[(1, 3000, 3001), (2, 700, 701)])).unwrap();
    check(&Case {
        window: Some(1500),
        sinks: true,
        ..plain(1, 64, &[(3, 2900, 3000)])
    })
    .unwrap();
}

#[test]
fn many_rows_are_cut_in_blocks() {
    check(&plain(
        3,
        64,
        &[(150, 150, 160), (40, 333, 340), (1, 50, 51)],
    ))
    .unwrap();
    check(&Case {
        window: Some(70),
        soft_cap: Some(5.0),
        ..plain(2, 32, &[(260, 300, 301)])
    })
    .unwrap();
}
