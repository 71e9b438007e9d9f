//! Packed matrices and more than one row, by kernels for NVIDIA's GPUs: products with a stack of them, and unpacking one for a
//! product of dense ones.

mod few;

use std::ffi::CStr;

pub(super) use few::multiply_few;

use super::linear::Matrix;
use super::tensor::misplaced;
use crate::error::Result;
use crate::mlx::{
    Array, Dtype, GpuKernel, Launch, Mode, Packing, computes_with_cuda, kernel_source,
};

/// Rows and outputs of a tile, and threads of a block; as in the source.
const ROWS: i32 = 64;
const OUTPUTS: i32 = 128;
const THREADS: i32 = 128;

/// Inputs come by so many, of which a lane has some.
const INPUTS: i32 = 128;
const OF_A_LANE: i32 = 32;

/// Bytes of x that a block has in its memory: three times so many inputs of its rows.
const SHARED: i32 = 3 * ROWS * INPUTS * 2;

static MULTIPLY: GpuKernel = GpuKernel::for_cuda(
    c"multiply_packed",
    &[c"x", c"rows", c"weight", c"scales", c"biases", c"tiles"],
    &[c"y"],
    kernel_source(concat!(
        include_str!("../float4.cu"),
        include_str!("packed.cu"),
        "\0"
    )),
    kernel_source(concat!(include_str!("multiply.cu"), "\0")),
)
.with_numbers(&[c"outputs", c"inputs"])
.with_shared_memory(SHARED);

/// Threads of a block that unpacks, each of which has four times eight numbers; as in the source.
const UNPACKERS: i32 = 256;
const UNPACKED: i32 = 4 * UNPACKERS;

static UNPACK: GpuKernel = GpuKernel::for_cuda(
    c"unpack",
    &[c"weight", c"scales", c"biases"],
    &[c"y"],
    kernel_source(concat!(
        include_str!("../float4.cu"),
        include_str!("packed.cu"),
        "\0"
    )),
    kernel_source(concat!(include_str!("unpack.cu"), "\0")),
)
.with_numbers(&[c"count"]);

static TILES: GpuKernel = GpuKernel::for_cuda(
    c"tiles_of_sorted",
    &[c"matrices"],
    &[c"tiles"],
    c"",
    kernel_source(concat!(include_str!("tiles.cu"), "\0")),
)
.with_numbers(&[c"count"]);

/// Which rows are multiplied together.
pub(super) struct Tiles {
    /// int32 `[n, 3]`: of each the matrix, the first row and the one after the last; no row where there is nothing to do.
    table: Array,
    count: i32,
    rows: i32,
}

impl Tiles {
    /// Of rows that each have one of `count` matrices, uint32 `[rows]`, in their order.
    ///
    /// # Errors
    /// What MLX says.
    pub(super) fn of_sorted(matrices: &Array, count: i32) -> Result<Self> {
        let rows = matrices.size() as i32;
        let most = rows / ROWS + count.min(rows);
        let made = TILES.launch(&Launch {
            inputs: &[matrices],
            outputs: &[(&[most, 3], Dtype::Int32)],
            numbers: &[rows],
            constants: &[(c"MATRICES", count), (c"ROWS", ROWS)],
            grid: [512, 1, 1],
            block: [512, 1, 1],
        })?;
        Ok(Self {
            table: made.into_iter().next().ok_or_else(misplaced)?,
            count: most,
            rows,
        })
    }
}

/// Whether the kernels know all of these matrices, or those of these stacks, beside numbers of this type.
///
/// # Errors
/// What MLX says.
pub(super) fn takes(matrices: &[&Matrix], dtype: Dtype) -> Result<bool> {
    Ok(computes_with_cuda()? && matrices.iter().all(|matrix| knows(matrix, dtype)))
}

/// A packed matrix `[outputs, inputs]`, or a stack of such.
struct Packed<'a> {
    weight: &'a Array,
    scales: &'a Array,
    /// Of formats without biases the scales, which nothing is done with.
    biases: &'a Array,
    packing: Packing,
    outputs: i32,
    inputs: i32,
}

impl<'a> Packed<'a> {
    /// `None` where it is not packed.
    fn of(matrix: &'a Matrix) -> Option<Self> {
        let Matrix::Packed {
            weight,
            scales,
            biases,
            packing,
        } = matrix
        else {
            return None;
        };
        let &[.., outputs, words] = weight.shape() else {
            return None;
        };
        Some(Self {
            weight,
            scales,
            biases: biases.as_ref().unwrap_or(scales),
            packing: *packing,
            outputs,
            inputs: words * 32 / packing.bits,
        })
    }

    fn constants(&self) -> [(&'static CStr, i32); 2] {
        [
            (c"BITS", self.packing.bits),
            (c"GROUP", self.packing.group_size),
        ]
    }
}

fn knows(matrix: &Matrix, dtype: Dtype) -> bool {
    Packed::of(matrix).is_some_and(|packed| {
        let is_known = match packed.packing.mode {
            Mode::Affine => {
                matches!(packed.packing.bits, 4 | 8)
                    && matches!(dtype, Dtype::Bfloat16 | Dtype::Float16)
                    && [packed.scales, packed.biases]
                        .iter()
                        .all(|array| array.dtype() == dtype)
            }
            Mode::Mxfp4 | Mode::Nvfp4 => dtype == Dtype::Bfloat16,
            Mode::Mxfp8 => false,
        };
        is_known && packed.inputs % OF_A_LANE == 0 && packed.outputs % 2 == 0
    })
}

/// `x[rows] Wᵀ`, each row by its matrix: `x` `[T, inputs]`, `rows` int32 or uint32 `[M]`, to `[M, outputs]`.
///
/// # Errors
/// What MLX says; a matrix that the kernel does not take.
pub(super) fn multiply(x: &Array, rows: &Array, matrix: &Matrix, tiles: &Tiles) -> Result<Array> {
    let packed = Packed::of(matrix).ok_or_else(misplaced)?;
    let wide = (packed.outputs + OUTPUTS - 1) / OUTPUTS;
    let made = MULTIPLY.launch(&Launch {
        inputs: &[
            x,
            &rows.as_dtype(Dtype::Int32)?,
            packed.weight,
            packed.scales,
            packed.biases,
            &tiles.table,
        ],
        outputs: &[(&[tiles.rows, packed.outputs], x.dtype())],
        numbers: &[packed.outputs, packed.inputs],
        constants: &packed.constants(),
        grid: [wide * THREADS, tiles.count, 1],
        block: [THREADS, 1, 1],
    })?;
    made.into_iter().next().ok_or_else(misplaced)
}

/// All numbers of a matrix that [`takes`] knows, `[outputs, inputs]`, in the type that it is known beside.
///
/// # Errors
/// What MLX says; a matrix that the kernel does not take.
pub(super) fn unpack(matrix: &Matrix, dtype: Dtype) -> Result<Array> {
    let packed = Packed::of(matrix).ok_or_else(misplaced)?;
    let count = packed.outputs * (packed.inputs / 8);
    let blocks = (count + UNPACKED - 1) / UNPACKED;
    let made = UNPACK.launch(&Launch {
        inputs: &[packed.weight, packed.scales, packed.biases],
        outputs: &[(&[packed.outputs, packed.inputs], dtype)],
        numbers: &[count],
        constants: &packed.constants(),
        grid: [blocks * UNPACKERS, 1, 1],
        block: [UNPACKERS, 1, 1],
    })?;
    made.into_iter().next().ok_or_else(misplaced)
}

#[cfg(test)]
mod tests;
