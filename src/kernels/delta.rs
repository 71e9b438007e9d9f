//! Gated delta networks (Yang et al. 2024, arXiv:2412.06464): a short convolution, then a state for each head
//! that every token decays, corrects and reads.
//!
//! A column of a state depends on no other, so that tasks take a few columns through all tokens of a
//! segment: they stay in the nearest cache, and a prompt needs no form of its own.

use super::gate::{Activation, gate_in_place};
use super::norm::norm_row;
use super::parts::Parts;
use super::pool::Pool;
use super::simd::{Kernel, Simd, load_some, run, store_some};

/// Vectors of columns that are taken through the tokens at once.
const VECTORS: usize = 4;

/// Rows of a task of what is done row by row.
const ROWS: usize = 8;

/// Keeps norms of queries and keys away from 0.
const EPSILON: f32 = 1e-6;

/// What is the same for all rows of a layer.
#[derive(Debug, Clone, Copy)]
pub struct GatedDelta<'a> {
    /// Heads of queries and keys, Hk; divides Hv.
    pub key_heads: usize,
    /// Heads of values and states, Hv: those from `i·Hv/Hk` on belong to key head `i`.
    pub value_heads: usize,
    /// Width of a query or key, Dk.
    pub key_width: usize,
    /// Width of a value, Dv.
    pub value_width: usize,
    /// `[taps][channels]`, of the convolution, the oldest row first.
    pub taps: &'a [f32],
    /// `[Hv]`: what a step's size is multiplied by to be the logarithm of a decay.
    pub decay: &'a [f32],
    /// `[Hv]`: added to what makes a step's size.
    pub step_bias: &'a [f32],
    /// `[Dv]`: of the norm of what is read.
    pub norm: &'a [f32],
    /// Of the norm.
    pub epsilon: f32,
}

/// Rows as the linear layers give them, the segments' laid end to end.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRows<'a> {
    /// `[T, channels]`: queries and keys `[Hk, Dk]`, values `[Hv, Dv]`.
    pub mixed: &'a [f32],
    /// `[T, Hv, Dv]`: what gates the output.
    pub gates: &'a [f32],
    /// `[T, Hv]`: how much is corrected, before its sigmoid.
    pub corrections: &'a [f32],
    /// `[T, Hv]`: sizes of steps, before their softplus.
    pub steps: &'a [f32],
}

/// What is kept of a sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeltaState {
    /// `[taps - 1][channels]`: the last rows.
    recent: Vec<f32>,
    /// `[Hv][vectors of Dv][Dk][8]`.
    columns: Vec<f32>,
}

impl DeltaState {
    /// All numbers: the last rows, and the heads' states.
    pub fn parts(&self) -> [&[f32]; 2] {
        [&self.recent, &self.columns]
    }

    /// Of what [`Self::parts`] gave.
    pub fn of_parts([recent, columns]: [Vec<f32>; 2]) -> Self {
        Self { recent, columns }
    }

    /// Bytes of all numbers.
    pub fn bytes(&self) -> usize {
        4 * (self.recent.len() + self.columns.len())
    }
}

/// New rows of one sequence.
#[derive(Debug)]
pub struct DeltaSegment<'a> {
    /// How many.
    pub rows: usize,
    /// Before them, and then after them; an empty one is that of no token.
    pub state: &'a mut DeltaState,
}

