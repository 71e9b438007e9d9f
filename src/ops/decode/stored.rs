//! How the kernel names what it reads: formats of matrices, types of numbers.

use crate::mlx::{Array, Dtype, Mode};
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
    /// The type of scales and biases.
    pub(super) scales: i64,
    /// What the inputs must be a multiple of.
    multiple: i32,
}

/// The number by which the kernel knows a type.
pub(super) fn number(dtype: Dtype) -> Option<i64> {
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
        Matrix::Dense(weight) => {
            let &[rows, inputs] = weight.shape() else {
                return None;
            };
            let format = match weight.dtype() {
                Dtype::Bfloat16 => 0,
                Dtype::Float32 => 6,
                _ => return None,
            };
            let form = Form {
                format,
                group: 0,
                scales: 0,
                multiple: 32,
            };
            Stored {
                form,
                rows,
                inputs,
                weight,
                scales: None,
                biases: None,
            }
        }
        Matrix::Packed {
            weight,
            scales,
            biases: Some(biases),
            packing,
        } if packing.mode == Mode::Affine && biases.dtype() == scales.dtype() => {
            let &[rows, words] = weight.shape() else {
                return None;
            };
            let group = packing.group_size;
            let (format, multiple) = match packing.bits {
                4 => (1, 128),
                8 => (2, group.max(64)),
                _ => return None,
            };
            if !matches!(group, 32 | 64 | 128) {
                return None;
            }
            let form = Form {
                format,
                group,
                scales: number(scales.dtype())?,
                multiple,
            };
            Stored {
                form,
                rows,
                inputs: words * 32 / packing.bits,
                weight,
                scales: Some(scales),
                biases: Some(biases),
            }
        }
        Matrix::Packed { .. } | Matrix::Host(_) => return None,
    };
    (made.inputs % made.form.multiple == 0).then_some(made)
}
