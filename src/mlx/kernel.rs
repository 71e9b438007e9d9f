//! Kernels for GPUs in source, which MLX compiles when they are first used: CUDA where it has an NVIDIA GPU,
//! Metal where it has Apple's.

use std::ffi::CStr;
use std::sync::OnceLock;

use mlx_rs::{Array, Dtype};

use super::call::{ArrayVector, check, stream, value};
use super::device::computes_on_cpu;
use crate::error::{Error, Result};

/// A kernel in both languages, or in CUDA alone. Its arrays are contiguous, row after row.
#[derive(Debug)]
pub struct GpuKernel {
    name: &'static CStr,
    inputs: &'static [&'static CStr],
    outputs: &'static [&'static CStr],
    /// What stands before the function in CUDA.
    header: &'static CStr,
    /// The body of a function.
    cuda: &'static CStr,
    /// Likewise, where there is one.
    metal: Option<&'static CStr>,
    /// Bytes of CUDA's dynamic shared memory that a block has.
    shared_memory: i32,
    made: OnceLock<Made>,
}

/// A kernel's source, of text that ends in a zero.
pub const fn kernel_source(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(source) => source,
        Err(_) => c"",
    }
}

/// How a kernel is run.
#[derive(Debug)]
pub struct Launch<'a> {
    /// As many as it has names for.
    pub inputs: &'a [&'a Array],
    /// Shape and type of each.
    pub outputs: &'a [(&'a [i32], Dtype)],
    /// Constants; for others the kernel is compiled anew.
    pub constants: &'a [(&'a CStr, i32)],
    /// Threads in all.
    pub grid: [i32; 3],
    /// Threads of a block.
    pub block: [i32; 3],
}

/// A kernel as MLX holds it.
#[derive(Debug)]
enum Made {
    Cuda(mlx_sys::mlx_fast_cuda_kernel),
    Metal(mlx_sys::mlx_fast_metal_kernel),
}

// SAFETY: MLX changes nothing in a kernel when it is run.
unsafe impl Send for Made {}
// SAFETY: likewise.
unsafe impl Sync for Made {}

/// Names for mlx-c, freed when dropped.
struct Names(mlx_sys::mlx_vector_string);

impl Names {
    fn new(names: &[&CStr]) -> Result<Self> {
        // SAFETY: makes an empty vector.
        let made = Self(unsafe { mlx_sys::mlx_vector_string_new() });
        for name in names {
            // SAFETY: both are valid; the name is copied.
            check(unsafe { mlx_sys::mlx_vector_string_append_value(made.0, name.as_ptr()) })?;
        }
        Ok(made)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: the vector is ours. Freeing cannot fail in a way that we could act on.
        unsafe { mlx_sys::mlx_vector_string_free(self.0) };
    }
}

/// Whether a GPU computes, which kernels can be compiled for.
pub fn has_gpu_kernels() -> bool {
    if computes_on_cpu() {
        return false;
    }
    // SAFETY: writes one integer.
    let gpus: Result<i32> = value(|count| unsafe {
        mlx_sys::mlx_device_count(count, mlx_sys::mlx_device_type__MLX_GPU)
    });
    gpus.is_ok_and(|gpus| gpus > 0)
}

/// Whether the GPU that computes is programmed in CUDA.
///
/// # Errors
/// What MLX says.
pub fn computes_with_cuda() -> Result<bool> {
    Ok(has_gpu_kernels() && !is_metal()?)
}

pub(super) fn is_metal() -> Result<bool> {
    // SAFETY: writes one flag.
    value(|available| unsafe { mlx_sys::mlx_metal_is_available(available) })
}

