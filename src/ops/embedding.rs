//! Token ids to rows of a matrix, and hidden states back to logits over the same matrix.

use super::linear::Matrix;
use crate::error::Result;
use crate::mlx::{Array, Dtype, dequantize};

/// A matrix `[vocabulary, hidden]` of which rows are looked up.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// The rows, dense or packed.
    pub matrix: Matrix,
    /// The type that models compute in.
    pub dtype: Dtype,
}

impl Embedding {
    /// Ids `[T]` to rows `[T, hidden]`. Of packed rows only these are unpacked.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        match &self.matrix {
            Matrix::Dense(weight) => Ok(weight.take_axis(ids, 0)?.as_dtype(self.dtype)?),
            Matrix::Packed {
                weight,
                scales,
                biases,
                packing,
            } => {
                let biases = biases
                    .as_ref()
                    .map(|biases| biases.take_axis(ids, 0))
                    .transpose()?;
                let (weight, scales) = (weight.take_axis(ids, 0)?, scales.take_axis(ids, 0)?);
                dequantize(&weight, &scales, biases.as_ref(), *packing, self.dtype)
            }
        }
    }

    /// Hidden states `[R, hidden]` to logits `[R, vocabulary]`: the tied head.
    ///
    /// # Errors
    /// What MLX says.
    pub fn as_linear(&self, x: &Array) -> Result<Array> {
        self.matrix.apply(x)
    }
}
