//! Root-mean-square normalization.

use super::tensor::{Rows, misplaced};
use super::vector::Vector;
use crate::error::Result;
use crate::kernels::{norm::rms_norm, pool};
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
    /// `[.., width]` to the same, by MLX.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        Ok(fast::rms_norm(x, Some(&self.weight.array()), self.epsilon)?)
    }

    /// The same by the kernel.
    pub(super) fn on_host(&self, x: &Rows) -> Result<Rows> {
        let weight = self.weight.host().ok_or_else(misplaced)?;
        let mut out = Rows::new(x.count(), x.width);
        rms_norm(
            pool::shared(),
            &x.numbers,
            weight,
            self.epsilon,
            &mut out.numbers,
        );
        Ok(out)
    }
}