impl GpuKernel {
    /// A kernel by this name, whose sources name its inputs and outputs so.
    pub const fn new(
        name: &'static CStr,
        inputs: &'static [&'static CStr],
        outputs: &'static [&'static CStr],
        cuda: &'static CStr,
        metal: &'static CStr,
    ) -> Self {
        Self {
            name,
            inputs,
            outputs,
            header: c"",
            cuda,
            metal: Some(metal),
            shared_memory: 0,
            made: OnceLock::new(),
        }
    }

    /// A kernel for CUDA alone, with functions that its body calls.
    pub const fn for_cuda(
        name: &'static CStr,
        inputs: &'static [&'static CStr],
        outputs: &'static [&'static CStr],
        header: &'static CStr,
        cuda: &'static CStr,
    ) -> Self {
        Self {
            name,
            inputs,
            outputs,
            header,
            cuda,
            metal: None,
            shared_memory: 0,
            made: OnceLock::new(),
        }
    }

    /// The same with so many bytes of dynamic shared memory for a block, in CUDA.
    #[must_use]
    pub const fn with_shared_memory(mut self, bytes: i32) -> Self {
        self.shared_memory = bytes;
        self
    }

    fn made(&self) -> Result<&Made> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let (inputs, outputs) = (Names::new(self.inputs)?, Names::new(self.outputs)?);
        let name = self.name.as_ptr();
        let made = if is_metal()? {
            let metal = self.metal.ok_or_else(|| {
                Error::Mlx(format!("the kernel {:?} is for CUDA alone", self.name))
            })?;
            let (source, header) = (metal.as_ptr(), c"".as_ptr());
            // SAFETY: all are valid for the call, which copies them.
            Made::Metal(unsafe {
                mlx_sys::mlx_fast_metal_kernel_new(
                    name, inputs.0, outputs.0, source, header, true, false,
                )
            })
        } else {
            let (source, header) = (self.cuda.as_ptr(), self.header.as_ptr());
            let shared = self.shared_memory;
            // SAFETY: likewise.
            Made::Cuda(unsafe {
                mlx_sys::mlx_fast_cuda_kernel_new(
                    name, inputs.0, outputs.0, source, header, true, shared,
                )
            })
        };
        Ok(self.made.get_or_init(|| made))
    }

    /// The outputs, not evaluated: what the compiler says of the source is told then.
    ///
    /// # Errors
    /// What MLX says of the launch.
    pub fn launch(&self, launch: &Launch<'_>) -> Result<Vec<Array>> {
        if launch.inputs.len() != self.inputs.len() || launch.outputs.len() != self.outputs.len() {
            return Err(Error::Mlx(format!("{:?} has other arrays", self.name)));
        }
        let inputs = ArrayVector::of(launch.inputs)?;
        let mut outputs = ArrayVector::new();
        match self.made()? {
            Made::Cuda(kernel) => cuda(*kernel, launch, &inputs, &mut outputs)?,
            Made::Metal(kernel) => metal(*kernel, launch, &inputs, &mut outputs)?,
        }
        outputs.into_arrays()
    }
}

/// The two functions differ in their prefix alone.
macro_rules! apply {
    (
        $name:ident, $kernel:ty, $new:ident, $output:ident, $grid:ident, $group:ident, $int:ident, $apply:ident,
        $free:ident
    ) => {
        fn $name(
            kernel: $kernel,
            launch: &Launch<'_>,
            inputs: &ArrayVector,
            outputs: &mut ArrayVector,
        ) -> Result<()> {
            // SAFETY: makes an empty configuration, freed below.
            let config = unsafe { mlx_sys::$new() };
            let mut run = || -> Result<()> {
                for (shape, dtype) in launch.outputs {
                    let (shape, size) = (shape.as_ptr(), shape.len());
                    // SAFETY: the shape is valid for the call, which copies it.
                    check(unsafe { mlx_sys::$output(config, shape, size, (*dtype).into()) })?;
                }
                let [x, y, z] = launch.grid;
                // SAFETY: the configuration is valid.
                check(unsafe { mlx_sys::$grid(config, x, y, z) })?;
                let [x, y, z] = launch.block;
                // SAFETY: likewise.
                check(unsafe { mlx_sys::$group(config, x, y, z) })?;
                for (name, number) in launch.constants {
                    // SAFETY: likewise, and the name is copied.
                    check(unsafe { mlx_sys::$int(config, name.as_ptr(), *number) })?;
                }
                let outputs = outputs.handle_mut();
                // SAFETY: all handles are valid for the call.
                check(unsafe {
                    mlx_sys::$apply(outputs, kernel, inputs.handle(), config, stream().as_ptr())
                })
            };
            let outcome = run();
            // SAFETY: the configuration is ours.
            unsafe { mlx_sys::$free(config) };
            outcome
        }
    };
}

apply!(
    cuda,
    mlx_sys::mlx_fast_cuda_kernel,
    mlx_fast_cuda_kernel_config_new,
    mlx_fast_cuda_kernel_config_add_output_arg,
    mlx_fast_cuda_kernel_config_set_grid,
    mlx_fast_cuda_kernel_config_set_thread_group,
    mlx_fast_cuda_kernel_config_add_template_arg_int,
    mlx_fast_cuda_kernel_apply,
    mlx_fast_cuda_kernel_config_free
);

apply!(
    metal,
    mlx_sys::mlx_fast_metal_kernel,
    mlx_fast_metal_kernel_config_new,
    mlx_fast_metal_kernel_config_add_output_arg,
    mlx_fast_metal_kernel_config_set_grid,
    mlx_fast_metal_kernel_config_set_thread_group,
    mlx_fast_metal_kernel_config_add_template_arg_int,
    mlx_fast_metal_kernel_apply,
    mlx_fast_metal_kernel_config_free
);
