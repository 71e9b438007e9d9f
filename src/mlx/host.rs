//! Graph nodes whose work is a Rust function: how the CPU kernels join MLX's graph.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use mlx_rs::{Array, Dtype};
use mlx_sys::{HostOutput, HostView};

use super::call::{ArrayVector, check};
use super::device::computes_on_cpu;
use crate::error::{Error, Result, panic_text};

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

fn byte_size(view: &HostView) -> usize {
    // SAFETY: takes a number, returns a number.
    size_of(view) * unsafe { mlx_sys::mlx_dtype_size(view.dtype) }
}

impl<'a> Buffer<'a> {
    /// Size of each axis.
    pub fn shape(&self) -> &'a [i32] {
        // SAFETY: MLX passes `ndim` sizes that live as long as the call.
        unsafe { std::slice::from_raw_parts(self.view.shape, self.view.ndim) }
    }

    /// The elements; `None` where they are of another type.
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        if self.view.dtype != mlx_sys::mlx_dtype::from(T::DTYPE) {
            return None;
        }
        if self.view.data.is_null() {
            return Some(&[]);
        }
        // SAFETY: the type was checked, and MLX keeps the buffer during the call.
        Some(unsafe { std::slice::from_raw_parts(self.view.data.cast(), size_of(&self.view)) })
    }

    /// The elements' bytes, whatever their type.
    pub fn bytes(&self) -> &'a [u8] {
        if self.view.data.is_null() {
            return &[];
        }
        // SAFETY: MLX keeps the buffer during the call.
        unsafe { std::slice::from_raw_parts(self.view.data.cast(), byte_size(&self.view)) }
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

    /// The elements' bytes, whatever their type.
    pub fn bytes(&self) -> &[u8] {
        if self.view.data.is_null() {
            return &[];
        }
        // SAFETY: MLX made the buffer for this node alone.
        unsafe { std::slice::from_raw_parts(self.view.data.cast(), byte_size(&self.view)) }
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.view.data.is_null() {
            return &mut [];
        }
        // SAFETY: MLX made the buffer for this node alone.
        unsafe { std::slice::from_raw_parts_mut(self.view.data.cast(), byte_size(&self.view)) }
    }
}

/// Whether [`host_op`] works where this process computes: on the CPU, with a library that was made by
/// this project's build.
pub fn runs_host_ops() -> bool {
    static CAN_CALL_BACK: OnceLock<bool> = OnceLock::new();
    computes_on_cpu() && *CAN_CALL_BACK.get_or_init(mlx_sys::has_native_parts)
}

type Function = Box<dyn Fn(&[Buffer<'_>], &mut [BufferMut<'_>]) + Send + Sync>;

/// One output of a host function.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    shape: &'a [i32],
    dtype: Dtype,
    takes_over: Option<usize>,
}

impl<'a> Output<'a> {
    /// A new buffer, whose elements the function writes, all of them.
    pub fn new(shape: &'a [i32], dtype: Dtype) -> Self {
        Self {
            shape,
            dtype,
            takes_over: None,
        }
    }

    /// The buffer of an input of the same size, with what is in it. Whoever still holds that input
    /// sees it change: it must not be read by what is evaluated later.
    #[must_use]
    pub fn taking_over(self, input: usize) -> Self {
        Self {
            takes_over: Some(input),
            ..self
        }
    }
}

/// What went wrong first in a host function since [`take_failure`].
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// What a host function's panic said, if one did since the last call. Whatever was evaluated in
/// between may be worthless.
///
/// # Errors
/// [`Error::Mlx`] with it.
pub fn take_failure() -> Result<()> {
    let failure = FAILURE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    failure.map_or(Ok(()), |failure| Err(Error::Mlx(failure)))
}

/// A node that calls `function` when it is evaluated on the CPU. Inputs are given in row-major
/// order. A panic in `function` is caught and kept for [`take_failure`]; the outputs then hold zeros.
///
/// # Errors
/// What MLX says; [`Error::Mlx`] for a name with a zero byte.
pub fn host_op<F>(
    name: &str,
    inputs: &[&Array],
    outputs: &[Output<'_>],
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
    let inputs = ArrayVector::new(inputs);
    let outputs: Vec<HostOutput> = outputs
        .iter()
        .map(|output| HostOutput {
            shape: output.shape.as_ptr(),
            ndim: output.shape.len(),
            dtype: output.dtype.into(),
            takes_over: output
                .takes_over
                .and_then(|input| i32::try_from(input).ok())
                .unwrap_or(-1),
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
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| function(&ins, &mut outs))) {
        let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("a kernel failed: {}", panic_text(&*panic)));
        for view in outputs {
            // SAFETY: the buffer holds that many bytes.
            unsafe { std::ptr::write_bytes(view.data.cast::<u8>(), 0, byte_size(view)) };
        }
    }
}

unsafe extern "C" fn free(context: *mut c_void) {
    // SAFETY: the context is the box of `host_op`, and its node frees it once.
    drop(unsafe { Box::from_raw(context.cast::<Function>()) });
}
