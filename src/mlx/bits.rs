//! Operations on the bits of integers, which `mlx-rs` does not offer.

use mlx_rs::Array;

use super::call::{array, stream};
use crate::error::Result;

/// `a ^ b`, elementwise.
///
/// # Errors
/// What MLX says of shapes and types.
pub fn bitwise_xor(a: &Array, b: &Array) -> Result<Array> {
    // SAFETY: all handles are valid for the call.
    array(|out| unsafe { mlx_sys::mlx_bitwise_xor(out, a.as_ptr(), b.as_ptr(), stream().as_ptr()) })
}

/// `a >> b`, elementwise.
///
/// # Errors
/// What MLX says of shapes and types.
pub fn right_shift(a: &Array, b: &Array) -> Result<Array> {
    // SAFETY: all handles are valid for the call.
    array(|out| unsafe { mlx_sys::mlx_right_shift(out, a.as_ptr(), b.as_ptr(), stream().as_ptr()) })
}
