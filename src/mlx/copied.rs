//! Arrays to plain bytes, and back: state that leaves a device's memory and returns to it.

use mlx_rs::{Array, Dtype};

use super::call;
use crate::error::{Error, Result};

/// Computes arrays and hands their numbers to `read` as bytes, in row-major order.
///
/// # Errors
/// What MLX says where they cannot be computed.
pub fn with_bytes<T>(arrays: &[Array], read: impl FnOnce(&[&[u8]]) -> T) -> Result<T> {
    let as_bytes = |array: &Array| -> Result<Array> {
        // One dimension, so that it is as long in bytes as it is to be.
        let row = array.contiguous()?.reshape(&[-1])?;
        // SAFETY: all handles are valid for the call.
        call::array(|out| unsafe {
            let dtype = Dtype::Uint8.into();
            mlx_sys::mlx_view(out, row.as_ptr(), dtype, call::stream().as_ptr())
        })
    };
    let arrays: Vec<Array> = arrays.iter().map(as_bytes).collect::<Result<_>>()?;
    super::eval(&arrays)?;
    let bytes = arrays.iter().map(|array| {
        if array.size() == 0 {
            return Ok(&[][..]);
        }
        // SAFETY: the array is evaluated, of bytes, and alive until `read` is done.
        let pointer = unsafe { mlx_sys::mlx_array_data_uint8(array.as_ptr()) };
        if pointer.is_null() {
            return Err(Error::Mlx("an array cannot be read".to_owned()));
        }
        // SAFETY: as many bytes as the array has, row-major; nobody writes to it, since `arrays` holds it.
        Ok(unsafe { std::slice::from_raw_parts(pointer, array.size()) })
    });
    let bytes: Vec<&[u8]> = bytes.collect::<Result<_>>()?;
    Ok(read(&bytes))
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
