//! The step before attention against the plain formula in float64.

use std::num::NonZero;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::number::tests::{Stored, numbers};
use super::super::simd::{Instructions, run_with};
use super::*;

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(NonZero::new(3).unwrap()));

/// A layer and its segments (rows, position, place).
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
    segments: Vec<(usize, usize, usize)>,
}

impl Case {
    fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.0).sum()
    }

    /// The places of each segment's pages.
    fn capacities(&self) -> impl Iterator<Item = usize> {
        let ends = self.segments.iter().map(|(rows, _, place)| place + rows);
        ends.map(|end| end.next_multiple_of(PAGE))
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let place = prop_oneof![0_usize..5, PAGE - 3..PAGE];
    let segment = (0_usize..4, 0_usize..1_000_000, place);
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
    /// Keys and values of each segment's pages.
    caches: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// Does the whole with chosen instructions on this thread, or on several with the best.
fn rotate_with(
    instructions: Option<Instructions>,
    case: &Case,
    rotary: &Rotary<'_>,
    heads: Heads<'_>,
) -> Found {
    let mut out = vec![f32::NAN; heads.queries.len()];
    let untouched = |width| vec![UNTOUCHED; case.kv_heads * PAGE * case.number.row_bytes(width)];
    let page = |_| (untouched(case.width), untouched(case.value_width));
    let mut caches: Vec<Vec<_>> = (case.capacities())
        .map(|capacity| (0..capacity / PAGE).map(page).collect())
        .collect();
    let mut segments: Vec<_> = (case.segments.iter().zip(&mut caches))
        .map(|(&(rows, position, place), pages)| {
            let pages = pages.iter_mut();
            let pages = pages.map(|(keys, values)| PageMut { keys, values });
            RotarySegment {
                rows,
                position,
                place,
                pages: pages.collect(),
            }
        })
        .collect();
    if let Some(instructions) = instructions {
        let mut row = 0;
        let out = Parts::new(&mut out);
        for segment in &mut segments {
            let cache = Cache {
                rows: segment.rows,
                position: segment.position,
                place: segment.place,
                pages: parts(&mut segment.pages),
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
    for (&(rows, position, place), pages) in case.segments.iter().zip(&found.caches) {
        for i in 0..rows {
            let (keys, values) = &pages[(place + i) / PAGE];
            let place = (place + i) % PAGE;
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
                let of_head = |cache, width| Stored::of_head(case.number, cache, width, PAGE, head);
                let (keys, values) = (of_head(keys, width), of_head(values, value_width));
                let key = &heads.keys[from * width..][..width];
                let right = turned(key, rotary.key_norm, rotary, position + i);
                let stored = lost(&right);
                for (j, right) in right.into_iter().enumerate() {
                    let found = keys.key(place, j);
                    prop_assert!(close(found, right, stored), "key {found} {right}");
                }
                let right = &heads.values[from * value_width..][..value_width];
                let right: Vec<f64> = right.iter().map(|&x| f64::from(x)).collect();
                let stored = lost(&right);
                for (j, right) in right.into_iter().enumerate() {
                    let found = values.value(place, j);
                    prop_assert!(close(found, right, stored), "value {found} {right}");
                }
                written += 1;
            }
        }
        row += rows;
    }
    // What was not to be written was not.
    let mut untouched = (0, 0);
    for (keys, values) in found.caches.iter().flatten() {
        for head in 0..case.kv_heads {
            let keys = Stored::of_head(case.number, keys, width, PAGE, head);
            let values = Stored::of_head(case.number, values, value_width, PAGE, head);
            let still = |bytes: Vec<u8>| usize::from(bytes.iter().all(|&byte| byte == UNTOUCHED));
            for position in 0..PAGE {
                untouched.0 += still(keys.key_bytes(position));
                untouched.1 += still(values.value_bytes(position));
            }
        }
    }
    let rest = case.kv_heads * case.capacities().sum::<usize>() - written;
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
        segments: vec![(70, 3, 250), (1, 999_999, 4), (30, 0, 0)],
    })
    .unwrap();
}
