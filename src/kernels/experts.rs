//! Experts: gated feed-forward layers of which each token takes a few, by weights of its own.
//!
//! Tokens are taken in the order of their experts, so that each expert sees its own tokens as one
//! matrix: a prompt reads an expert's weights once, and a decode step only those that were chosen.

use super::gate::Activation;
use super::linear::{Arithmetic, Input, Product, Then, multiply_each};
use super::matrix::Matrix;
use super::pool::{self, Pool};

/// `down(activation(gate x) · up x)`.
#[derive(Debug, Clone)]
pub struct Expert {
    /// `[inner, hidden]`, through the activation.
    pub gate: Matrix,
    /// `[inner, hidden]`
    pub up: Matrix,
    /// `[hidden, inner]`
    pub down: Matrix,
    /// Added to the three products.
    pub biases: Option<[Vec<f32>; 3]>,
}

/// A layer of experts of one shape. Where a checkpoint stacks them in one tensor, they are parts of
/// it ([`Matrix::part`]).
#[derive(Debug, Clone, Copy)]
pub struct Experts<'a> {
    /// All of them.
    pub experts: &'a [Expert],
    /// Of the gates.
    pub activation: Activation,
    /// Of the products.
    pub arithmetic: Arithmetic,
}

/// Which experts tokens take.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// `[T, k]`, indices of experts.
    pub experts: &'a [u32],
    /// `[T, k]`, what the experts' outputs are multiplied by.
    pub weights: &'a [f32],
}

/// The place of a token's expert among all of a call: `token · k + i`.
type Slot = usize;

/// `out[t] = Σ_i weights[t, i] · expert[t, i](x[t])`; `x` and `out` are `[T, hidden]`. The sum goes
/// by i, whatever other tokens there are.
///
/// # Panics
/// Where a slice has not the size that its shape gives, or an expert is chosen that there is not.
pub fn feed_forward(
    pool: &Pool,
    layer: &Experts<'_>,
    x: &[f32],
    choice: Choice<'_>,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "what goes in and what comes out");
    assert_eq!(choice.experts.len(), choice.weights.len(), "a weight each");
    let experts = layer.experts;
    let (Some(first), false) = (experts.first(), choice.experts.is_empty()) else {
        return out.fill(0.0);
    };
    let [inner, hidden] = first.shape();
    let tokens = x.len() / hidden;
    assert_eq!(x.len(), tokens * hidden, "whole tokens");
    assert!(
        choice.experts.len().is_multiple_of(tokens),
        "as many experts for each token"
    );
    let taken = choice.experts.len() / tokens;

    let chosen = |slot: Slot| choice.experts[slot];
    let mut slots: Vec<Slot> = (0..choice.experts.len()).collect();
    slots.sort_by_key(|&slot| chosen(slot));
    let groups: Vec<(&Expert, &[Slot])> = slots
        .chunk_by(|&a, &b| chosen(a) == chosen(b))
        .map(|group| (&experts[chosen(group[0]) as usize], group))
        .inspect(|(expert, _)| assert_eq!(expert.shape(), [inner, hidden], "experts of one shape"))
        .collect();

    let mut at = 0;
    let (first, second): (Vec<_>, Vec<_>) = groups
        .iter()
        .map(|&(expert, group)| {
            at += group.len();
            let first = Share {
                matrix: &expert.gate,
                bias: expert.bias(0),
                then: Then::Gate(layer.activation, &expert.up, expert.bias(1)),
                rows: group.iter().map(|slot| slot / taken).collect(),
            };
            let second = Share {
                matrix: &expert.down,
                bias: expert.bias(2),
                then: Then::Store,
                rows: (at - group.len()..at).collect(),
            };
            (first, second)
        })
        .unzip();
    let gated = multiply(pool, layer.arithmetic, x, &first);
    let outputs = multiply(pool, layer.arithmetic, &gated, &second);

    let mut places = vec![0; slots.len()];
    for (place, &slot) in slots.iter().enumerate() {
        places[slot] = place;
    }
    let parts = choice
        .weights
        .chunks_exact(taken)
        .zip(places.chunks_exact(taken));
    let parts = out.chunks_exact_mut(hidden).zip(parts).collect();
    pool::run_each(pool, parts, |(out, (weights, places))| {
        sum(&outputs, weights, places, out);
    });
}

impl Expert {
    /// The bias of its gate, of what that gates, or of the way down.
    fn bias(&self, index: usize) -> Option<&[f32]> {
        self.biases.as_ref().map(|biases| biases[index].as_slice())
    }

    /// Inner width and hidden width.
    ///
    /// # Panics
    /// Where its matrices do not fit each other.
    fn shape(&self) -> [usize; 2] {
        let shape = [self.gate.rows(), self.gate.columns()];
        assert_eq!(
            [self.up.rows(), self.up.columns()],
            shape,
            "a gate and what it gates"
        );
        assert_eq!(
            [self.down.columns(), self.down.rows()],
            shape,
            "the way up and down"
        );
        shape
    }
}

/// A product of some rows of activations.
struct Share<'a> {
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    then: Then<'a>,
    rows: Vec<usize>,
}

/// The products of all shares, laid end to end: one region of tasks. `x` is `[.., columns]`.
fn multiply(pool: &Pool, arithmetic: Arithmetic, x: &[f32], shares: &[Share<'_>]) -> Vec<f32> {
    let matrices = shares.iter().flat_map(|share| {
        let matrices = share.then.matrices(share.matrix);
        matrices.map(|matrix| (matrix, share.rows.len()))
    });
    let whole = Input::new(pool, x, arithmetic, matrices);
    let inputs: Vec<Input> = shares
        .iter()
        .map(|share| whole.gather(&share.rows))
        .collect();
    let sizes = shares
        .iter()
        .map(|share| share.rows.len() * share.matrix.rows());
    let mut out = vec![0.0; sizes.sum()];
    let mut rest = out.as_mut_slice();
    let products = shares.iter().zip(&inputs).map(|(share, input)| {
        let size = share.rows.len() * share.matrix.rows();
        let (out, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        let product = Product {
            matrix: share.matrix,
            bias: share.bias,
            then: share.then,
            out,
        };
        (input, product)
    });
    multiply_each(pool, arithmetic, products);
    out
}

/// `out = Σ_i weights[i] · outputs[places[i]]`, for rows as wide as `out`.
fn sum(outputs: &[f32], weights: &[f32], places: &[usize], out: &mut [f32]) {
    let width = out.len();
    out.fill(0.0);
    for (weight, place) in weights.iter().zip(places) {
        let output = &outputs[place * width..(place + 1) * width];
        for (out, output) in out.iter_mut().zip(output) {
            *out += weight * output;
        }
    }
}

#[cfg(test)]
mod tests;
