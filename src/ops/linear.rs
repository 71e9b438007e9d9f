//! `y = x Wᵀ + b` over dense or packed weights, with the norm before it and the sum after it.

use std::ops::Range;
use std::sync::Arc;

use super::host::{HostLinear, HostMatrix};
use super::norm::RmsNorm;
use super::packed;
use super::tensor::{Rows, Tensor, misplaced};
use super::vector::Vector;
use crate::error::{Error, Result};
use crate::kernels::linear::{Arithmetic, Then, multiply};
use crate::kernels::matrix::Matrix as HostWeights;
use crate::kernels::pool;
use crate::mlx::{
    Array, Group, Packing, Stacked, computes_with_cuda, dequantize, eval, ops, quantized_matmul,
    slice,
};

/// Rows from which on a packed matrix is unpacked for them, and multiplied with by the library for dense ones, where MLX
/// computes with CUDA: its own product of packed weights does not keep up with many rows, and takes half a minute to be
/// compiled from 8 on when a machine first meets them.
const UNPACKED_ROWS: i32 = 8;

/// The same where none of our kernels unpacks it.
const DEQUANTIZED_ROWS: i32 = 32;

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

    /// One of `count` equal parts of the rows, for the kernels; `None` where it is not there for them.
    pub fn host_part(&self, index: usize, count: usize) -> Option<HostWeights> {
        let Self::Host(matrix) = self else {
            return None;
        };
        let rows = matrix.weights.rows() / count;
        matrix.weights.part(index * rows..(index + 1) * rows)
    }

    /// Some rows of each of a stack `[E, outputs, inputs]`, for MLX.
    ///
    /// # Errors
    /// What MLX says.
    pub fn stack_rows(&self, rows: Range<usize>) -> Result<Self> {
        let rows = rows.start as i32..rows.end as i32;
        self.each_array(|arrays| slice(arrays[0], 1, rows.clone()), &[self])
    }

    /// Some of the outputs.
    ///
    /// # Errors
    /// What MLX says.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        if let Self::Host(matrix) = self {
            return matrix.with(matrix.weights.part(rows));
        }
        let rows = rows.start as i32..rows.end as i32;
        self.each_array(
            |arrays| slice(arrays[0], arrays[0].ndim() - 2, rows.clone()),
            &[self],
        )
    }

    /// Some of the inputs.
    ///
    /// # Errors
    /// [`Error::Ranks`] where they are not whole groups of a packed matrix, or what MLX says.
    pub fn columns(&self, columns: Range<usize>) -> Result<Self> {
        let group = match self {
            Self::Dense(_) => 1,
            Self::Packed { packing, .. } => packing.group_size as usize,
            Self::Host(matrix) => matrix.weights.format().group(),
        };
        if !columns.start.is_multiple_of(group) || !columns.end.is_multiple_of(group) {
            return Err(Error::Ranks(format!(
                "inputs {} to {} are not whole groups of {group}",
                columns.start, columns.end
            )));
        }
        if let Self::Host(matrix) = self {
            return matrix.with(matrix.weights.columns_part(columns));
        }
        let inputs = self.inputs();
        let part = |arrays: &[&Array]| {
            let array = arrays[0];
            // Of words and of scales there are fewer, in proportion.
            let size = array.dim(-1) as usize;
            let place = |column: usize| (column * size / inputs) as i32;
            slice(
                array,
                array.ndim() - 1,
                place(columns.start)..place(columns.end),
            )
        };
        self.each_array(part, &[self])
    }

    /// How many inputs it has.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.dim(-1) as usize,
            Self::Packed {
                weight, packing, ..
            } => weight.dim(-1) as usize * 32 / packing.bits as usize,
            Self::Host(matrix) => matrix.weights.columns(),
        }
    }

    /// A stack `[E, outputs, inputs]` of matrices that are packed alike, for MLX.
    ///
    /// # Errors
    /// What MLX says.
    pub fn stack_of(matrices: &[&Self]) -> Result<Self> {
        match matrices {
            [first, ..] => first.each_array(|arrays| Ok(ops::stack(arrays, 0)?), matrices),
            [] => Ok(Self::missing()),
        }
    }

    /// The same kind of matrix, of arrays that are made of those of `sources`, and evaluated: they must
    /// not keep what they are made of.
    fn each_array(
        &self,
        make: impl Fn(&[&Array]) -> Result<Array>,
        sources: &[&Self],
    ) -> Result<Self> {
        let made = |get: fn(&Self) -> Option<&Array>| -> Result<Option<Array>> {
            let arrays: Option<Vec<&Array>> = sources.iter().map(|source| get(source)).collect();
            let Some(arrays) = arrays else {
                return Ok(None);
            };
            let array = make(&arrays)?.contiguous()?;
            eval([&array])?;
            Ok(Some(array))
        };
        let weight = made(|source| match source {
            Self::Dense(weight) | Self::Packed { weight, .. } => Some(weight),
            Self::Host(_) => None,
        })?;
        let scales = made(|source| match source {
            Self::Packed { scales, .. } => Some(scales),
            _ => None,
        })?;
        let biases = made(|source| match source {
            Self::Packed { biases, .. } => biases.as_ref(),
            _ => None,
        })?;
        match (self, weight, scales) {
            (Self::Dense(_), Some(weight), _) => Ok(Self::Dense(weight)),
            (Self::Packed { packing, .. }, Some(weight), Some(scales)) => Ok(Self::Packed {
                weight,
                scales,
                biases,
                packing: *packing,
            }),
            _ => Err(misplaced()),
        }
    }

    /// A stack of matrices as MLX's gathered products take it.
    pub(super) fn stacked(&self) -> Result<Stacked<'_>> {
        match self {
            Self::Dense(weight) => Ok(Stacked::Dense(weight)),
            Self::Packed {
                weight,
                scales,
                biases,
                packing,
            } => Ok(Stacked::Packed {
                weight,
                scales,
                biases: biases.as_ref(),
                packing: *packing,
            }),
            Self::Host(_) => Err(misplaced()),
        }
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
            } => {
                let (biases, rows) = (biases.as_ref(), x.shape()[0]);
                if rows == 1 || !computes_with_cuda()? {
                    return quantized_matmul(x, weight, scales, biases, *packing);
                }
                if let Some(product) = packed::multiply_few(x, self)? {
                    return Ok(product);
                }
                let dense = if rows >= UNPACKED_ROWS && packed::takes(&[self], x.dtype())? {
                    packed::unpack(self, x.dtype())?
                } else if rows >= DEQUANTIZED_ROWS {
                    dequantize(weight, scales, biases, *packing, x.dtype())?
                } else {
                    return quantized_matmul(x, weight, scales, biases, *packing);
                };
                Ok(x.matmul(dense.transpose()?)?)
            }
            Self::Host(_) => Err(misplaced()),
        }
    }
}

