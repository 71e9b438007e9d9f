//! The gated feed-forward layer.

use super::linear::Linear;
use super::norm::RmsNorm;
use super::tensor::{Tensor, misplaced};
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::linear::{Then, multiply};
use crate::kernels::pool;
use crate::mlx::ops;

/// `down(silu(gate(x)) · up(x))` (Shazeer 2020, arXiv:2002.05202).
#[derive(Debug, Clone)]
pub struct SwiGlu {
    /// `[hidden]` to `[intermediate]`, through the gate.
    pub gate: Linear,
    /// `[hidden]` to `[intermediate]`.
    pub up: Linear,
    /// `[intermediate]` to `[hidden]`.
    pub down: Linear,
}

impl SwiGlu {
    /// `x + self(norm(x))`: a whole residual branch, `[T, hidden]` to the same.
    ///
    /// # Errors
    /// What MLX says.
    pub fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        match x {
            Tensor::Device(array) => {
                let normed = norm.forward(array)?;
                let gate = self.gate.forward(&normed)?;
                let gated = gate
                    .multiply(ops::sigmoid(&gate)?)?
                    .multiply(self.up.forward(&normed)?)?;
                self.down.add_to(x, &Tensor::Device(gated))
            }
            Tensor::Host(rows) => {
                let (Some(gate), Some(up)) = (self.gate.host(), self.up.host()) else {
                    return Err(misplaced());
                };
                let normed = norm.on_host(rows)?;
                let mut gated = gate.outputs(rows.count());
                let then = Then::Gate(Activation::Silu, &up.matrix.weights, up.bias);
                let products = vec![gate.product(then, &mut gated)];
                let arithmetic = gate.matrix.arithmetic;
                multiply(pool::shared(), &normed.numbers, arithmetic, products);
                self.down.add_to(x, &Tensor::Host(gated))
            }
        }
    }
}
