//! Root-mean-square normalization.

use super::vector::Vector;
use crate::error::Result;
use crate::mlx::{Array, fast};

/// `x · rsqrt(mean(x²) + epsilon) · weight` over the last axis (Zhang and Sennrich 2019,
/// arXiv:1910.07467).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// `[width]`.
    pub weight: Vector,
    /// Keeps the root away from 0.
    pub epsilon: f32,
}

impl RmsNorm {
    /// `[.., width]` to the same, by MLX: kernels normalize where they use the result
    /// ([`super::linear::project`], [`super::attention`]).
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        Ok(fast::rms_norm(x, Some(&self.weight.array()), self.epsilon)?)
    }
}
