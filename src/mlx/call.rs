//! Calls to C functions of MLX: a status becomes a `Result`, a handle an [`Array`].

use std::ffi::c_int;

use mlx_rs::{Array, Stream};

use crate::error::{Error, Result};

/// Turns the status of a call into an error with MLX's own message.
pub(super) fn check(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let message = mlx_sys::take_error().unwrap_or_else(|| format!("a call failed with {status}"));
    Err(Error::Mlx(super::without_place(&message)))
}

/// Runs a call that fills one array.
pub(super) fn array(call: impl FnOnce(*mut mlx_sys::mlx_array) -> c_int) -> Result<Array> {
    // SAFETY: makes an empty handle.
    let mut handle = unsafe { mlx_sys::mlx_array_new() };
    let status = call(&raw mut handle);
    // SAFETY: the handle is ours and freed by `Array`, filled or not.
    let array = unsafe { Array::from_ptr(handle) };
    check(status).map(|()| array)
}

/// Runs a call that reports a value through a pointer.
pub(super) fn value<T: Default>(call: impl FnOnce(*mut T) -> c_int) -> Result<T> {
    let mut value = T::default();
    check(call(&raw mut value))?;
    Ok(value)
}

/// The stream of the device that [`super::open`] chose.
pub(super) fn stream() -> Stream {
    Stream::thread_local_or_default()
}

/// The handle of an array, or the empty handle that mlx-c takes for "none".
pub(super) fn optional(array: Option<&Array>) -> mlx_sys::mlx_array {
    // SAFETY: the empty handle owns nothing.
    array.map_or_else(|| unsafe { mlx_sys::mlx_array_new() }, Array::as_ptr)
}

/// Integers as mlx-c takes them where they may be absent.
pub(super) fn optional_int(value: i32) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int {
        value,
        has_value: true,
    }
}

/// Vectors of arrays, freed when dropped.
pub(super) struct ArrayVector(mlx_sys::mlx_vector_array);

impl ArrayVector {
    /// None.
    pub(super) fn new() -> Self {
        // SAFETY: makes an empty vector.
        Self(unsafe { mlx_sys::mlx_vector_array_new() })
    }

    /// Of some.
    pub(super) fn of(arrays: &[&Array]) -> Result<Self> {
        let made = Self::new();
        for array in arrays {
            // SAFETY: both are valid; the vector takes a handle of its own.
            check(unsafe { mlx_sys::mlx_vector_array_append_value(made.0, array.as_ptr()) })?;
        }
        Ok(made)
    }

    pub(super) fn handle(&self) -> mlx_sys::mlx_vector_array {
        self.0
    }

    pub(super) fn handle_mut(&mut self) -> *mut mlx_sys::mlx_vector_array {
        &raw mut self.0
    }

    pub(super) fn into_arrays(self) -> Result<Vec<Array>> {
        // SAFETY: the vector is valid.
        let size = unsafe { mlx_sys::mlx_vector_array_size(self.0) };
        // SAFETY: the index is within the vector's size.
        let at = |i| array(|out| unsafe { mlx_sys::mlx_vector_array_get(out, self.0, i) });
        (0..size).map(at).collect()
    }
}

impl Drop for ArrayVector {
    fn drop(&mut self) {
        // SAFETY: the vector is ours. Freeing cannot fail in a way that we could act on.
        unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}
