//! Stacks of matrices whose rows alternate between two, as gpt-oss stores gates and what they gate: each gets
//! memory of its own.

use std::sync::Arc;

use super::matrices::number_of;
use super::{FLOATS, Loader};
use crate::error::Result;
use crate::kernels::matrix::{Format, Part};
use crate::mlx::{Array, Dtype, Mode, Packing, eval};
use crate::ops::linear::Matrix;

/// Bytes of 32 weights of four bits, and the block that has a scale.
const BLOCK: (usize, usize) = (16, 32);

/// Every `step`-th of some rows, from `first` on.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Picked {
    /// All rows of a matrix.
    pub(in super::super) rows: usize,
    /// The first that is taken.
    pub(in super::super) first: usize,
    /// How far the next is.
    pub(in super::super) step: usize,
}

impl Picked {
    fn indices(self) -> impl Iterator<Item = usize> + Clone {
        (self.first..self.rows).step_by(self.step)
    }

    fn array(self) -> Array {
        let indices: Vec<i32> = self.indices().map(|index| index as i32).collect();
        Array::from_slice(&indices, &[indices.len() as i32])
    }
}

impl Loader<'_> {
    /// Rows of each matrix of a stack that is stored with inputs first, `name` `[count, inputs, rows]`: as
    /// [`Loader::stack`] gives them.
    ///
    /// # Errors
    /// As [`Loader::linear`].
    pub(in super::super) fn transposed_stack(
        &self,
        name: &str,
        count: usize,
        inputs: usize,
        picked: Picked,
    ) -> Result<Matrix> {
        let shape = [count, inputs, picked.rows];
        let outputs = picked.indices().count();
        self.count(count * inputs * outputs);
        if !self.host {
            let array = self.weights.take(name, &shape, FLOATS)?;
            let rows = array
                .transpose_axes(&[0, 2, 1])?
                .take_axis(picked.array(), 1)?;
            let rows = rows.contiguous()?;
            eval([&rows])?;
            return Ok(Matrix::Dense(self.converted(rows)?));
        }
        let found = self.weights.take_host(name, &shape, FLOATS)?;
        let Some((bytes, number)) = found.and_then(|(part, dtype)| Some((part, number_of(dtype)?)))
        else {
            return Ok(Matrix::missing());
        };
        let size = number.size();
        let mut made = Vec::with_capacity(count * outputs * inputs * size);
        for matrix in bytes.chunks_exact(inputs * picked.rows * size) {
            for row in picked.indices() {
                for input in matrix.chunks_exact(picked.rows * size) {
                    made.extend_from_slice(&input[row * size..(row + 1) * size]);
                }
            }
        }
        let parts = [whole(made), Part::empty(), Part::empty()];
        self.host_matrix(
            name,
            &[count, outputs, inputs],
            Format::Dense(number),
            parts,
        )
    }

    /// Rows of each matrix of a stack in mxfp4, `prefix_blocks` `[count, rows, inputs/32, 16]` and
    /// `prefix_scales` `[count, rows, inputs/32]`: as [`Loader::stack`] gives them.
    ///
    /// # Errors
    /// As [`Loader::linear`].
    pub(in super::super) fn block_stack(
        &self,
        prefix: &str,
        count: usize,
        inputs: usize,
        picked: Picked,
    ) -> Result<Matrix> {
        let (bytes, size) = BLOCK;
        let groups = inputs / size;
        let outputs = picked.indices().count();
        self.count(count * inputs * outputs);
        let names = [format!("{prefix}_blocks"), format!("{prefix}_scales")];
        let shapes: [&[usize]; 2] = [
            &[count, picked.rows, groups, bytes],
            &[count, picked.rows, groups],
        ];
        if !self.host {
            let rows = |index: usize| -> Result<Array> {
                let array = self
                    .weights
                    .take(&names[index], shapes[index], &[Dtype::Uint8])?;
                let shape = [count as i32, picked.rows as i32, -1];
                let rows = array.reshape(&shape)?.take_axis(picked.array(), 1)?;
                let rows = rows.contiguous()?;
                eval([&rows])?;
                Ok(rows)
            };
            return Ok(Matrix::Packed {
                weight: rows(0)?.view_dtype(Dtype::Uint32)?,
                scales: rows(1)?,
                biases: None,
                packing: Packing {
                    mode: Mode::Mxfp4,
                    group_size: size as i32,
                    bits: 4,
                },
            });
        }
        let rows = |index: usize, row: usize| -> Result<Option<Part>> {
            let found = self
                .weights
                .take_host(&names[index], shapes[index], &[Dtype::Uint8])?;
            Ok(found.map(|(part, _)| {
                let mut made = Vec::with_capacity(count * outputs * row);
                for matrix in part.chunks_exact(picked.rows * row) {
                    for index in picked.indices() {
                        made.extend_from_slice(&matrix[index * row..(index + 1) * row]);
                    }
                }
                whole(made)
            }))
        };
        let (Some(codes), Some(scales)) = (rows(0, groups * bytes)?, rows(1, groups)?) else {
            return Ok(Matrix::missing());
        };
        let parts = [codes, scales, Part::empty()];
        self.host_matrix(prefix, &[count, outputs, inputs], Format::Mxfp4, parts)
    }

    /// Rows of floats, one for each of a stack: columns of `name` `[count, columns]`, `[count][picked]`.
    ///
    /// # Errors
    /// As [`crate::weights::Weights::take`].
    pub(in super::super) fn bias_stack(
        &self,
        name: &str,
        count: usize,
        picked: Picked,
    ) -> Result<BiasStack> {
        let shape = [count, picked.rows];
        self.count(count * picked.indices().count());
        if !self.host {
            let array = self
                .floats(name, &shape)?
                .take_axis(picked.array(), 1)?
                .contiguous()?;
            eval([&array])?;
            return Ok(BiasStack::Device(array));
        }
        let found = self.weights.take_host(name, &shape, FLOATS)?;
        let numbers = found.and_then(|(part, dtype)| Some(number_of(dtype)?.floats(&part)));
        let numbers = numbers.unwrap_or_default();
        let rows = numbers.chunks_exact(picked.rows);
        let rows = rows.map(|row| picked.indices().map(|index| row[index]).collect());
        Ok(BiasStack::Host(rows.collect()))
    }
}

/// Biases of a stack of layers.
#[derive(Debug)]
pub(in super::super) enum BiasStack {
    /// `[count, outputs]`, for MLX.
    Device(Array),
    /// One row for each, for the kernels.
    Host(Vec<Vec<f32>>),
}

fn whole(bytes: Vec<u8>) -> Part {
    let length = bytes.len();
    Part::new(Arc::new(bytes), 0..length).unwrap_or_else(Part::empty)
}
