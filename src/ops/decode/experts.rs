//! Layers of experts: what the kernel knows of how they are chosen.

use super::builder::Builder;
use super::instruction::{Region, Word};
use super::stored::stacked;
use super::then::Then;
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::router::Scores;
use crate::ops::experts::{Experts, Router, Stack};
use crate::ops::norm::RmsNorm;

/// Experts that a token takes at most, and that there are at most; as in the sources.
const MOST: (i32, i32) = (16, 512);

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
            biases: None,
        } = &experts.stack
        else {
            return Ok(false);
        };
        let activation = match experts.activation {
            Activation::Silu => 0,
            Activation::GeluTanh => 1,
            Activation::Clamped(_) => return Ok(false),
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
        let router = &experts.router.linear;
        let scores = Then::Store(Region::Scores);
        let (gated, back) = (Then::Gate(activation), Then::add(experts.group.as_ref()));
        let (hidden, inner) = (Region::Residual, Region::Gated);
        Ok(self.multiply(Some(norm), &[router], hidden, &scores)?
            && self.multiply_stored(
                Some(norm),
                &[gate, up],
                &[None; 2],
                hidden,
                &gated,
                Some(&routing),
            )?
            && self.multiply_stored(None, &[down], &[None], inner, &back, Some(&routing))?)
    }
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
