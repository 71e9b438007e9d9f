//! Arrays to plain bytes, and back: state that leaves a device's memory and returns to it.

use mlx_rs::{Array, Dtype};

use super::call;
use crate::error::{Error, Result};

/// Computes an array and hands its numbers to `read` as bytes, in row-major order.
///
/// # Errors
/// What MLX says where it cannot be computed.
pub fn with_bytes<T>(array: &Array, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
    if array.size() == 0 {
        return Ok(read(&[]));
    }
    let array = array.contiguous()?;
    // One dimension, so that it is as long in bytes as it is to be.
    let array = array.reshape(&[-1])?;
    // SAFETY: all handles are valid for the call.
    let bytes = call::array(|out| unsafe {
        let dtype = Dtype::Uint8.into();
        mlx_sys::mlx_view(out, array.as_ptr(), dtype, call::stream().as_ptr())
    })?;
    bytes.eval()?;
    // SAFETY: the array is evaluated, of bytes, and alive until `read` is done.
    let pointer = unsafe { mlx_sys::mlx_array_data_uint8(bytes.as_ptr()) };
    if pointer.is_null() {
        return Err(Error::Mlx("an array cannot be read".to_owned()));
    }
    // SAFETY: as many bytes as the array has, row-major; nobody writes to it, since `bytes` holds it.
    let slice = unsafe { std::slice::from_raw_parts(pointer, bytes.size()) };
    Ok(read(slice))
}

/// An array of a copy of `bytes`, which are its numbers in row-major order.
///
/// # Errors
/// [`Error::Mlx`] where they are not as many as the shape says, or a dimension is out of range.
pub fn array_of_bytes(bytes: &[u8], shape: &[usize], dtype: Dtype) -> Result<Array> {
    let dimensions = super::mapped::dimensions(bytes, shape, dtype)?;
    let rank = dimensions.len() as i32;
    let pointer = bytes.as_ptr().cast();
    // SAFETY: the data holds exactly the shape's elements, and is copied here.
    Ok(unsafe {
        Array::from_ptr(mlx_sys::mlx_array_new_data(
            pointer,
            dimensions.as_ptr(),
            rank,
            dtype.into(),
        ))
    })
}
