//! The gated feed-forward layer.

use std::sync::Arc;

use super::gate::activate;
use super::linear::Linear;
use super::norm::RmsNorm;
use super::tensor::{Tensor, misplaced};
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::linear::{Then, multiply};
use crate::kernels::pool;
use crate::mlx::Group;

/// `down(activation(gate(x)) · up(x))` (Shazeer 2020, arXiv:2002.05202).
#[derive(Debug, Clone)]
pub struct GatedMlp {
    /// `[hidden]` to `[intermediate]`, through the activation.
    pub gate: Linear,
    /// `[hidden]` to `[intermediate]`.
    pub up: Linear,
    /// `[intermediate]` to `[hidden]`.
    pub down: Linear,
    /// What the gate goes through.
    pub activation: Activation,
}

impl GatedMlp {
    /// The same with a GELU, approximated by a hyperbolic tangent.
    #[must_use]
    pub fn with_gelu(self) -> Self {
        Self {
            activation: Activation::GeluTanh,
            ..self
        }
    }

    /// What one of a group computes of it, each of which has some of the intermediate numbers.
    ///
    /// # Errors
    /// What MLX says, or that they cannot be parted so.
    pub fn part(&self, group: &Arc<Group>) -> Result<Self> {
        let part = group.part(self.down.matrix.inputs())?;
        Ok(Self {
            gate: self.gate.outputs(part.clone())?,
            up: self.up.outputs(part.clone())?,
            down: self.down.inputs(part, group)?,
            activation: self.activation,
        })
    }

    /// `x + self(norm(x))`: a whole residual branch, `[T, hidden]` to the same.
    ///
    /// # Errors
    /// What MLX says.
    pub fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        self.down.add_to(x, &self.gated(norm, x)?)
    }

    /// `self(norm(x))`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        self.down.apply(&self.gated(norm, x)?)
    }

    fn gated(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        match x {
            Tensor::Device(array) => {
                let normed = norm.forward(array)?;
                let gate = self.gate.forward(&normed)?;
                let up = self.up.forward(&normed)?;
                Ok(Tensor::Device(activate(self.activation, &gate, &up)?))
            }
            Tensor::Host(rows) => {
                let (Some(gate), Some(up)) = (self.gate.host(), self.up.host()) else {
                    return Err(misplaced());
                };
                let normed = norm.on_host(rows)?;
                let mut gated = gate.outputs(rows.count());
                let then = Then::Gate(self.activation, &up.matrix.weights, up.bias);
                let products = vec![gate.product(then, &mut gated)];
                let arithmetic = gate.matrix.arithmetic;
                multiply(pool::shared(), &normed.numbers, arithmetic, products);
                Ok(Tensor::Host(gated))
            }
        }
    }
}
