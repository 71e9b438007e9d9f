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
    /// The number of the type of scales and biases, where there are some.
    pub(super) scales: Option<i32>,
    /// The kernel's way to multiply with it.
    pub(super) variant: i32,
    /// Of a weight.
    bits: i32,
}

impl Form {
    /// Inputs that a warp takes in a step: 128 bytes of weights.
    pub(super) fn span(&self) -> i32 {
        1024 / self.bits
    }

    /// Rows that a step takes at most: of float32 so many that its inputs keep two parts, which hold 16 bits.
    pub(super) fn most_rows(&self) -> i32 {
        if self.bits == 32 { 4 } else { 16 }
    }

    /// Whether so many inputs of so many rows are in a block's memory at once; as in `layout.cu`.
    pub(super) fn is_in_one_pass(&self, inputs: i32, rows: i32) -> bool {
        let (_, parts) = self.columns(rows);
        rows * parts * inputs * self.bytes_of_input() <= room(rows)
    }

    /// Bytes of a block's memory that it takes to multiply so many rows of so many inputs; as in the sources.
    pub(super) fn shared(&self, inputs: i32, rows: i32) -> i32 {
        let (columns, parts) = self.columns(rows);
        let of_step = rows * parts * self.span() * self.bytes_of_input();
        let steps = inputs / self.span();
        let passes = (steps + room(rows) / of_step - 1) / (room(rows) / of_step);
        let steps = (steps + passes - 1) / passes;
        let (ahead, sides) = if rows == 16 { (2, 1) } else { (3, 2) };
        let units = if rows >= 8 { 2 * self.in_half() } else { 2 };
        let scales = self
            .scales
            .map_or(0, |number| 2 * self.in_half() * [2, 2, 4][number as usize]);
        let ring = WARPS * ahead * (2048 + 32 * scales);
        let products = sides * WARPS * rows * 16 * 4;
        let sums = units * steps * rows * columns * 4;
        ring + products + sums + steps * of_step + rows * parts * 64
    }

    /// Groups in half a step.
    fn in_half(&self) -> i32 {
        match self.group {
            0 => 1,
            group => (self.span() / 2 / group).max(1),
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

/// Warps of a block; as in the sources.
const WARPS: i32 = 16;

/// Bytes of a block's memory that there are for inputs; as in the sources.
fn room(rows: i32) -> i32 {
    if rows == 16 { 132 * 1024 } else { 80 * 1024 }
}

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
    let made = match matrix {
        Matrix::Dense(weight) => dense(weight)?,
        Matrix::Packed {
            weight,
            scales,
            biases: Some(biases),
            packing,
        } if packing.mode == Mode::Affine && biases.dtype() == scales.dtype() => {
            let &[.., rows, words] = weight.shape() else {
                return None;
            };
            let (bits, group) = (packing.bits, packing.group_size);
            let inputs = words * 32 / bits;
            let (format, variant) = match (bits, group) {
                (4, 32) => (1, 1),
                (4, 64) => (1, 2),
                (4, 128) => (1, 3),
                (8, 32) => (2, 4),
                (8, 64) => (2, 5),
                _ => return None,
            };
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
