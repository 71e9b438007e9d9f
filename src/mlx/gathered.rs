//! Products with chosen matrices of a stack, dense or packed in every mode of MLX.

use mlx_rs::{Array, ops};

use super::call::{array, optional, optional_int, stream};
use super::quantized::Packing;
use crate::error::Result;

/// Matrices of one shape, `[E, outputs, inputs]`.
#[derive(Debug, Clone, Copy)]
pub enum Stacked<'a> {
    /// All elements.
    Dense(&'a Array),
    /// Packed in groups along the inputs.
    Packed {
        /// `[E, outputs, inputs·bits/32]`, uint32.
        weight: &'a Array,
        /// `[E, outputs, inputs/group]`
        scales: &'a Array,
        /// `[E, outputs, inputs/group]`, in affine mode.
        biases: Option<&'a Array>,
        /// Mode, group size and bits.
        packing: Packing,
    },
}

/// `x @ W[experts]ᵀ`: `x` is `[.., M, inputs]`, `experts` uint32 of a shape that the leading axes of `x`
/// broadcast with; the result is `[.., M, outputs]`. `sorted` promises that `experts` are in order.
///
/// # Errors
/// What MLX says of shapes and types.
pub fn gather_matmul(
    x: &Array,
    stacked: &Stacked<'_>,
    experts: &Array,
    sorted: bool,
) -> Result<Array> {
    match stacked {
        Stacked::Dense(weight) => {
            let transposed = weight.swap_axes(-1, -2)?;
            // Told of the order, MLX gives wrong sums with CUDA (0.32.2), of dense matrices alone.
            Ok(ops::gather_mm(x, &transposed, None, experts, false)?)
        }
        Stacked::Packed {
            weight,
            scales,
            biases,
            packing,
        } => {
            // SAFETY: all handles are valid for the call.
            array(|out| unsafe {
                mlx_sys::mlx_gather_qmm(
                    out,
                    x.as_ptr(),
                    weight.as_ptr(),
                    scales.as_ptr(),
                    optional(*biases),
                    optional(None),
                    experts.as_ptr(),
                    true,
                    optional_int(packing.group_size),
                    optional_int(packing.bits),
                    packing.mode.c_name().as_ptr(),
                    sorted,
                    stream().as_ptr(),
                )
            })
        }
    }
}
