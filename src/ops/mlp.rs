//! The gated feed-forward layer.

use super::linear::Linear;
use crate::error::Result;
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
    /// `[T, hidden]` to the same.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let gate = self.gate.forward(x)?;
        let gated = gate
            .multiply(ops::sigmoid(&gate)?)?
            .multiply(self.up.forward(x)?)?;
        self.down.forward(&gated)
    }
}
