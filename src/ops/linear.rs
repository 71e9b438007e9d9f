//! `y = x Wᵀ + b` over dense or packed weights, with the norm before it and the sum after it.

use super::host::{HostLinear, HostMatrix};
use super::norm::RmsNorm;
use super::tensor::{Rows, Tensor, misplaced};
use super::vector::Vector;
use crate::error::Result;
use crate::kernels::linear::{Then, multiply};
use crate::kernels::pool;
use crate::mlx::{Array, Packing, quantized_matmul};

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

    /// `x Wᵀ`: `[T, inputs]` to `[T, outputs]`, by MLX.
    fn apply(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => Ok(x.matmul(weight.transpose()?)?),
            Self::Packed {
                weight,
                scales,
                biases,
                packing,
            } => quantized_matmul(x, weight, scales, biases.as_ref(), *packing),
            Self::Host(_) => Err(misplaced()),
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
    /// `[T, inputs]` to `[T, outputs]`, by MLX.
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
    pub fn add_to(&self, to: &Tensor, x: &Tensor) -> Result<Tensor> {
        let Some(layer) = self.host() else {
            return Ok(Tensor::Device(
                to.device()?.add(self.forward(x.device()?)?)?,
            ));
        };
        let (to, x) = (to.host()?, x.host()?);
        let mut out = layer.outputs(x.count());
        let products = vec![layer.product(Then::Add(&to.numbers), &mut out)];
        let arithmetic = layer.matrix.arithmetic;
        multiply(pool::shared(), &x.numbers, arithmetic, products);
        Ok(Tensor::Host(out))
    }

    /// For the kernels, where it is there for them.
    pub(super) fn host(&self) -> Option<HostLinear<'_>> {
        let Matrix::Host(matrix) = &self.matrix else {
            return None;
        };
        let bias = self.bias.as_ref().and_then(Vector::host);
        Some(HostLinear { matrix, bias })
    }
}

/// Each of `layers` applied to the same normalized rows: `x` `[T, inputs]` to `[T, outputs]` each.
///
/// # Errors
/// What MLX says.
pub fn project<const N: usize>(
    norm: &RmsNorm,
    layers: [&Linear; N],
    x: &Tensor,
) -> Result<[Tensor; N]> {
    let outputs: Vec<Tensor> = match x {
        Tensor::Device(x) => {
            let x = norm.forward(x)?;
            let outputs = layers.iter().map(|layer| layer.forward(&x));
            outputs
                .map(|output| output.map(Tensor::Device))
                .collect::<Result<_>>()?
        }
        Tensor::Host(x) => {
            let normed = norm.on_host(x)?;
            let hosts = layers.iter().filter_map(|layer| layer.host());
            let mut outputs: Vec<Rows> =
                hosts.clone().map(|host| host.outputs(x.count())).collect();
            let products = hosts.clone().zip(&mut outputs);
            let products = products.map(|(host, out)| host.product(Then::Store, out));
            let products = products.collect();
            if let Some(first) = layers.iter().find_map(|layer| layer.host()) {
                let arithmetic = first.matrix.arithmetic;
                multiply(pool::shared(), &normed.numbers, arithmetic, products);
            }
            outputs.into_iter().map(Tensor::Host).collect()
        }
    };
    outputs.try_into().map_err(|_| misplaced())
}
