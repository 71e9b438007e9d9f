//! Packed matrices and a few rows, by what the kernel that decodes multiplies with. MLX's own product would be compiled
//! for half a minute when a machine first meets a short prompt.

use crate::error::Result;
use crate::mlx::{
    Array, Dtype, GpuKernel, Launch, has_large_blocks, kernel_source, multiprocessors,
};
use crate::ops::decode::product::{SHARED, THREADS, stored, warps_of_a_tile};
use crate::ops::linear::Matrix;
use crate::ops::tensor::misplaced;

/// Rows that there may be. For fewer MLX reads the matrix once a row, which takes no longer (8B in 4 bits, an H100: 9.9
/// ms for 2 rows, 18.9 for 4; here 17.6 for 2, as whatever is computed for 8); more is not what the kernel that decodes
/// takes.
const FEWEST: i32 = 4;
const MOST: i32 = 16;

/// Rows of x that the kernel reads in bfloat16, at least; as in the sources.
const NARROW: i32 = 8;

/// Outputs of a tile; as in the sources.
const TILE: i32 = 16;

static MULTIPLY_FEW: GpuKernel = GpuKernel::for_cuda(
    c"multiply_few",
    &[c"x", c"weight", c"scales", c"biases"],
    &[c"y"],
    kernel_source(concat!(
        include_str!("../float4.cu"),
        include_str!("../decode/common.cu"),
        include_str!("../decode/layout.cu"),
        include_str!("../decode/ring.cu"),
        include_str!("../decode/reader.cu"),
        include_str!("../decode/weights.cu"),
        include_str!("../decode/inputs.cu"),
        include_str!("../decode/operands.cu"),
        include_str!("../decode/mail.cu"),
        include_str!("../decode/route.cu"),
        include_str!("../decode/finish.cu"),
        include_str!("../decode/multiply.cu"),
        "\0"
    )),
    kernel_source(concat!(include_str!("few.cu"), "\0")),
)
.with_numbers(&[c"outputs", c"inputs", c"rows", c"each"])
.with_shared_memory(SHARED);

/// `x Wᵀ` of some rows, `[T, inputs]` bfloat16 to `[T, outputs]`, where MLX computes with CUDA; `None` where they are too
/// many or too few, or the kernel does not know the matrix.
///
/// # Errors
/// What MLX says.
pub(in crate::ops) fn multiply_few(x: &Array, matrix: &Matrix) -> Result<Option<Array>> {
    let &[rows, _] = x.shape() else {
        return Ok(None);
    };
    let known = stored(matrix).and_then(|known| Some((known, known.scales?)));
    let (Some((known, scales)), Dtype::Bfloat16, FEWEST..=MOST) = (known, x.dtype(), rows) else {
        return Ok(None);
    };
    let (form, steps) = (known.form, known.form.steps(known.inputs));
    let compiled = if rows <= NARROW { NARROW } else { MOST };
    // Of ragged rows the kernel wants scales of whole steps, where they are affine.
    if !has_large_blocks()?
        || known.rows % TILE != 0
        || form.room(compiled, form.slot()) == 0
        || (form.is_ragged() && form.scales.is_some())
    {
        return Ok(None);
    }
    let multiprocessors = multiprocessors()?;
    let each = warps_of_a_tile(known.rows / TILE, steps, multiprocessors);
    let made = MULTIPLY_FEW.launch(&Launch {
        inputs: &[x, known.weight, scales, known.biases.unwrap_or(scales)],
        outputs: &[(&[rows, known.rows], Dtype::Float32)],
        numbers: &[known.rows, known.inputs, rows, each],
        constants: &[
            (c"ROWS", compiled),
            (c"VARIANT", form.variant),
            (c"SCALES", form.scales.unwrap_or(0)),
        ],
        grid: [multiprocessors * THREADS, 1, 1],
        block: [THREADS, 1, 1],
    })?;
    let made = made.into_iter().next().ok_or_else(misplaced)?;
    Ok(Some(made.as_dtype(x.dtype())?))
}
