//! Graph nodes whose work is a Rust function: how the CPU kernels join MLX's graph.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlx_rs::{Array, Dtype};
use mlx_sys::{HostOutput, HostView};

use super::call::{ArrayVector, check};
use crate::error::{Error, Result};

/// An input of a host function.
#[derive(Debug, Clone, Copy)]
pub struct Buffer<'a> {
    view: HostView,
    lifetime: PhantomData<&'a ()>,
}

/// An output of a host function: row-major, not initialised by MLX.
#[derive(Debug)]
pub struct BufferMut<'a> {
    view: HostView,
    lifetime: PhantomData<&'a mut ()>,
}

/// Element types that host functions may see as slices.
///
/// # Safety
/// `DTYPE` must be the type of `Self`'s bits.
pub unsafe trait Element: Copy {
    /// MLX's name for it.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),*) => {
        $(
            // SAFETY: one line of the table below, checked by eye.
            unsafe impl Element for $type {
                const DTYPE: Dtype = Dtype::$dtype;
            }
        )*
    };
}
elements!(u8 => Uint8, u32 => Uint32, i32 => Int32, f32 => Float32, half::f16 => Float16, half::bf16 => Bfloat16);

fn shape_of(view: &HostView) -> &[i32] {
    // SAFETY: MLX passes `ndim` sizes that live as long as the call.
    unsafe { std::slice::from_raw_parts(view.shape, view.ndim) }
}

fn size_of(view: &HostView) -> usize {
    shape_of(view)
        .iter()
        .map(|&dimension| dimension as usize)
        .product()
}

fn is_row_major(view: &HostView) -> bool {
    // SAFETY: MLX passes `ndim` strides that live as long as the call.
    let strides = unsafe { std::slice::from_raw_parts(view.strides, view.ndim) };
    let mut expected = 1;
    shape_of(view)
        .iter()
        .zip(strides)
        .rev()
        .all(|(&dimension, &stride)| {
            let fits = dimension == 1 || stride == expected;
            expected *= i64::from(dimension);
            fits
        })
}

impl<'a> Buffer<'a> {
    /// Size of each axis.
    pub fn shape(&self) -> &'a [i32] {
        // SAFETY: MLX passes `ndim` sizes that live as long as the call.
        unsafe { std::slice::from_raw_parts(self.view.shape, self.view.ndim) }
    }

    /// The elements in row-major order; `None` where they lie otherwise or are of another type.
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        if self.view.dtype != mlx_sys::mlx_dtype::from(T::DTYPE) || !is_row_major(&self.view) {
            return None;
        }
        if self.view.data.is_null() {
            return Some(&[]);
        }
        // SAFETY: type and layout were checked, and MLX keeps the buffer during the call.
        Some(unsafe { std::slice::from_raw_parts(self.view.data.cast(), size_of(&self.view)) })
    }
}

impl BufferMut<'_> {
    /// Size of each axis.
    pub fn shape(&self) -> &[i32] {
        shape_of(&self.view)
    }

    /// The elements in row-major order; `None` where they are of another type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        if self.view.dtype != mlx_sys::mlx_dtype::from(T::DTYPE) || self.view.data.is_null() {
            return None;
        }
        // SAFETY: the type was checked, and MLX made the buffer for this node alone.
        Some(unsafe { std::slice::from_raw_parts_mut(self.view.data.cast(), size_of(&self.view)) })
    }
}

type Function = Box<dyn Fn(&[Buffer<'_>], &mut [BufferMut<'_>]) + Send + Sync>;

/// A node that calls `function` when it is evaluated on the CPU; shape and type of each output
/// are given. Inputs are made row-major first. A panic in `function` is caught; the outputs then
/// hold zeros.
///
/// # Errors
/// What MLX says; [`Error::Mlx`] for a name with a zero byte.
pub fn host_op<F>(
    name: &str,
    inputs: &[&Array],
    outputs: &[(&[i32], Dtype)],
    function: F,
) -> Result<Vec<Array>>
where
    F: Fn(&[Buffer<'_>], &mut [BufferMut<'_>]) + Send + Sync + 'static,
{
    if !mlx_sys::has_native_parts() {
        return Err(Error::Mlx(
            "this library cannot call back: it was not made by mlxr's build".to_owned(),
        ));
    }
    let name = CString::new(name).map_err(|_| Error::Mlx("a name with a zero byte".to_owned()))?;
    let inputs = inputs
        .iter()
        .map(|input| input.contiguous())
        .collect::<Result<Vec<_>, _>>()?;
    let inputs = ArrayVector::new(&inputs.iter().collect::<Vec<_>>());
    let outputs: Vec<HostOutput> = outputs
        .iter()
        .map(|(shape, dtype)| HostOutput {
            shape: shape.as_ptr(),
            ndim: shape.len(),
            dtype: (*dtype).into(),
        })
        .collect();
    let function: Box<Function> = Box::new(Box::new(function));
    let mut results = ArrayVector::new(&[]);
    // SAFETY: the shapes live during the call; `function` belongs to the node, which drops it.
    check(unsafe {
        mlx_sys::mlxr_host_op(
            results.handle_mut(),
            name.as_ptr(),
            inputs.handle(),
            outputs.as_ptr(),
            outputs.len(),
            call,
            Box::into_raw(function).cast::<c_void>(),
            free,
        )
    })?;
    results.into_arrays()
}

unsafe extern "C" fn call(
    context: *mut c_void,
    inputs: *const HostView,
    input_count: usize,
    outputs: *const HostView,
    output_count: usize,
) {
    // SAFETY: the context is the box of `host_op`; MLX passes valid views for the call's duration.
    let (function, inputs, outputs) = unsafe {
        (
            &*context.cast::<Function>(),
            std::slice::from_raw_parts(inputs, input_count),
            std::slice::from_raw_parts(outputs, output_count),
        )
    };
    let ins: Vec<Buffer<'_>> = inputs
        .iter()
        .map(|&view| Buffer {
            view,
            lifetime: PhantomData,
        })
        .collect();
    let mut outs: Vec<BufferMut<'_>> = outputs
        .iter()
        .map(|&view| BufferMut {
            view,
            lifetime: PhantomData,
        })
        .collect();
    // A panic must not unwind into C++.
    if catch_unwind(AssertUnwindSafe(|| function(&ins, &mut outs))).is_err() {
        for view in outputs {
            // SAFETY: the dtype's size is a number; the buffer holds that many bytes per element.
            unsafe {
                let bytes = size_of(view) * mlx_sys::mlx_dtype_size(view.dtype);
                std::ptr::write_bytes(view.data.cast::<u8>(), 0, bytes);
            }
        }
    }
}

unsafe extern "C" fn free(context: *mut c_void) {
    // SAFETY: the context is the box of `host_op`, and its node frees it once.
    drop(unsafe { Box::from_raw(context.cast::<Function>()) });
}