impl HostMatrix {
    /// The same with other weights, which are there.
    fn with(&self, weights: Option<HostWeights>) -> Result<Matrix> {
        Ok(Matrix::Host(Self {
            weights: Arc::new(weights.ok_or_else(misplaced)?),
            arithmetic: self.arithmetic,
        }))
    }
}

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The weights.
    pub matrix: Matrix,
    /// Added to the product, `[outputs]`.
    pub bias: Option<Vector>,
    /// Each of these processes has some of the inputs, and outputs are the sums of what all make of theirs.
    pub group: Option<Arc<Group>>,
}

impl Linear {
    /// `[T, inputs]` to `[T, outputs]`, by MLX.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let mut product = self.matrix.apply(x)?;
        if let Some(bias) = &self.bias {
            product = product.add(bias.array())?;
        }
        match &self.group {
            Some(group) => group.sum(&product),
            None => Ok(product),
        }
    }

    /// `[T, inputs]` to `[T, outputs]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let Some(layer) = self.host() else {
            return Ok(Tensor::Device(self.forward(x.device()?)?));
        };
        let x = x.host()?;
        let mut out = layer.outputs(x.count());
        let products = vec![layer.product(Then::Store, &mut out)];
        multiply(
            pool::shared(),
            &x.numbers,
            layer.matrix.arithmetic,
            products,
        );
        match &self.group {
            Some(group) => Tensor::Host(out).summed(group),
            None => Ok(Tensor::Host(out)),
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
        if self.group.is_some() {
            return to.plus(&self.apply(x)?);
        }
        let (to, x) = (to.host()?, x.host()?);
        let mut out = layer.outputs(x.count());
        let products = vec![layer.product(Then::Add(&to.numbers), &mut out)];
        let arithmetic = layer.matrix.arithmetic;
        multiply(pool::shared(), &x.numbers, arithmetic, products);
        Ok(Tensor::Host(out))
    }

    /// What one of several processes computes of it that each have some of the outputs: rows of the matrix.
    ///
    /// # Errors
    /// What MLX says.
    pub fn outputs(&self, rows: Range<usize>) -> Result<Self> {
        Ok(Self {
            matrix: self.matrix.rows(rows.clone())?,
            bias: self.bias.as_ref().map(|bias| bias.part(rows)).transpose()?,
            group: None,
        })
    }

    /// What one of a group computes of it, each of which has some of the inputs: columns of the matrix.
    ///
    /// # Errors
    /// What MLX says.
    pub fn inputs(&self, columns: Range<usize>, group: &Arc<Group>) -> Result<Self> {
        Ok(Self {
            matrix: self.matrix.columns(columns)?,
            // Once among all.
            bias: self.bias.clone().filter(|_| group.rank() == 0),
            group: Some(Arc::clone(group)),
        })
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
            let products = hosts.clone().zip(&mut outputs).map(|(host, out)| {
                let arithmetic = host.matrix.arithmetic;
                (arithmetic, host.product(Then::Store, out))
            });
            let (int8, exact): (Vec<_>, Vec<_>) =
                products.partition(|(arithmetic, _)| *arithmetic == Arithmetic::Int8);
            for (arithmetic, products) in [(Arithmetic::Int8, int8), (Arithmetic::Float32, exact)] {
                let products: Vec<_> = products.into_iter().map(|(_, product)| product).collect();
                if !products.is_empty() {
                    multiply(pool::shared(), &normed.numbers, arithmetic, products);
                }
            }
            outputs.into_iter().map(Tensor::Host).collect()
        }
    };
    outputs.try_into().map_err(|_| misplaced())
}
