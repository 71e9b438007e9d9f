//! The step before attention against the plain formula in float64.

use std::num::NonZero;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::number::tests::{Stored, numbers};
use super::super::simd::{Instructions, run_with};
use super::*;

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(NonZero::new(3).unwrap()));

/// A layer and its segments (rows, position, place, capacity).
#[derive(Debug, Clone)]
struct Case {
    heads: usize,
    kv_heads: usize,
    width: usize,
    value_width: usize,
    pairs: usize,
    scale: f32,
    stretch: f32,
    interleaved: bool,
    norms: bool,
    number: CacheNumber,
    segments: Vec<(usize, usize, usize, usize)>,
}

impl Case {
    fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.0).sum()
    }

    fn capacity(&self) -> usize {
        let blocks = |capacity: usize| capacity.next_multiple_of(self.number.block());
        self.segments.iter().map(|segment| blocks(segment.3)).sum()
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let segment = (0_usize..4, 0_usize..1_000_000, 0_usize..5, 0_usize..3)
        .prop_map(|(rows, position, place, rest)| (rows, position, place, place + rows + rest));
    let widths = (1_usize..80, 1_usize..40)
        .prop_flat_map(|(width, value_width)| (Just(width), Just(value_width), 0..=width / 2));
    let number = numbers();
    let segments = prop::collection::vec(segment, 0..4);
    let or_one = |other: f32| prop_oneof![Just(1.0_f32), Just(other)];
    let rest = (or_one(0.125), or_one(1.25), any::<bool>(), any::<bool>());
    (1_usize..5, 1_usize..3, widths, rest, number, segments).prop_map(
        |(heads, kv_heads, (width, value_width, pairs), rest, number, segments)| {
            let (scale, stretch, interleaved, norms) = rest;
            Case {
                heads,
                kv_heads,
                width,
                value_width,
                pairs,
                scale,
                stretch,
                interleaved,
                norms,
                number,
                segments,
            }
        },
    )
}

fn noise(length: usize, seed: f32) -> Vec<f32> {
    (0..length)
        .map(|i| ((i as f32 + seed) * 12.9898).sin() * 3.0)
        .collect()
}

/// One head, in float64.
fn turned(head: &[f32], norm: Option<&[f32]>, rotary: &Rotary<'_>, position: usize) -> Vec<f64> {
    let mut out: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
    if let Some(norm) = norm {
        let mean = out.iter().map(|x| x * x).sum::<f64>() / out.len() as f64;
        let root = (mean + f64::from(rotary.epsilon)).sqrt();
        for (x, &weight) in out.iter_mut().zip(norm) {
            *x = *x / root * f64::from(weight);
        }
    }
    let turns = rotary.turns;
    let half = turns.periods.len();
    for (i, &period) in turns.periods.iter().enumerate() {
        let angle = position as f64 * f64::from(turns.scale) / f64::from(period);
        let (i, j) = if turns.interleaved {
            (2 * i, 2 * i + 1)
        } else {
            (i, i + half)
        };
        let (a, b) = (out[i], out[j]);
        out[i] = f64::from(turns.stretch) * (a * angle.cos() - b * angle.sin());
        out[j] = f64::from(turns.stretch) * (a * angle.sin() + b * angle.cos());
    }
    out
}

/// What a cache holds where nothing was written.
const UNTOUCHED: u8 = 0x55;

