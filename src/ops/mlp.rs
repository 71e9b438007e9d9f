//! The gated feed-forward layer.

use super::linear::Linear;
use super::norm::RmsNorm;
use super::tensor::{Tensor, misplaced};
use crate::error::Result;
use crate::kernels::gate::{Activation, CLAMPED_SLOPE};
use crate::kernels::linear::{Then, multiply};
use crate::kernels::pool;
use crate::mlx::{Array, ops};

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

/// `activation(gate) · up` by MLX.
pub(super) fn activate(activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    let number = |number: f32| Array::from_f32(number).as_dtype(gate.dtype());
    Ok(match activation {
        Activation::Silu => gate.multiply(ops::sigmoid(gate)?)?.multiply(up)?,
        Activation::GeluTanh => {
            let cubic = gate.square()?.multiply(number(0.044_715)?)?;
            let cubic = gate.multiply(cubic.add(number(1.0)?)?)?;
            // √(2/π)
            let tanh = ops::tanh(cubic.multiply(number(0.797_884_6)?)?)?;
            let half = gate.multiply(number(0.5)?)?;
            half.multiply(tanh.add(number(1.0)?)?)?.multiply(up)?
        }
        Activation::Clamped(limit) => {
            let gate = ops::minimum(gate, number(limit)?)?;
            let up = ops::maximum(ops::minimum(up, number(limit)?)?, number(-limit)?)?;
            let sigmoid = ops::sigmoid(gate.multiply(number(CLAMPED_SLOPE)?)?)?;
            gate.multiply(sigmoid)?.multiply(up.add(number(1.0)?)?)?
        }
    })
}
