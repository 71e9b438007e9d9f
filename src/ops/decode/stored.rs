//! How the kernel names what it reads: formats of matrices, types of numbers.

use crate::mlx::{Array, Dtype, Mode, item_size};
use crate::ops::linear::Matrix;

/// A matrix in a format that the kernel reads.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) form: Form,
    pub(super) rows: i32,
    pub(super) inputs: i32,
    pub(super) weight: &'a Array,
    pub(super) scales: Option<&'a Array>,
    pub(super) biases: Option<&'a Array>,
}

/// What matrices that are read together have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// 0 dense bfloat16, 1 affine of 4 bits, 2 affine of 8 bits, 6 dense float32.
    pub(super) format: i64,
    /// Weights that share a scale; 0 where there are no scales.
    pub(super) group: i32,
    /// The number of the type of scales and biases, where there are some.
    pub(super) scales: Option<i32>,
    /// The kernel's way to multiply with it.
    pub(super) variant: i32,
    /// Of a weight.
    bits: i32,
}

impl Form {
    /// Inputs that a warp takes in a step.
    pub(super) fn span(&self) -> i32 {
        512 / self.bits
    }

    /// Whether so many inputs of so many rows fit in a block's memory at once. The kernel makes up to three numbers of
    /// each, where there is room for them beside each other in what tensor cores take; as in the sources.
    pub(super) fn fits(&self, inputs: i32, rows: i32) -> bool {
        let groups = match self.group {
            0 => 1,
            group => (self.span() / group).max(1),
        };
        let columns = (8 / rows).max(1).max(groups);
        let parts = (columns / groups).min(3);
        let bytes = if self.bits == 32 { 4 } else { 2 };
        let room = if rows == 16 { 132 } else { 112 } * 1024;
        rows * parts * inputs * bytes <= room
    }
}

/// What groups' numbers of a row of a matrix must be a multiple of, in bytes: so many are fetched at once.
const FETCHED: i32 = 16;

/// The number by which the kernel knows a type.
pub(super) fn number(dtype: Dtype) -> Option<i32> {
    match dtype {
        Dtype::Bfloat16 => Some(0),
        Dtype::Float16 => Some(1),
        Dtype::Float32 => Some(2),
        _ => None,
    }
}

/// The matrix, if the kernel reads such ones.
pub(super) fn stored(matrix: &Matrix) -> Option<Stored<'_>> {
    let made = match matrix {
        Matrix::Dense(weight) => dense(weight)?,
        Matrix::Packed {
            weight,
            scales,
            biases: Some(biases),
            packing,
        } if packing.mode == Mode::Affine && biases.dtype() == scales.dtype() => {
            let &[rows, words] = weight.shape() else {
                return None;
            };
            let (bits, group) = (packing.bits, packing.group_size);
            let inputs = words * 32 / bits;
            let (format, variant) = match (bits, group) {
                (4, 32) => (1, 1),
                (4, 64) => (1, 2),
                (4, 128) => (1, 3),
                (8, 32) => (2, 4),
                (8, 64 | 128) => (2, 5),
                _ => return None,
            };
            if inputs / group * item_size(scales.dtype()) as i32 % FETCHED != 0 {
                return None;
            }
            Stored {
                form: Form {
                    format,
                    group,
                    scales: Some(number(scales.dtype())?),
                    variant,
                    bits,
                },
                rows,
                inputs,
                weight,
                scales: Some(scales),
                biases: Some(biases),
            }
        }
        Matrix::Packed { .. } | Matrix::Host(_) => return None,
    };
    (made.inputs % made.form.span() == 0).then_some(made)
}

fn dense(weight: &Array) -> Option<Stored<'_>> {
    let &[rows, inputs] = weight.shape() else {
        return None;
    };
    let (format, variant, bits) = match weight.dtype() {
        Dtype::Bfloat16 => (0, 0, 16),
        Dtype::Float32 => (6, 6, 32),
        _ => return None,
    };
    Some(Stored {
        form: Form {
            format,
            group: 0,
            scales: None,
            variant,
            bits,
        },
        rows,
        inputs,
        weight,
        scales: None,
        biases: None,
    })
}
