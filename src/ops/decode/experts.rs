//! Layers of experts: what the kernel knows of how they are chosen.

use super::builder::Builder;
use super::instruction::{Region, Word};
use super::stored::stacked;
use super::then::Then;
use crate::error::Result;
use crate::kernels::router::Scores;
use crate::mlx::{Array, ops};
use crate::ops::experts::{Experts, Router, Stack};
use crate::ops::linear::{Linear, Matrix};
use crate::ops::norm::RmsNorm;
use crate::ops::vector::Vector;

/// Experts that a token takes at most, and that there are at most; as in the sources.
const MOST: (i32, i32) = (16, 512);

/// Rows that are computed together; as in the sources.
const TILE: i32 = 16;

/// How experts are chosen.
pub(super) struct Routing {
    /// Those that a token takes.
    pub(super) taken: i32,
    /// All.
    pub(super) count: i32,
    /// Where their scores are.
    pub(super) scores: Word,
    /// Weights are the softmax over those that are taken, instead of over all.
    pub(super) of_taken: bool,
}

impl Builder {
    /// `x + Σ weight · expert(norm(x))`, of one sequence.
    ///
    /// # Errors
    /// What MLX says.
    pub fn experts(&mut self, norm: &RmsNorm, experts: &Experts) -> Result<bool> {
        let Stack::Device {
            gate,
            up,
            down,
            biases,
        } = &experts.stack
        else {
            return Ok(false);
        };
        let (Some((gate, count)), Some((up, _)), Some((down, _))) =
            (stacked(gate), stacked(up), stacked(down))
        else {
            return Ok(false);
        };
        let taken = experts.router.taken as i32;
        let Some(of_taken) = weighs_taken(&experts.router) else {
            return Ok(false);
        };
        if experts.shared.is_some() || taken > MOST.0 || count > MOST.1 {
            return Ok(false);
        }
        let routing = Routing {
            taken,
            count,
            scores: self.scratch.region(Region::Scores, count),
            of_taken,
        };
        let biases = biases.clone().map(|biases| biases.map(Vector::Device));
        let [of_gate, of_up, of_down] = [0, 1, 2].map(|i| biases.as_ref().map(|biases| &biases[i]));
        let router = &in_whole_tiles(&experts.router.linear)?;
        let scores = Then::Store(Region::Scores);
        let (gated, back) = (
            Then::Gate(experts.activation),
            Then::add(experts.group.as_ref()),
        );
        let (hidden, inner) = (Region::Residual, Region::Gated);
        Ok(self.multiply(Some(norm), &[router], hidden, &scores)?
            && self.multiply_stored(
                Some(norm),
                &[gate, up],
                &[of_gate, of_up],
                hidden,
                &gated,
                Some(&routing),
            )?
            && self.multiply_stored(None, &[down], &[of_down], inner, &back, Some(&routing))?)
    }
}

/// With rows of zeros after the others, as many as the kernel takes at once.
fn in_whole_tiles(router: &Linear) -> Result<Linear> {
    let Matrix::Dense(weight) = &router.matrix else {
        return Ok(router.clone());
    };
    let missing = (TILE - weight.shape()[0] % TILE) % TILE;
    let longer = |array: &Array| {
        let mut shape = array.shape().to_vec();
        shape[0] = missing;
        ops::concatenate(&[array, &ops::zeros_dtype(&shape, array.dtype())?], 0)
    };
    if missing == 0 {
        return Ok(router.clone());
    }
    let bias = match &router.bias {
        Some(Vector::Device(bias)) => Some(Vector::Device(longer(bias)?)),
        other => other.clone(),
    };
    Ok(Linear {
        matrix: Matrix::Dense(longer(weight)?),
        bias,
        group: None,
    })
}

/// Whether weights are the softmax over the experts that are taken; `None` where they are something else than that,
/// or the softmax over all.
fn weighs_taken(router: &Router) -> Option<bool> {
    let as_it_is = router.factor.to_bits() == 1_f32.to_bits();
    if router.correction.is_some() || router.groups.is_some() || !as_it_is {
        return None;
    }
    match (router.scores, router.normalize) {
        (Scores::Softmax, Some(0.0)) | (Scores::SoftmaxOfTaken, None) => Some(true),
        (Scores::Softmax, None) => Some(false),
        _ => None,
    }
}
