//! Gated delta networks against the plain formulas in float64, whole and in pieces.

use proptest::prelude::*;

use super::super::matrix::made::floats;
use super::super::pool::for_tests;
use super::super::simd::with_each;
use super::*;

#[derive(Debug, Clone)]
struct Case {
    key_heads: usize,
    group: usize,
    key_width: usize,
    value_width: usize,
    taps: usize,
    /// Rows of each segment.
    rows: Vec<usize>,
    seed: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..3, 1_usize..3, 1_usize..20, 1_usize..45, 1_usize..5);
    let rows = prop::collection::vec(0_usize..20, 0..3);
    (sizes, rows, 0..1000_usize).prop_map(|(sizes, rows, seed)| Case {
        key_heads: sizes.0,
        group: sizes.1,
        key_width: sizes.2,
        value_width: sizes.3,
        taps: sizes.4,
        rows,
        seed,
    })
}

/// The weights and the rows of a case.
struct Made {
    taps: Vec<f32>,
    decay: Vec<f32>,
    step_bias: Vec<f32>,
    norm: Vec<f32>,
    mixed: Vec<f32>,
    gates: Vec<f32>,
    corrections: Vec<f32>,
    steps: Vec<f32>,
}

impl Case {
    fn heads(&self) -> usize {
        self.key_heads * self.group
    }

    fn channels(&self) -> usize {
        2 * self.key_heads * self.key_width + self.heads() * self.value_width
    }

    fn make(&self) -> Made {
        let (rows, heads): (usize, _) = (self.rows.iter().sum(), self.heads());
        let number = |count: usize, i: usize| floats(count, self.seed + i);
        Made {
            taps: number(self.taps * self.channels(), 1),
            decay: number(heads, 2).iter().map(|x| -x.exp()).collect(),
            step_bias: number(heads, 3),
            norm: number(self.value_width, 4),
            mixed: number(rows * self.channels(), 5),
            gates: number(rows * heads * self.value_width, 6),
            corrections: number(rows * heads, 7),
            steps: number(rows * heads, 8),
        }
    }

    fn layer<'a>(&self, made: &'a Made) -> GatedDelta<'a> {
        GatedDelta {
            key_heads: self.key_heads,
            value_heads: self.heads(),
            key_width: self.key_width,
            value_width: self.value_width,
            taps: &made.taps,
            decay: &made.decay,
            step_bias: &made.step_bias,
            norm: &made.norm,
            epsilon: 1e-6,
        }
    }

    /// One segment's output, `[rows, Hv, Dv]`, as plainly as can be; `first` is its first row.
    fn reference(&self, made: &Made, first: usize, rows: usize) -> Vec<f64> {
        let (channels, heads) = (self.channels(), self.heads());
        let (keys, values) = (self.key_width, self.value_width);
        let wide = |x: f32| f64::from(x);
        let mut states = vec![vec![vec![0.0; values]; keys]; heads];
        let mut out = Vec::new();
        for row in 0..rows {
            let silu = |x: f64| x / (1.0 + (-x).exp());
            let mixed: Vec<f64> = (0..channels)
                .map(|channel| {
                    let taps = (0..self.taps).filter(|tap| row + tap + 1 >= self.taps);
                    let sum = taps.map(|tap| {
                        let from = first + row + tap + 1 - self.taps;
                        wide(made.taps[tap * channels + channel])
                            * wide(made.mixed[from * channels + channel])
                    });
                    silu(sum.sum())
                })
                .collect();
            for head in 0..heads {
                let unit = |part: usize| -> Vec<f64> {
                    let at = (part * self.key_heads + head / self.group) * keys;
                    let x = &mixed[at..at + keys];
                    let root = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
                    x.iter().map(|x| x / root).collect()
                };
                let (query, key) = (unit(0), unit(1));
                let value = &mixed[2 * self.key_heads * keys + head * values..][..values];
                let at = (first + row) * heads + head;
                let step = (wide(made.steps[at]) + wide(made.step_bias[head]))
                    .exp()
                    .ln_1p();
                let decay = (wide(made.decay[head]) * step).exp();
                let share = 1.0 / (1.0 + (-wide(made.corrections[at])).exp());
                let state = &mut states[head];
                let mut read = vec![0.0; values];
                for column in 0..values {
                    let held: f64 = (0..keys).map(|i| decay * state[i][column] * key[i]).sum();
                    let correction = share * (value[column] - held);
                    for i in 0..keys {
                        state[i][column] = decay * state[i][column] + key[i] * correction;
                        read[column] += state[i][column] * query[i] / (keys as f64).sqrt();
                    }
                }
                let mean = read.iter().map(|x| x * x).sum::<f64>() / values as f64;
                for (column, read) in read.iter().enumerate() {
                    let gate = wide(made.gates[at * values + column]);
                    let normed = read / (mean + 1e-6).sqrt() * wide(made.norm[column]);
                    out.push(normed * silu(gate));
                }
            }
        }
        out
    }
}

/// Runs rows `from..to` of the only segment, or all of all segments.
fn run_rows(
    case: &Case,
    made: &Made,
    pool: &Pool,
    range: std::ops::Range<usize>,
    rows: &[usize],
    states: &mut [DeltaState],
) -> Vec<f32> {
    let heads = case.heads();
    let part = |all: &'_ [f32], width: usize| all[range.start * width..range.end * width].to_vec();
    let (mixed, gates) = (
        part(&made.mixed, case.channels()),
        part(&made.gates, heads * case.value_width),
    );
    let (corrections, steps) = (part(&made.corrections, heads), part(&made.steps, heads));
    let rows_of = DeltaRows {
        mixed: &mixed,
        gates: &gates,
        corrections: &corrections,
        steps: &steps,
    };
    let segments = rows.iter().zip(states);
    let mut segments: Vec<_> = segments
        .map(|(&rows, state)| DeltaSegment { rows, state })
        .collect();
    let mut out = vec![f32::NAN; gates.len()];
    case.layer(made).run(pool, rows_of, &mut segments, &mut out);
    out
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let made = case.make();
    let count: usize = case.rows.iter().sum();
    let mut right = Vec::new();
    let mut first = 0;
    for &rows in &case.rows {
        right.extend(case.reference(&made, first, rows));
        first += rows;
    }
    with_each(|instructions| {
        for pool in for_tests() {
            let mut states = vec![DeltaState::default(); case.rows.len()];
            let found = run_rows(case, &made, pool, 0..count, &case.rows, &mut states);
            for (found, right) in found.iter().zip(&right) {
                let off = (f64::from(*found) - right).abs();
                // What is read may be small beside what it is a sum of, and is normalized then.
                prop_assert!(
                    off <= 2e-3 * (1.0 + right.abs()),
                    "{instructions} {found} {right}"
                );
            }
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn is_the_reference(case in cases()) {
        check(&case)?;
    }

    #[test]
    fn pieces_equal_the_whole(case in cases(), cut in 0.0_f64..1.0) {
        let rows = case.rows.first().copied().unwrap_or(0);
        let case = Case { rows: vec![rows], ..case };
        let made = case.make();
        let pool = for_tests()[0];
        let whole = {
            let mut states = [DeltaState::default()];
            let out = run_rows(&case, &made, pool, 0..rows, &[rows], &mut states);
            (out, states)
        };
        let cut = (cut * rows as f64) as usize;
        let mut states = [DeltaState::default()];
        let mut pieces = run_rows(&case, &made, pool, 0..cut, &[cut], &mut states);
        pieces.extend(run_rows(&case, &made, pool, cut..rows, &[rows - cut], &mut states));
        prop_assert_eq!((pieces, states), whole);
    }
}