impl GatedDelta<'_> {
    /// Channels of the convolution.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_width + self.value_heads * self.value_width
    }

    /// Takes all rows through the layer, into `out` `[T, Hv, Dv]`.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn run(
        &self,
        pool: &Pool,
        rows: DeltaRows<'_>,
        segments: &mut [DeltaSegment<'_>],
        out: &mut [f32],
    ) {
        let (channels, heads) = (self.channels(), self.value_heads);
        let count: usize = segments.iter().map(|segment| segment.rows).sum();
        assert!(heads.is_multiple_of(self.key_heads), "heads in groups");
        assert_eq!(rows.mixed.len(), count * channels, "rows");
        let values = count * heads * self.value_width;
        assert_eq!([rows.gates.len(), out.len()], [values; 2], "values");
        let scalars = [rows.corrections.len(), rows.steps.len()];
        assert_eq!(scalars, [count * heads; 2], "numbers of heads");
        let mut mixed = vec![0.0; rows.mixed.len()];
        self.convolve(pool, rows.mixed, segments, &mut mixed);
        let numbers = self.numbers(rows);
        self.recur(pool, &mixed, &numbers, segments, out);
        self.normalize(pool, out);
        // `norm(x) · silu(gate)`.
        let mut gates = rows.gates.to_vec();
        gate_in_place(pool, Activation::Silu, &mut gates, out);
        out.copy_from_slice(&gates);
    }

    /// The convolution and its activation, and queries and keys of length one.
    fn convolve(
        &self,
        pool: &Pool,
        rows: &[f32],
        segments: &mut [DeltaSegment<'_>],
        out: &mut [f32],
    ) {
        let channels = self.channels();
        let before = self.taps.len() / channels - 1;
        let mut tasks = Vec::new();
        let mut first = 0;
        for segment in &mut *segments {
            segment.state.recent.resize(before * channels, 0.0);
            // What was before, and then the rows.
            let new = &rows[first * channels..(first + segment.rows) * channels];
            let all = [&segment.state.recent, new].concat();
            segment.state.recent = all[all.len() - before * channels..].to_vec();
            let all = std::sync::Arc::new(all);
            for at in (0..segment.rows).step_by(ROWS) {
                tasks.push((all.clone(), at, first + at, ROWS.min(segment.rows - at)));
            }
            first += segment.rows;
        }
        let out = Parts::new(out);
        pool.run(tasks.len(), |task| {
            let (all, at, row, count) = &tasks[task];
            // SAFETY: each row belongs to one task.
            let out = unsafe { out.part(row * channels, count * channels) };
            run(Convolution {
                delta: self,
                rows: &all[at * channels..],
                out,
            });
        });
    }

    /// For each row and head the decay and the share of corrections, `[T, Hv]`.
    fn numbers(&self, rows: DeltaRows<'_>) -> Vec<[f32; 2]> {
        let heads = (0..self.value_heads).cycle();
        let pairs = rows.steps.iter().zip(rows.corrections).zip(heads);
        pairs
            .map(|((step, correction), head)| {
                let step = softplus(step + self.step_bias[head]);
                let share = 1.0 / (1.0 + (-correction).exp());
                [(self.decay[head] * step).exp(), share]
            })
            .collect()
    }

    fn recur(
        &self,
        pool: &Pool,
        mixed: &[f32],
        numbers: &[[f32; 2]],
        segments: &mut [DeltaSegment<'_>],
        out: &mut [f32],
    ) {
        let vectors = self.value_width.div_ceil(8);
        let head = vectors * self.key_width * 8;
        let mut tasks = Vec::new();
        let mut first = 0;
        for segment in segments {
            segment.state.columns.resize(self.value_heads * head, 0.0);
            let columns = Parts::new(&mut segment.state.columns);
            for head in 0..self.value_heads {
                for vector in (0..vectors).step_by(VECTORS) {
                    tasks.push((first, segment.rows, columns, head, vector));
                }
            }
            first += segment.rows;
        }
        let out = Parts::new(out);
        pool.run(tasks.len(), |task| {
            let (first, rows, columns, value_head, vector) = tasks[task];
            let count = VECTORS.min(vectors - vector);
            let size = self.key_width * 8;
            // SAFETY: each task has columns of its own.
            let columns = unsafe { columns.part(value_head * head + vector * size, count * size) };
            let recurrence = Recurrence {
                delta: self,
                mixed,
                numbers,
                first,
                rows,
                head: value_head,
                column: 8 * vector,
                columns,
                out,
            };
            run(recurrence);
        });
    }

    fn normalize(&self, pool: &Pool, out: &mut [f32]) {
        let rows = self.value_heads * self.value_width * ROWS;
        let parts: Vec<&mut [f32]> = out.chunks_mut(rows).collect();
        super::pool::run_each(pool, parts, |part| {
            run(Norms {
                delta: self,
                rows: part,
            });
        });
    }
}

/// `ln(1 + e^x)`.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// Some rows of the convolution; `rows` begins with those before the first.
struct Convolution<'a> {
    delta: &'a GatedDelta<'a>,
    rows: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let delta = self.delta;
        let channels = delta.channels();
        let taps = delta.taps.len() / channels;
        for (row, out) in self.out.chunks_exact_mut(channels).enumerate() {
            for at in (0..channels).step_by(8) {
                let left = channels - at;
                let mut sum = S::splat(0.0);
                for tap in 0..taps {
                    // SAFETY: both have `left` more numbers.
                    unsafe {
                        let x = self.rows.as_ptr().add((row + tap) * channels + at);
                        let weight = delta.taps.as_ptr().add(tap * channels + at);
                        let (x, weight) = (load_some::<S>(x, left), load_some::<S>(weight, left));
                        sum = S::fma(x, weight, sum);
                    }
                }
                let one = S::splat(1.0);
                let minus = S::sub(S::splat(0.0), sum);
                let activated = S::div(sum, S::add(one, super::simd::exp::<S>(minus)));
                // SAFETY: there is room for `left`.
                unsafe { store_some::<S>(out.as_mut_ptr().add(at), activated, left) };
            }
            let keys = delta.key_heads * delta.key_width;
            let scale = (delta.key_width as f32).powf(-0.5);
            for (i, head) in out[..2 * keys]
                .chunks_exact_mut(delta.key_width)
                .enumerate()
            {
                let mut squares = 0.0;
                for x in &*head {
                    squares += x * x;
                }
                let scale = if i < delta.key_heads { scale } else { 1.0 };
                let factor = scale / (squares + EPSILON).sqrt();
                for x in head {
                    *x *= factor;
                }
            }
        }
    }
}

