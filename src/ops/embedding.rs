//! Token ids to rows of a matrix.

use super::host::node;
use super::linear::{Linear, Matrix};
use crate::error::Result;
use crate::kernels::embedding::look_up;
use crate::kernels::pool;
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
            Matrix::Host(matrix) => {
                let weights = matrix.weights.clone();
                let shape = [ids.shape()[0], weights.columns() as i32];
                let ids = ids.as_dtype(Dtype::Int32)?;
                node("embedding", &[&ids], &shape, move |inputs, out| {
                    let ids = inputs[0].as_slice().unwrap_or_default();
                    look_up(pool::shared(), &weights, ids, out);
                })
            }
        }
    }

    /// The same rows as a linear layer: the tied head.
    pub fn as_linear(&self) -> Linear {
        Linear {
            matrix: self.matrix.clone(),
            bias: None,
        }
    }
}
