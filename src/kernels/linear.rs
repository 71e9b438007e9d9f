//! `y = W x` for several matrices at once, with what comes before and after: one region of tasks.

mod input;

use std::cmp::Reverse;
use std::iter;
use std::ops::Range;

pub(super) use self::input::Input;
use self::input::{Factor, Form, form};
use super::bfloats::{self, SIDE};
use super::floats::{self, FEW};
use super::gate::{Activation, gate_in_place};
use super::matmul;
use super::matrix::Matrix;
use super::matvec;
use super::panel::PANEL;
use super::pool::Pool;
use super::scratch::Scratch;

/// Bytes of weights that are worth a task of their own in a decode step: a microsecond.
const TASK_BYTES: usize = 1 << 14;

/// Panels of a task, at most.
const PANELS: usize = 4;

/// Tasks for each thread, about, so that all end at about the same time.
const TASKS_PER_THREAD: usize = 12;

/// How activations are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// As int8 with a scale for each 32, where the weights are packed integers; where the processor multiplies tiles,
    /// many rows as bfloat16, or as the sum of two where that holds the weights as they are.
    Int8,
    /// As float32: exact.
    Float32,
}

/// One product: `out = then(W x + bias)`.
pub struct Product<'a> {
    /// The weights.
    pub matrix: &'a Matrix,
    /// Added to each row, `[rows]`.
    pub bias: Option<&'a [f32]>,
    /// What follows.
    pub then: Then<'a>,
    /// `[T, rows]`
    pub out: &'a mut [f32],
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy)]
pub enum Then<'a> {
    /// Nothing.
    Store,
    /// It is added to these, `[T, rows]`.
    Add(&'a [f32]),
    /// It gates the product of another matrix of the same shape, with its bias.
    Gate(Activation, &'a Matrix, Option<&'a [f32]>),
}

impl<'a> Then<'a> {
    /// The matrices that take part in a product of `matrix`.
    pub(super) fn matrices(self, matrix: &'a Matrix) -> impl Iterator<Item = &'a Matrix> {
        let gated = match self {
            Self::Gate(_, gated, _) => Some(gated),
            Self::Store | Self::Add(_) => None,
        };
        iter::once(matrix).chain(gated)
    }
}

/// A product's tasks, and the activations for its formats.
struct Plan<'a> {
    tokens: usize,
    product: Shared<'a>,
    /// For the matrix and the one that it gates.
    factors: [Factor<'a>; 2],
    /// The rows of each task.
    tasks: Vec<Range<usize>>,
}

/// A product whose output many threads fill, each its own columns.
struct Shared<'a> {
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    then: Then<'a>,
    out: *mut f32,
}

// SAFETY: every task writes columns of its own.
unsafe impl Sync for Shared<'_> {}

/// Computes all products of the same activations `x` `[T, columns]`.
///
/// # Panics
/// Where a slice has not the size that its shape gives: a mistake of the caller.
pub fn multiply(pool: &Pool, x: &[f32], arithmetic: Arithmetic, products: Vec<Product<'_>>) {
    let matrices = (products.iter()).flat_map(|product| product.then.matrices(product.matrix));
    let input = Input::new(
        pool,
        x,
        arithmetic,
        matrices.map(|matrix| (matrix, x.len() / matrix.columns())),
    );
    let products = products.into_iter().map(|product| (&input, product));
    multiply_each(pool, arithmetic, products);
}

