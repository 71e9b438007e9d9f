//! Root-mean-square normalization.

use super::tensor::{Rows, Tensor, misplaced};
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

    /// `[T, width]` to the same.
    ///
    /// # Errors
    /// What MLX says.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match x {
            Tensor::Device(x) => self.forward(x).map(Tensor::Device),
            Tensor::Host(x) => self.on_host(x).map(Tensor::Host),
        }
    }

    /// `to + norm(x)`, `[T, width]`: the end of a residual branch that is normalized.
    ///
    /// # Errors
    /// What MLX says.
    pub fn add_to(&self, to: &Tensor, x: &Tensor) -> Result<Tensor> {
        match to {
            Tensor::Device(to) => Ok(Tensor::Device(to.add(self.forward(x.device()?)?)?)),
            Tensor::Host(to) => {
                let mut sum = self.on_host(x.host()?)?;
                for (sum, to) in sum.numbers.iter_mut().zip(to.numbers.iter()) {
                    *sum += to;
                }
                Ok(Tensor::Host(sum))
            }
        }
    }

    /// The norm by the kernel.
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
