//! Attention against the plain formula in float64.

use proptest::prelude::*;

use super::super::linear::plain::bfloat;
use super::super::number::POSITIONS;
use super::super::number::tests::{Stored, numbers, stored};
use super::super::pool::{self, for_tests};
use super::super::simd::each;
use super::*;

/// A layer and its segments (rows, length).
#[derive(Debug, Clone)]
struct Case {
    kv_heads: usize,
    group: usize,
    width: usize,
    value_width: usize,
    window: Option<usize>,
    sinks: bool,
    number: CacheNumber,
    segments: Vec<(usize, usize)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let before = prop_oneof![4 => 0_usize..100, 1 => PAGE - 20..PAGE + 20];
    let rows = prop_oneof![3 => 0_usize..30, 1 => 60_usize..100];
    let segment = (rows, before).prop_map(|(rows, before)| (rows, before + rows));
    let widths = (1_usize..70, 1_usize..70);
    let number = numbers();
    let options = (prop::option::of(1_usize..90), any::<bool>());
    let segments = prop::collection::vec(segment, 0..4);
    (1_usize..4, 1_usize..7, widths, options, number, segments).prop_map(
        |(kv_heads, group, (width, value_width), options, number, segments)| Case {
            kv_heads,
            group,
            width,
            value_width,
            window: options.0,
            sinks: options.1,
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

/// Pages of keys and values that hold noise, and none in places from `length` on.
fn pages(case: &Case, length: usize, seed: f32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let page = |first: usize| {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..case.kv_heads {
            let rows = |width: usize, seed: f32| {
                let mut rows = noise(PAGE * width, seed + (first + head) as f32);
                rows[PAGE.min(length - first) * width..].fill(f32::NAN);
                stored(Instructions::best(), case.number, &rows, width)
            };
            let ([head_keys, _], [_, head_values]) =
                (rows(case.width, seed), rows(case.value_width, seed + 0.3));
            keys.extend(head_keys);
            values.extend(head_values);
        }
        (keys, values)
    };
    (0..length).step_by(PAGE).map(page).collect()
}

/// A query as it is multiplied with keys of this number by few rows: in int8 too, with a scale for
/// each 32, of which neighbours' sizes add up to 127 at most.
fn rounded(
    query: &[f32],
    number: CacheNumber,
    (rows, is_tiled): (usize, bool),
    scale: f32,
) -> Vec<f64> {
    let scaled: Vec<f32> = query.iter().map(|x| x * scale).collect();
    if is_tiled {
        return scaled.into_iter().map(|x| bfloat(x).into()).collect();
    }
    if number != CacheNumber::I8 || rows >= PREFILL_ROWS {
        return scaled.into_iter().map(f64::from).collect();
    }
    let blocks = scaled.chunks(32).flat_map(|block| {
        let pairs = block
            .chunks(2)
            .map(|pair| pair.iter().map(|x| x.abs()).sum());
        let largest = pairs.fold(0_f32, f32::max);
        let codes = block
            .iter()
            .map(move |x| (x * (127.0 / largest)).round_ties_even());
        codes.map(move |code| f64::from(code) * f64::from(largest / 127.0))
    });
    blocks.collect()
}

/// One row and head, in float64, and how far the rounding of weights may be from it: with values in
/// int8, few rows weight them in 16 bits, block by block, and tiles of many in bfloat16.
fn reference(
    instructions: Instructions,
    attention: &Attention<'_>,
    segment: &AttentionSegment<'_>,
    row: usize,
    head: usize,
    query: &[f32],
) -> Vec<(f64, f64)> {
    let (width, value_width) = (attention.width, attention.value_width);
    let kv_head = head / (attention.heads / attention.kv_heads);
    let of_head = |page, width| Stored::of_head(attention.number, page, width, PAGE, kv_head);
    let keys = |position: usize| of_head(segment.pages[position / PAGE].keys, width);
    let values = |position: usize| of_head(segment.pages[position / PAGE].values, value_width);
    let is_int8 = attention.number == CacheNumber::I8;
    let is_tiled = is_int8 && segment.rows >= MANY && instructions.has_tiles();
    let stored = |x: f64| {
        if is_tiled {
            f64::from(bfloat(x as f32))
        } else {
            x
        }
    };
    let rows = (segment.rows, is_tiled);
    let query = rounded(query, attention.number, rows, attention.scale);
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
            let products = query.iter().enumerate();
            products
                .map(|(i, &x)| x * stored(keys(*key).key(*key % PAGE, i)))
                .sum::<f64>()
        })
        .collect();
    let sink = attention.sinks.map(|sinks| f64::from(sinks[head]));
    let highest = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
    let total: f64 = (scores.iter().copied().chain(sink))
        .map(|s| (s - highest).exp())
        .sum();
    let weights = scores.iter().map(|score| (score - highest).exp() / total);
    let weighted: Vec<_> = seen.iter().copied().zip(weights).collect();
    let is_rounded = is_int8 && segment.rows < PREFILL_ROWS;
    let of_column = |column: usize| {
        let value =
            |&(key, weight): &(usize, f64)| weight * stored(values(key).value(key % PAGE, column));
        let blocks = weighted.chunk_by(|a, b| a.0 / POSITIONS == b.0 / POSITIONS);
        let off = blocks.map(|block| {
            let sum = block
                .iter()
                .map(|&(key, weight)| weight * values(key).scale(key % PAGE, column));
            let codes = block.iter().map(|&(key, _)| {
                let scale = values(key).scale(key % PAGE, column);
                if scale > 0.0 {
                    (values(key).value(key % PAGE, column) / scale).abs()
                } else {
                    0.0
                }
            });
            // Each by half a step.
            sum.sum::<f64>() / f64::from(i16::MAX) * codes.sum::<f64>() / 2.0
        });
        let off = if is_rounded {
            off.sum()
        } else if is_tiled {
            let sizes = weighted.iter().map(|weighted| value(weighted).abs());
            sizes.sum::<f64>() / 256.0
        } else {
            0.0
        };
        (weighted.iter().map(value).sum(), off)
    };
    (0..value_width).map(of_column).collect()
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
        sinks: case.sinks.then_some(&sinks),
        number: case.number,
    };
    let caches: Vec<_> = (case.segments.iter().enumerate())
        .map(|(i, &(_, length))| pages(case, length, i as f32))
        .collect();
    let pages: Vec<Vec<Page<'_>>> = (caches.iter())
        .map(|pages| {
            let pages = pages.iter().map(|(keys, values)| Page { keys, values });
            pages.collect()
        })
        .collect();
    let segments: Vec<_> = (case.segments.iter().zip(&pages))
        .map(|(&(rows, length), pages)| AttentionSegment {
            rows,
            length,
            pages,
        })
        .collect();
    let rows: usize = segments.iter().map(|segment| segment.rows).sum();
    let queries = noise(rows * heads * case.width, 9.0);
    let references = |instructions: Instructions| {
        let mut right = Vec::new();
        let mut row = 0;
        for segment in &segments {
            for i in 0..segment.rows {
                for head in 0..heads {
                    let query = &queries[((row + i) * heads + head) * case.width..][..case.width];
                    right.extend(reference(instructions, &attention, segment, i, head, query));
                }
            }
            row += segment.rows;
        }
        right
    };
    for instructions in each() {
        let right = references(instructions);
        for pool in for_tests() {
            let mut out = vec![f32::NAN; right.len()];
            attend_with(
                instructions,
                pool,
                &attention,
                &segments,
                &queries,
                &mut out,
            );
            for (i, (&found, (right, off))) in out.iter().zip(&right).enumerate() {
                let close = (f64::from(found) - right).abs() < 2e-5 + off;
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

fn plain(group: usize, width: usize, segments: &[(usize, usize)]) -> Case {
    Case {
        kv_heads: 2,
        group,
        width,
        value_width: width,
        window: None,
        sinks: false,
        number: CacheNumber::F16,
        segments: segments.to_vec(),
    }
}

#[test]
fn a_long_cache_is_cut_in_pieces() {
    let case = plain(4, 128, &[(1, 3000), (2, 700)]);
    for number in [CacheNumber::F16, CacheNumber::I8] {
        check(&Case {
            number,
            ..case.clone()
        })
        .unwrap();
    }
    check(&Case {
        window: Some(1500),
        sinks: true,
        ..plain(1, 64, &[(3, 2900)])
    })
    .unwrap();
}

#[test]
fn many_rows_are_cut_in_blocks() {
    for number in [CacheNumber::F16, CacheNumber::I8] {
        let plain = plain(3, 64, &[(150, 150), (40, 333), (1, 50)]);
        check(&Case { number, ..plain }).unwrap();
    }
    check(&Case {
        window: Some(70),
        ..plain(2, 32, &[(260, 300)])
    })
    .unwrap();
}

#[test]
fn what_is_outside_of_every_window_does_not_matter() {
    for number in [CacheNumber::F32, CacheNumber::F16, CacheNumber::I8] {
        for rows in [1, 3, 40] {
            let case = Case {
                window: Some(12),
                number,
                ..plain(2, 64, &[(rows, 44 + rows)])
            };
            let attention = Attention {
                heads: 4,
                kv_heads: 2,
                width: 64,
                value_width: 64,
                scale: 0.1,
                window: case.window,
                sinks: None,
                number,
            };
            let mut cache = pages(&case, 44 + rows, 1.0);
            let queries = noise(rows * 4 * 64, 9.0);
            let mut found = Vec::new();
            for _ in 0..2 {
                let pages = [Page {
                    keys: &cache[0].0,
                    values: &cache[0].1,
                }];
                let segment = AttentionSegment {
                    rows,
                    length: 44 + rows,
                    pages: &pages,
                };
                let mut out = vec![0.0; rows * 4 * 64];
                attend(pool::shared(), &attention, &[segment], &queries, &mut out);
                found.push(out);
                let (keys, values) = &mut cache[0];
                for (bytes, size) in [(keys, number.row_bytes(64)), (values, number.row_bytes(64))]
                {
                    for head in bytes.chunks_mut(PAGE * size) {
                        head[..32 * size].fill(0);
                    }
                }
            }
            assert_eq!(found[0], found[1], "{number:?}, {rows} rows");
        }
    }
}