/// Computes products, each of its own activations.
pub(super) fn multiply_each<'a>(
    pool: &Pool,
    arithmetic: Arithmetic,
    products: impl Iterator<Item = (&'a Input, Product<'a>)>,
) {
    let plans: Vec<Plan<'_>> = products
        .map(|(input, product)| Plan::new(product, input, arithmetic, pool.threads()))
        .collect();
    let mut tasks: Vec<(&Plan<'_>, &Range<usize>)> = plans
        .iter()
        .flat_map(|plan| plan.tasks.iter().map(move |rows| (plan, rows)))
        .collect();
    // The small ones last, so that all threads end together.
    tasks.sort_by_key(|(plan, rows)| Reverse(rows.len() * plan.product.matrix.row_bytes()));
    pool.run(tasks.len(), |task| {
        let (plan, rows) = tasks[task];
        plan.run(pool, rows.clone());
    });
}

impl<'a> Plan<'a> {
    fn new(product: Product<'a>, input: &'a Input, arithmetic: Arithmetic, threads: usize) -> Self {
        let Product {
            matrix,
            bias,
            then,
            out,
        } = product;
        assert_eq!(out.len(), input.tokens * matrix.rows(), "an output's size");
        let other = match then {
            Then::Gate(_, other, _) => {
                assert_eq!(other.rows(), matrix.rows(), "a gate and what it gates");
                input.factor(other.format(), arithmetic)
            }
            Then::Add(to) => {
                assert_eq!(to.len(), out.len(), "what a product is added to");
                Factor::Nothing
            }
            Then::Store => Factor::Nothing,
        };
        let rows = matrix.rows();
        let tasks = if input.tokens <= FEW {
            halving(rows, threads, TASK_BYTES * rows / matrix.bytes().max(1))
        } else {
            // Neighbouring rows are made faster by one thread; all threads should end together.
            let count = rows
                .div_ceil(TASKS_PER_THREAD * threads)
                .min(PANEL * PANELS);
            let side = match form(matrix.format(), arithmetic, input.tokens) {
                Form::Bfloat16(_) => SIDE,
                Form::Int8 | Form::Float32 => PANEL,
            };
            let count = count.next_multiple_of(side);
            let starts = (0..rows).step_by(count.max(1));
            starts.map(|start| start..rows.min(start + count)).collect()
        };
        Self {
            tokens: input.tokens,
            factors: [input.factor(matrix.format(), arithmetic), other],
            product: Shared {
                matrix,
                bias,
                then,
                out: out.as_mut_ptr(),
            },
            tasks,
        }
    }

    /// Some of the rows for all tokens.
    fn run(&self, pool: &Pool, Range { start: first, end }: Range<usize>) {
        let (tokens, count) = (self.tokens, end - first);
        let Shared {
            matrix, bias, then, ..
        } = self.product;
        // `[T][rows of the task]`
        let mut tile = Scratch::new(tokens * count);
        let tile = &mut tile[..tokens * count];
        rows(matrix, &self.factors[0], first, count, tile);
        add_bias(tile, bias, first, count);
        if let Then::Gate(gate, other, other_bias) = then {
            let mut gated = Scratch::new(tokens * count);
            let gated = &mut gated[..tokens * count];
            rows(other, &self.factors[1], first, count, gated);
            add_bias(gated, other_bias, first, count);
            gate_in_place(pool, gate, tile, gated);
        }
        for (token, tile) in tile.chunks_exact_mut(count).enumerate() {
            let at = token * matrix.rows() + first;
            if let Then::Add(to) = then {
                for (tile, to) in tile.iter_mut().zip(&to[at..at + count]) {
                    *tile += to;
                }
            }
            // SAFETY: the output has room for all rows of all tokens; these are this task's alone.
            unsafe {
                std::ptr::copy_nonoverlapping(tile.as_ptr(), self.product.out.add(at), count);
            }
        }
    }
}

/// Cuts rows in tasks of which each round takes about half of what is left: long ones first, which
/// read memory faster, and short ones in the end, so that all threads end at about the same time.
fn halving(rows: usize, threads: usize, smallest: usize) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    let mut start = 0;
    while start < rows {
        // Not a half: at distances of a power of two, streams meet in the same bank of the memory.
        let count = (9 * (rows - start) / (10 * threads)).max(smallest).max(1);
        for _ in 0..threads {
            let end = rows.min(start + count);
            if start < end {
                tasks.push(start..end);
            }
            start = end;
        }
    }
    tasks
}

fn add_bias(tile: &mut [f32], bias: Option<&[f32]>, first: usize, count: usize) {
    if let Some(bias) = bias {
        for row in tile.chunks_exact_mut(count) {
            for (out, bias) in row.iter_mut().zip(&bias[first..]) {
                *out += bias;
            }
        }
    }
}

/// `tile[token][i] = W[first + i] · x[token]` for `count` rows.
fn rows(matrix: &Matrix, factor: &Factor<'_>, first: usize, count: usize, tile: &mut [f32]) {
    match factor {
        Factor::Vectors(x) => matvec::multiply(matrix, first..first + count, x, tile),
        Factor::Rows(x, sums) => panels(first, count, tile, |first, out| {
            matmul::multiply(matrix, first, x, sums, out);
        }),
        Factor::Floats(x) if tile.len() / count <= FEW => {
            let mut out: Vec<&mut [f32]> = tile.chunks_exact_mut(count).collect();
            floats::multiply_rows(matrix, first..first + count, x, &mut out);
        }
        Factor::Floats(x) => panels(first, count, tile, |first, out| {
            floats::multiply_panel(matrix, first, x, out);
        }),
        Factor::Bfloats(x) => bfloats::multiply(matrix, first..first + count, x, tile),
        Factor::Nothing => {}
    }
}

/// Fills a tile by panels.
fn panels(
    first: usize,
    count: usize,
    tile: &mut [f32],
    multiply: impl Fn(usize, &mut [[f32; PANEL]]),
) {
    let mut out = vec![[0.0; PANEL]; tile.len() / count];
    for at in (0..count).step_by(PANEL) {
        multiply(first + at, &mut out);
        let width = PANEL.min(count - at);
        for (tile, out) in tile.chunks_exact_mut(count).zip(&out) {
            tile[at..at + width].copy_from_slice(&out[..width]);
        }
    }
}

#[cfg(test)]
pub(super) mod plain;
#[cfg(test)]
mod tests;
