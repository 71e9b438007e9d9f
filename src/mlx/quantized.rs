//! Packed weights in every mode of MLX: `mlx-rs` offers the affine one alone.

use std::ffi::CStr;
use std::fmt;

use mlx_rs::{Array, Dtype};

use super::call::{ArrayVector, array, check, optional, optional_int, stream};
use crate::error::Result;

/// How groups of weights are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Integers with a scale and a bias a group.
    Affine,
    /// 4-bit floats (E2M1) with a power of two a group of 32 (OCP MX).
    Mxfp4,
    /// 8-bit floats (E4M3) with a power of two a group of 32 (OCP MX).
    Mxfp8,
    /// 4-bit floats (E2M1) with an 8-bit float (E4M3) a group of 16.
    Nvfp4,
}

impl Mode {
    pub(super) fn c_name(self) -> &'static CStr {
        match self {
            Self::Affine => c"affine",
            Self::Mxfp4 => c"mxfp4",
            Self::Mxfp8 => c"mxfp8",
            Self::Nvfp4 => c"nvfp4",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.c_name().to_string_lossy())
    }
}

/// How one matrix is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The mode.
    pub mode: Mode,
    /// Weights that share a scale.
    pub group_size: i32,
    /// Bits of one weight.
    pub bits: i32,
}

/// `x @ dequantized(w)ᵀ`: `x` is `[.., inputs]`, `w` `[outputs, inputs·bits/32]` as uint32, `scales` and
/// `biases` `[outputs, inputs/group]`; the result is `[.., outputs]` in `x`'s type.
///
/// # Errors
/// What MLX says of shapes and types.
pub fn quantized_matmul(
    x: &Array,
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    packing: Packing,
) -> Result<Array> {
    // SAFETY: all handles are valid for the call.
    array(|out| unsafe {
        mlx_sys::mlx_quantized_matmul(
            out,
            x.as_ptr(),
            w.as_ptr(),
            scales.as_ptr(),
            optional(biases),
            true,
            optional_int(packing.group_size),
            optional_int(packing.bits),
            packing.mode.c_name().as_ptr(),
            stream().as_ptr(),
        )
    })
}

/// The weights themselves, `[.., inputs]` in `dtype`, from packed rows.
///
/// # Errors
/// What MLX says of shapes and types.
pub fn dequantize(
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    packing: Packing,
    dtype: Dtype,
) -> Result<Array> {
    let dtype = mlx_sys::mlx_optional_dtype {
        value: dtype.into(),
        has_value: true,
    };
    // SAFETY: all handles are valid for the call.
    array(|out| unsafe {
        mlx_sys::mlx_dequantize(
            out,
            w.as_ptr(),
            scales.as_ptr(),
            optional(biases),
            optional_int(packing.group_size),
            optional_int(packing.bits),
            packing.mode.c_name().as_ptr(),
            optional(None),
            dtype,
            stream().as_ptr(),
        )
    })
}

/// Packs a matrix `[outputs, inputs]`: weights, scales and, in affine mode, biases.
///
/// # Errors
/// What MLX says: the group size must divide the inputs.
pub fn quantize(w: &Array, packing: Packing) -> Result<(Array, Array, Option<Array>)> {
    let mut parts = ArrayVector::new();
    // SAFETY: all handles are valid for the call.
    check(unsafe {
        mlx_sys::mlx_quantize(
            parts.handle_mut(),
            w.as_ptr(),
            optional_int(packing.group_size),
            optional_int(packing.bits),
            packing.mode.c_name().as_ptr(),
            optional(None),
            stream().as_ptr(),
        )
    })?;
    let mut parts = parts.into_arrays()?.into_iter();
    match (parts.next(), parts.next()) {
        (Some(weights), Some(scales)) => Ok((weights, scales, parts.next())),
        _ => Err(crate::Error::Mlx(
            "packing gave fewer than two arrays".to_owned(),
        )),
    }
}
