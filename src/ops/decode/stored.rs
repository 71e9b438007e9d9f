//! How the kernel names what it reads: formats of matrices, types of numbers.

use super::kernel::SHARED;
use crate::mlx::{Array, Dtype, Mode};
use crate::ops::linear::Matrix;

/// A matrix in a format that the kernel reads.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Stored<'a> {
    pub(in crate::ops) form: Form,
    pub(in crate::ops) rows: i32,
    pub(in crate::ops) inputs: i32,
    pub(in crate::ops) weight: &'a Array,
    pub(in crate::ops) scales: Option<&'a Array>,
    pub(in crate::ops) biases: Option<&'a Array>,
}

/// What matrices that are read together have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Form {
    /// 0 dense bfloat16, 1 affine of 4 bits, 2 affine of 8 bits, 3 MXFP4, 4 NVFP4, 6 dense float32.
    pub(super) format: i64,
    /// Weights that share a scale; 0 where there are no scales.
    pub(super) group: i32,
    /// The number of the type of scales and biases, where weights are affine.
    pub(in crate::ops) scales: Option<i32>,
    /// The kernel's way to multiply with it.
    pub(in crate::ops) variant: i32,
    /// Of a weight.
    pub(super) bits: i32,
}

impl Form {
    /// Inputs that a warp takes in a step: 128 bytes of weights.
    pub(super) fn span(&self) -> i32 {
        1024 / self.bits
    }

    /// Steps of a row.
    pub(in crate::ops) fn steps(&self, inputs: i32) -> i32 {
        (inputs + self.span() - 1) / self.span()
    }

    /// In which order many rows of inputs are multiplied with; as in `operands.cu`.
    pub(super) fn order(&self) -> i64 {
        let pieces = 16 / self.in_half() / self.bits;
        let logarithms = [pieces.max(1), self.span()].map(|number| i64::from(number.ilog2()));
        logarithms[0] | i64::from(self.bits == 4) << 2 | logarithms[1] << 3
    }

    /// Whether the last step of a row ends after it.
    pub(in crate::ops) fn is_ragged(&self) -> bool {
        self.variant >= RAGGED
    }

    /// Rows that a step takes at most: of float32 so many that its inputs keep two parts, which hold 16 bits.
    pub(super) fn most_rows(&self) -> i32 {
        if self.bits == 32 { 4 } else { 16 }
    }

    /// Bytes of a step in a block's memory; as in the sources.
    pub(in crate::ops) fn slot(&self) -> i32 {
        let scales = match (self.scales, self.format) {
            (Some(number), _) => 32 * 2 * self.in_half() * [2, 2, 4][number as usize],
            (None, MXFP4) => 16 * if self.is_ragged() { 12 } else { 8 },
            (None, NVFP4) => 16 * 16,
            (None, _) => 0,
        };
        (2048 + scales + BOX - 1) / BOX * BOX
    }

    /// Steps of so many rows whose inputs are in a block's memory at once, where steps of weights there have so many bytes;
    /// as in `layout.cu`.
    pub(in crate::ops) fn room(&self, rows: i32, slot: i32) -> i32 {
        let (columns, parts) = self.columns(rows);
        let sides = if rows == 16 { 1 } else { 2 };
        let units = if rows >= 8 { 2 * self.in_half() } else { 2 };
        let ahead = match rows {
            16 => 2,
            8 => 3,
            _ if slot > 2304 => 3,
            _ => 4,
        };
        let ring = WARPS * ahead * slot;
        let products = sides * WARPS * rows * 16 * 4;
        let gaps = if rows >= 8 { 0 } else { rows * parts * 64 };
        let of_step =
            units * rows * columns * 4 + rows * parts * self.span() * self.bytes_of_input();
        (SHARED - ring - products - gaps).max(0) / of_step
    }

    /// Groups in half a step that are scaled after their products.
    fn in_half(&self) -> i32 {
        match self.scales {
            None => 1,
            Some(_) => (self.span() / 2 / self.group).max(1),
        }
    }

    /// Columns of tensor cores that belong to a row, and parts that inputs are made into.
    fn columns(&self, rows: i32) -> (i32, i32) {
        let groups = if rows >= 8 { 1 } else { self.in_half() };
        let columns = (8 / rows).max(1).max(groups);
        let wanted = if self.bits == 32 { 3 } else { 2 };
        (columns, (columns / groups).min(wanted))
    }

    fn bytes_of_input(&self) -> i32 {
        if self.bits == 32 { 4 } else { 2 }
    }
}

/// Formats whose scales are no affine ones.
const MXFP4: i64 = 3;
const NVFP4: i64 = 4;

/// What variants have more whose rows do not end with a step; as in the sources.
const RAGGED: i32 = 16;

/// What inputs are a multiple of at least, for rows of weights, and of scales of MXFP4, to lie as they are fetched.
const ALIGNED: i32 = 64;

/// Bytes that boxes are a multiple of in a block's memory.
const BOX: i32 = 128;

/// Warps of a block; as in the sources.
const WARPS: i32 = 16;

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
pub(in crate::ops) fn stored(matrix: &Matrix) -> Option<Stored<'_>> {
    let is_one = array_of(matrix)?.ndim() == 2;
    is_one.then(|| rows_of(matrix)).flatten()
}

/// One of a stack of matrices `[E, rows, inputs]`, and how many there are.
pub(super) fn stacked(matrix: &Matrix) -> Option<(Stored<'_>, i32)> {
    match *array_of(matrix)?.shape() {
        [count, _, _] => Some((rows_of(matrix)?, count)),
        _ => None,
    }
}

fn array_of(matrix: &Matrix) -> Option<&Array> {
    match matrix {
        Matrix::Dense(weight) | Matrix::Packed { weight, .. } => Some(weight),
        Matrix::Host(_) => None,
    }
}

fn rows_of(matrix: &Matrix) -> Option<Stored<'_>> {
    let mut made = match matrix {
        Matrix::Dense(weight) => dense(weight)?,
        Matrix::Packed {
            weight,
            scales,
            biases,
            packing,
        } => {
            let &[.., rows, words] = weight.shape() else {
                return None;
            };
            let (bits, group) = (packing.bits, packing.group_size);
            let (format, variant) = match (packing.mode, bits, group) {
                (Mode::Affine, 4, 32) => (1, 1),
                (Mode::Affine, 4, 64) => (1, 2),
                (Mode::Affine, 4, 128) => (1, 3),
                (Mode::Affine, 8, 32) => (2, 4),
                (Mode::Affine, 8, 64) => (2, 5),
                (Mode::Mxfp4, 4, 32) => (MXFP4, 7),
                (Mode::Nvfp4, 4, 16) => (NVFP4, 8),
                _ => return None,
            };
            let of_scales = match biases {
                Some(biases) if biases.dtype() != scales.dtype() => return None,
                Some(_) => Some(number(scales.dtype())?),
                None => None,
            };
            Stored {
                form: Form {
                    format,
                    group,
                    scales: of_scales,
                    variant,
                    bits,
                },
                rows,
                inputs: words * 32 / bits,
                weight,
                scales: Some(scales),
                biases: biases.as_ref(),
            }
        }
        Matrix::Host(_) => return None,
    };
    let span = made.form.span();
    if made.inputs % span != 0 {
        made.form.variant += RAGGED;
    }
    (made.inputs % span.min(ALIGNED) == 0).then_some(made)
}

fn dense(weight: &Array) -> Option<Stored<'_>> {
    let &[.., rows, inputs] = weight.shape() else {
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
