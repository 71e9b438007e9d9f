//! `y = x Wᵀ + b` over dense or packed weights.

use crate::error::Result;
use crate::mlx::{Array, Packing, quantized_matmul};

/// A matrix `[outputs, inputs]`, dense or packed.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// All elements.
    Dense(Array),
    /// Packed in groups along the inputs.
    Packed {
        /// `[outputs, inputs·bits/32]`, uint32.
        weight: Array,
        /// `[outputs, inputs/group]`.
        scales: Array,
        /// `[outputs, inputs/group]`, in affine mode.
        biases: Option<Array>,
        /// Mode, group size and bits.
        packing: Packing,
    },
}

impl Matrix {
    /// `x Wᵀ`: `[.., inputs]` to `[.., outputs]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => Ok(x.matmul(weight.transpose()?)?),
            Self::Packed {
                weight,
                scales,
                biases,
                packing,
            } => quantized_matmul(x, weight, scales, biases.as_ref(), *packing),
        }
    }
}

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The weights.
    pub matrix: Matrix,
    /// Added to the product, `[outputs]`.
    pub bias: Option<Array>,
}

impl Linear {
    /// `[.., inputs]` to `[.., outputs]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let product = self.matrix.apply(x)?;
        match &self.bias {
            Some(bias) => Ok(product.add(bias)?),
            None => Ok(product),
        }
    }
}