/// Some columns of one head's state, through the rows of a segment.
struct Recurrence<'a> {
    delta: &'a GatedDelta<'a>,
    /// `[T, channels]`, after the convolution.
    mixed: &'a [f32],
    numbers: &'a [[f32; 2]],
    first: usize,
    rows: usize,
    head: usize,
    /// The first.
    column: usize,
    /// `[vectors][Dk][8]`
    columns: &'a mut [f32],
    out: Parts<'a, f32>,
}

impl Kernel for Recurrence<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        match self.columns.len() / (8 * self.delta.key_width) {
            4 => self.vectors::<S, 4>(),
            3 => self.vectors::<S, 3>(),
            2 => self.vectors::<S, 2>(),
            _ => self.vectors::<S, 1>(),
        }
    }
}

impl Recurrence<'_> {
    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(&mut self) {
        let delta = self.delta;
        let &GatedDelta {
            key_heads,
            value_heads,
            key_width,
            value_width,
            ..
        } = delta;
        let keys = key_heads * key_width;
        let key_head = self.head / (value_heads / key_heads);
        let columns = self.columns.as_mut_ptr();
        for row in self.first..self.first + self.rows {
            let mixed = &self.mixed[row * delta.channels()..][..delta.channels()];
            let query = &mixed[key_head * key_width..][..key_width];
            let key = &mixed[keys + key_head * key_width..][..key_width];
            let value = &mixed[2 * keys + self.head * value_width..][..value_width];
            let [decay, share] = self.numbers[row * value_heads + self.head];
            let out = (row * value_heads + self.head) * value_width;
            // SAFETY: there are `V` vectors of columns, and values and room up to the width; each task
            // has its own.
            unsafe {
                let out = self
                    .out
                    .part(out + self.column, (8 * V).min(value_width - self.column));
                let mut held = [S::splat(0.0); V];
                for i in 0..key_width {
                    let key = S::splat(key[i]);
                    for v in 0..V {
                        let column = S::load(columns.add((v * key_width + i) * 8));
                        held[v] = S::fma(column, key, held[v]);
                    }
                }
                let mut corrections = [S::splat(0.0); V];
                for v in 0..V {
                    let left = out.len().saturating_sub(8 * v);
                    let value = value.as_ptr().add(self.column + 8 * v);
                    let held = S::mul(held[v], S::splat(decay));
                    let off = S::sub(load_some::<S>(value, left), held);
                    corrections[v] = S::mul(off, S::splat(share));
                }
                let mut read = [S::splat(0.0); V];
                for i in 0..key_width {
                    let (key, query) = (S::splat(key[i]), S::splat(query[i]));
                    for v in 0..V {
                        let at = columns.add((v * key_width + i) * 8);
                        let decayed = S::mul(S::load(at), S::splat(decay));
                        let column = S::fma(corrections[v], key, decayed);
                        S::store(at, column);
                        read[v] = S::fma(column, query, read[v]);
                    }
                }
                for v in 0..V {
                    let left = out.len().saturating_sub(8 * v);
                    store_some::<S>(out.as_mut_ptr().add(8 * v), read[v], left);
                }
            }
        }
    }
}

/// Norms of heads, in place.
struct Norms<'a> {
    delta: &'a GatedDelta<'a>,
    rows: &'a mut [f32],
}

impl Kernel for Norms<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, weight) = (self.delta.value_width, self.delta.norm);
        assert_eq!(weight.len(), width);
        for head in self.rows.chunks_exact_mut(width) {
            let x = head.as_mut_ptr();
            // SAFETY: all are as wide as a value.
            unsafe { norm_row::<S>(x, Some(weight.as_ptr()), width, self.delta.epsilon, x) };
        }
    }
}

#[cfg(test)]
mod tests;
