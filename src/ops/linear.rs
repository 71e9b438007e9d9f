//! `y = x Wᵀ + b` over dense or packed weights, with the norm before it and the sum after it.

use super::host::{HostMatrix, floats, floats_mut, node};
use super::norm::RmsNorm;
use super::vector::Vector;
use crate::error::Result;
use crate::kernels::linear::{Product, Then, multiply};
use crate::kernels::{norm::rms_norm, pool};
use crate::mlx::{Array, Dtype, Output, Packing, host_op, quantized_matmul};

/// A matrix `[outputs, inputs]`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// All elements, for MLX.
    Dense(Array),
    /// Packed in groups along the inputs, for MLX.
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
    /// In any format, for the kernels of the CPU.
    Host(HostMatrix),
}

impl Matrix {
    /// Stands in for one that the checkpoint lacks, until that is told.
    pub fn missing() -> Self {
        Self::Dense(Array::from_f32(0.0))
    }

    /// `x Wᵀ`: `[T, inputs]` to `[T, outputs]`.
    fn apply(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => Ok(x.matmul(weight.transpose()?)?),
            Self::Packed {
                weight,
                scales,
                biases,
                packing,
            } => quantized_matmul(x, weight, scales, biases.as_ref(), *packing),
            Self::Host(matrix) => {
                let matrix = matrix.clone();
                let shape = [x.shape()[0], matrix.weights.rows() as i32];
                node("linear", &[x], &shape, move |inputs, out| {
                    let product = Product {
                        matrix: &matrix.weights,
                        bias: None,
                        then: Then::Store,
                        out,
                    };
                    multiply(
                        pool::shared(),
                        floats(&inputs[0]),
                        matrix.arithmetic,
                        vec![product],
                    );
                })
            }
        }
    }
}

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The weights.
    pub matrix: Matrix,
    /// Added to the product, `[outputs]`.
    pub bias: Option<Vector>,
}

impl Linear {
    /// `[T, inputs]` to `[T, outputs]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let product = self.matrix.apply(x)?;
        match &self.bias {
            Some(bias) => Ok(product.add(bias.array())?),
            None => Ok(product),
        }
    }

    /// `to + self(x)`: the end of a residual branch. `to` is `[T, outputs]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn add_to(&self, to: &Array, x: &Array) -> Result<Array> {
        let Some((matrix, bias)) = self.host() else {
            return Ok(to.add(self.forward(x)?)?);
        };
        node("add linear", &[x, to], to.shape(), move |inputs, out| {
            let product = Product {
                matrix: &matrix.weights,
                bias: bias.as_deref(),
                then: Then::Add(floats(&inputs[1])),
                out,
            };
            multiply(
                pool::shared(),
                floats(&inputs[0]),
                matrix.arithmetic,
                vec![product],
            );
        })
    }

    /// Its parts for the kernels, where it is there for them.
    pub(super) fn host(&self) -> Option<(HostMatrix, Option<std::sync::Arc<[f32]>>)> {
        let Matrix::Host(matrix) = &self.matrix else {
            return None;
        };
        let bias = self.bias.as_ref().and_then(Vector::host).cloned();
        Some((matrix.clone(), bias))
    }
}

/// Each of `layers` applied to the same normalized rows: `x` `[T, inputs]` to `[T, outputs]` each.
///
/// # Errors
/// What MLX says.
pub fn project<const N: usize>(
    norm: &RmsNorm,
    layers: [&Linear; N],
    x: &Array,
) -> Result<[Array; N]> {
    let hosts: Option<Vec<_>> = layers.iter().map(|layer| layer.host()).collect();
    let (Some(hosts), Some(weight)) = (hosts, norm.weight.host()) else {
        let x = norm.forward(x)?;
        let outputs: Vec<Array> = layers
            .iter()
            .map(|layer| layer.forward(&x))
            .collect::<Result<_>>()?;
        return outputs.try_into().map_err(|_| miscounted());
    };
    let (weight, epsilon) = (weight.clone(), norm.epsilon);
    let shapes: Vec<[i32; 2]> = hosts
        .iter()
        .map(|(matrix, _)| [x.shape()[0], matrix.weights.rows() as i32])
        .collect();
    let outputs: Vec<Output<'_>> = shapes
        .iter()
        .map(|shape| Output::new(shape, Dtype::Float32))
        .collect();
    let results = host_op("project", &[x], &outputs, move |inputs, outputs| {
        let x = floats(&inputs[0]);
        let mut normed = vec![0.0; x.len()];
        rms_norm(pool::shared(), x, &weight, epsilon, &mut normed);
        let products = hosts
            .iter()
            .zip(outputs)
            .map(|((matrix, bias), out)| Product {
                matrix: &matrix.weights,
                bias: bias.as_deref(),
                then: Then::Store,
                out: floats_mut(out),
            });
        let arithmetic = hosts[0].0.arithmetic;
        multiply(pool::shared(), &normed, arithmetic, products.collect());
    })?;
    results.try_into().map_err(|_| miscounted())
}

fn miscounted() -> crate::Error {
    crate::Error::Mlx("a node gave another number of outputs than asked for".to_owned())
}
