//! Token ids to rows of a matrix.

use super::batch::{Batch, Ids};
use super::linear::{Linear, Matrix};
use super::tensor::{Rows, Tensor, misplaced};
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
    /// The rows of a batch's tokens, `[T, hidden]`. Of packed rows only these are unpacked.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor> {
        match (&self.matrix, &batch.ids) {
            (Matrix::Host(matrix), Ids::Host(ids)) => {
                let mut out = Rows::new(ids.len(), matrix.weights.columns());
                look_up(pool::shared(), &matrix.weights, ids, &mut out.numbers);
                Ok(Tensor::Host(out))
            }
            (_, Ids::Device { tokens, .. }) => self.on_device(tokens).map(Tensor::Device),
            (_, Ids::Host(_)) => Err(misplaced()),
        }
    }

    fn on_device(&self, ids: &Array) -> Result<Array> {
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
            Matrix::Host(_) => Err(misplaced()),
        }
    }

    /// The same rows as a linear layer: the tied head.
    pub fn as_linear(&self) -> Linear {
        Linear {
            matrix: self.matrix.clone(),
            bias: None,
            group: None,
        }
    }
}