struct Found {
    out: Vec<f32>,
    /// Keys and values of each segment.
    caches: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Does the whole with chosen instructions on this thread, or on several with the best.
fn rotate_with(
    instructions: Option<Instructions>,
    case: &Case,
    rotary: &Rotary<'_>,
    heads: Heads<'_>,
) -> Found {
    let mut out = vec![f32::NAN; heads.queries.len()];
    let mut caches: Vec<_> = (case.segments.iter())
        .map(|&(_, _, _, capacity)| {
            let places = case.kv_heads * capacity.next_multiple_of(case.number.block());
            let untouched = |width| vec![UNTOUCHED; places * case.number.row_bytes(width)];
            (untouched(case.width), untouched(case.value_width))
        })
        .collect();
    let mut segments: Vec<_> = (case.segments.iter().zip(&mut caches))
        .map(
            |(&(rows, position, place, capacity), (keys, values))| RotarySegment {
                rows,
                position,
                place,
                capacity: capacity.next_multiple_of(case.number.block()),
                keys,
                values,
            },
        )
        .collect();
    if let Some(instructions) = instructions {
        let mut row = 0;
        let out = Parts::new(&mut out);
        for segment in &mut segments {
            let cache = Cache {
                rows: segment.rows,
                position: segment.position,
                place: segment.place,
                capacity: segment.capacity,
                keys: Parts::new(segment.keys),
                values: Parts::new(segment.values),
            };
            let rows = Rows {
                rotary,
                heads,
                cache: &cache,
                first: 0,
                count: cache.rows,
                row,
                out,
            };
            run_with(instructions, rows);
            row += segment.rows;
        }
    } else {
        rotate(&POOL, rotary, heads, &mut out, &mut segments);
    }
    Found { out, caches }
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let rows = case.rows();
    let periods: Vec<f32> = (0..case.pairs)
        .map(|i| 10_000_f32.powf(i as f32 / case.pairs as f32))
        .collect();
    let (query_norm, key_norm) = (noise(case.width, 0.5), noise(case.width, 0.7));
    let rotary = Rotary {
        heads: case.heads,
        kv_heads: case.kv_heads,
        width: case.width,
        value_width: case.value_width,
        turns: Turns {
            periods: &periods,
            scale: case.scale,
            stretch: case.stretch,
            interleaved: case.interleaved,
        },
        query_norm: case.norms.then_some(&query_norm),
        key_norm: case.norms.then_some(&key_norm),
        epsilon: 1e-6,
        number: case.number,
    };
    let queries = noise(rows * case.heads * case.width, 1.0);
    let keys = noise(rows * case.kv_heads * case.width, 2.0);
    let values = noise(rows * case.kv_heads * case.value_width, 3.0);
    let heads = Heads {
        queries: &queries,
        keys: &keys,
        values: &values,
    };
    for instructions in Instructions::available()
        .into_iter()
        .map(Some)
        .chain([None])
    {
        let found = rotate_with(instructions, case, &rotary, heads);
        compare(case, &rotary, heads, &found)?;
    }
    Ok(())
}

fn compare(
    case: &Case,
    rotary: &Rotary<'_>,
    heads: Heads<'_>,
    found: &Found,
) -> Result<(), TestCaseError> {
    // How much exactly is a test of the number's.
    let lost = |row: &[f64]| match case.number {
        CacheNumber::F32 => 0.0,
        CacheNumber::F16 => 2e-3,
        CacheNumber::I8 => row.iter().fold(0.0, |a: f64, b| a.max(b.abs())) / 200.0,
    };
    let close = |found: f64, right: f64, slack: f64| {
        (found - right).abs() <= 4e-6 * (1.0 + right.abs()) + slack * (1.0 + right.abs())
    };
    let (width, value_width) = (case.width, case.value_width);
    let mut row = 0;
    let mut written = 0;
    for (&(rows, position, place, capacity), (keys, values)) in
        case.segments.iter().zip(&found.caches)
    {
        let capacity = capacity.next_multiple_of(case.number.block());
        for i in 0..rows {
            for head in 0..case.heads {
                let at = ((row + i) * case.heads + head) * width;
                let query = &heads.queries[at..][..width];
                let right = turned(query, rotary.query_norm, rotary, position + i);
                for (&found, right) in found.out[at..].iter().zip(right) {
                    prop_assert!(close(f64::from(found), right, 0.0), "query {found} {right}");
                }
            }
            for head in 0..case.kv_heads {
                let from = (row + i) * case.kv_heads + head;
                let of_head =
                    |cache, width| Stored::of_head(case.number, cache, width, capacity, head);
                let (keys, values) = (of_head(keys, width), of_head(values, value_width));
                let key = &heads.keys[from * width..][..width];
                let right = turned(key, rotary.key_norm, rotary, position + i);
                let stored = lost(&right);
                for (j, right) in right.into_iter().enumerate() {
                    let found = keys.key(place + i, j);
                    prop_assert!(close(found, right, stored), "key {found} {right}");
                }
                let right = &heads.values[from * value_width..][..value_width];
                let right: Vec<f64> = right.iter().map(|&x| f64::from(x)).collect();
                let stored = lost(&right);
                for (j, right) in right.into_iter().enumerate() {
                    let found = values.value(place + i, j);
                    prop_assert!(close(found, right, stored), "value {found} {right}");
                }
                written += 1;
            }
        }
        row += rows;
    }
    // What was not to be written was not.
    let mut untouched = (0, 0);
    for (&(.., capacity), (keys, values)) in case.segments.iter().zip(&found.caches) {
        let capacity = capacity.next_multiple_of(case.number.block());
        for head in 0..case.kv_heads {
            let keys = Stored::of_head(case.number, keys, width, capacity, head);
            let values = Stored::of_head(case.number, values, value_width, capacity, head);
            let still = |bytes: Vec<u8>| usize::from(bytes.iter().all(|&byte| byte == UNTOUCHED));
            for position in 0..capacity {
                untouched.0 += still(keys.key_bytes(position));
                untouched.1 += still(values.value_bytes(position));
            }
        }
    }
    let rest = case.kv_heads * case.capacity() - written;
    prop_assert_eq!(untouched, (rest, rest));
    Ok(())
}

proptest! {
    #[test]
    fn is_the_reference(case in cases()) {
        check(&case)?;
    }
}

#[test]
fn many_rows_are_spread_over_threads() {
    check(&Case {
        heads: 4,
        kv_heads: 2,
        width: 128,
        value_width: 64,
        pairs: 32,
        scale: 1.0,
        stretch: 1.0,
        interleaved: false,
        norms: true,
        number: CacheNumber::F16,
        segments: vec![(70, 3, 3, 80), (1, 999_999, 4, 5), (30, 0, 0, 30)],
    })
    .unwrap();
}
