//! Heads apart: linear layers of which each has its own, and parts of their widths.

use std::ops::Range;

use super::linear::Matrix;
use super::tensor::{Rows, Tensor, misplaced};
use crate::error::Result;
use crate::kernels::heads::multiply_heads;
use crate::kernels::linear::Arithmetic;
use crate::kernels::matrix::Matrix as HostWeights;
use crate::kernels::pool;
use crate::mlx::{Array, ops, quantized_matmul, slice};

/// A matrix `[outputs, inputs]` for each head.
#[derive(Debug, Clone)]
pub enum HeadLinear {
    /// `[H, outputs, inputs]`, for MLX.
    Device(Matrix),
    /// For the kernels.
    Host(Vec<HostWeights>, Arithmetic),
}

impl HeadLinear {
    /// Of a stack of so many.
    ///
    /// # Errors
    /// [`crate::Error::Mlx`] where it is not of so many.
    pub fn new(stack: Matrix, heads: usize) -> Result<Self> {
        let Matrix::Host(first) = &stack else {
            return Ok(Self::Device(stack));
        };
        let matrices = (0..heads).map(|head| stack.host_part(head, heads));
        let matrices: Option<Vec<_>> = matrices.collect();
        Ok(Self::Host(
            matrices.ok_or_else(misplaced)?,
            first.arithmetic,
        ))
    }

    /// `[T, H·inputs]` to `[T, H·outputs]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match (self, x) {
            (Self::Device(matrix), Tensor::Device(x)) => on_device(matrix, x).map(Tensor::Device),
            (Self::Host(matrices, arithmetic), Tensor::Host(x)) => {
                let outputs: usize = matrices.iter().map(HostWeights::rows).sum();
                let mut out = Rows::new(x.count(), outputs);
                let pool = pool::shared();
                multiply_heads(pool, &x.numbers, *arithmetic, matrices, &mut out.numbers);
                Ok(Tensor::Host(out))
            }
            _ => Err(misplaced()),
        }
    }
}

fn on_device(matrix: &Matrix, x: &Array) -> Result<Array> {
    let tokens = x.shape()[0];
    let (Matrix::Dense(weight) | Matrix::Packed { weight, .. }) = matrix else {
        return Err(misplaced());
    };
    let heads = weight.shape()[0];
    let x = x
        .reshape(&[tokens, heads, -1])?
        .transpose_axes(&[1, 0, 2])?;
    let out = match matrix {
        Matrix::Packed {
            weight,
            scales,
            biases,
            packing,
        } => quantized_matmul(&x, weight, scales, biases.as_ref(), *packing)?,
        _ => x.matmul(weight.swap_axes(-1, -2)?)?,
    };
    Ok(out.transpose_axes(&[1, 0, 2])?.reshape(&[tokens, -1])?)
}

/// The first `width` numbers of each of so many heads, and the others: `[T, H·(width + rest)]` to
/// `[T, H·width]` and `[T, H·rest]`.
///
/// # Errors
/// What MLX says.
pub fn split(x: &Tensor, heads: usize, width: usize) -> Result<[Tensor; 2]> {
    match x {
        Tensor::Device(x) => {
            let tokens = x.shape()[0];
            let x = x.reshape(&[tokens, heads as i32, -1])?;
            let part = |part: Array| -> Result<Tensor> {
                Ok(Tensor::Device(part.reshape(&[tokens, -1])?))
            };
            let width = width as i32;
            Ok([part(slice(&x, 2, ..width)?)?, part(slice(&x, 2, width..)?)?])
        }
        Tensor::Host(x) => {
            let each = x.width / heads;
            let part = |range: Range<usize>| {
                let heads_of = x.numbers.chunks_exact(each);
                Tensor::Host(Rows {
                    width: heads * range.len(),
                    numbers: heads_of
                        .flat_map(|head| &head[range.clone()])
                        .copied()
                        .collect(),
                })
            };
            Ok([part(0..width), part(width..each)])
        }
    }
}

/// The numbers of `left` and then those of `right` for each of so many heads: what [`split`] takes apart.
///
/// # Errors
/// What MLX says.
pub fn join(left: &Tensor, right: &Tensor, heads: usize) -> Result<Tensor> {
    match (left, right) {
        (Tensor::Device(left), Tensor::Device(right)) => {
            let tokens = left.shape()[0];
            let of_heads = |x: &Array| x.reshape(&[tokens, heads as i32, -1]);
            let joined = ops::concatenate(&[of_heads(left)?, of_heads(right)?], 2)?;
            Ok(Tensor::Device(joined.reshape(&[tokens, -1])?))
        }
        (Tensor::Host(left), Tensor::Host(right)) => {
            let widths = [left.width, right.width].map(|width| width / heads);
            let pairs = left.numbers.chunks_exact(widths[0]);
            let pairs = pairs.zip(right.numbers.chunks_exact(widths[1]));
            let numbers = pairs
                .flat_map(|(left, right)| left.iter().chain(right))
                .copied();
            Ok(Tensor::Host(Rows {
                width: left.width + right.width,
                numbers: numbers.collect(),
            }))
        }
        _ => Err(misplaced()),
    }
}
