//! The gated feed-forward layer.

use super::host::{floats, node};
use super::linear::Linear;
use super::norm::RmsNorm;
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::linear::{Product, Then, multiply};
use crate::kernels::norm::rms_norm;
use crate::kernels::pool;
use crate::mlx::{Array, ops};

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
    pub fn add_to(&self, norm: &RmsNorm, x: &Array) -> Result<Array> {
        let hosts = (self.gate.host(), self.up.host(), self.down.host());
        let ((Some(gate), Some(up), Some(down)), Some(weight)) = (hosts, norm.weight.host()) else {
            let normed = norm.forward(x)?;
            let gate = self.gate.forward(&normed)?;
            let gated = gate
                .multiply(ops::sigmoid(&gate)?)?
                .multiply(self.up.forward(&normed)?)?;
            return self.down.add_to(x, &gated);
        };
        let (weight, epsilon) = (weight.clone(), norm.epsilon);
        node("feed forward", &[x], x.shape(), move |inputs, out| {
            let (pool, x) = (pool::shared(), floats(&inputs[0]));
            let arithmetic = gate.0.arithmetic;
            let mut normed = vec![0.0; x.len()];
            rms_norm(pool, x, &weight, epsilon, &mut normed);
            let tokens = x.len() / gate.0.weights.columns();
            let mut gated = vec![0.0; tokens * gate.0.weights.rows()];
            let product = Product {
                matrix: &gate.0.weights,
                bias: gate.1.as_deref(),
                then: Then::Gate(Activation::Silu, &up.0.weights, up.1.as_deref()),
                out: &mut gated,
            };
            multiply(pool, &normed, arithmetic, vec![product]);
            let product = Product {
                matrix: &down.0.weights,
                bias: down.1.as_deref(),
                then: Then::Add(x),
                out,
            };
            multiply(pool, &gated, arithmetic, vec![product]);
        })
    }
}
