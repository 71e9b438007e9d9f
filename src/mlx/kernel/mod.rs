//! Kernels for GPUs in source: for NVIDIA's compiled here and launched by MLX, for Apple's left to MLX as a whole.

mod compiler;
mod cuda;
mod files;
mod metal;

use std::ffi::CStr;
use std::sync::OnceLock;

use mlx_rs::{Array, Dtype};

use self::cuda::Compiled;
use self::metal::MetalKernel;
use super::call::{ArrayVector, value};
use super::device::computes_on_cpu;
use crate::error::{Error, Result};

pub use files::keep_kernels;

/// A kernel in both languages, or in CUDA alone. Its arrays are contiguous, row after row.
#[derive(Debug)]
pub struct GpuKernel {
    name: &'static CStr,
    inputs: &'static [&'static CStr],
    outputs: &'static [&'static CStr],
    /// Integers that come with the launch, in CUDA.
    numbers: &'static [&'static CStr],
    /// What stands before the function in CUDA.
    header: &'static CStr,
    /// The body of a function.
    cuda: &'static CStr,
    /// Likewise, where there is one.
    metal: Option<&'static CStr>,
    /// Bytes of CUDA's dynamic shared memory that a block has.
    shared_memory: i32,
    compiled: Compiled,
    of_metal: OnceLock<MetalKernel>,
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
    /// As many as it has names for.
    pub numbers: &'a [i32],
    /// Constants; for others the kernel is compiled anew.
    pub constants: &'a [(&'a CStr, i32)],
    /// Threads in all.
    pub grid: [i32; 3],
    /// Threads of a block: the same in every launch.
    pub block: [i32; 3],
}

/// Whether a GPU computes that kernels can be compiled for.
pub fn has_gpu_kernels() -> bool {
    // Does not change, and is asked for in each layer.
    static CAN_COMPILE: OnceLock<bool> = OnceLock::new();
    if computes_on_cpu() {
        return false;
    }
    // SAFETY: writes one integer.
    let gpus: Result<i32> = value(|count| unsafe {
        mlx_sys::mlx_device_count(count, mlx_sys::mlx_device_type__MLX_GPU)
    });
    let can_compile = || {
        is_metal().unwrap_or(false) || (mlx_sys::has_native_parts() && mlx_sys::nvrtc::is_there())
    };
    gpus.is_ok_and(|gpus| gpus > 0) && *CAN_COMPILE.get_or_init(can_compile)
}

/// Whether the GPU that computes is programmed in CUDA, and kernels can be compiled for it.
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
        let mut made = Self::for_cuda(name, inputs, outputs, c"", cuda);
        made.metal = Some(metal);
        made
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
            numbers: &[],
            header,
            cuda,
            metal: None,
            shared_memory: 0,
            compiled: Compiled::none(),
            of_metal: OnceLock::new(),
        }
    }

    /// The same with so many bytes of dynamic shared memory for a block, in CUDA.
    #[must_use]
    pub const fn with_shared_memory(mut self, bytes: i32) -> Self {
        self.shared_memory = bytes;
        self
    }

    /// The same with integers that come with the launch, in CUDA.
    #[must_use]
    pub const fn with_numbers(mut self, names: &'static [&'static CStr]) -> Self {
        self.numbers = names;
        self
    }

    /// The outputs, not evaluated.
    ///
    /// # Errors
    /// What the compiler says of the source, where it is compiled now, and MLX of the launch.
    pub fn launch(&self, launch: &Launch<'_>) -> Result<Vec<Array>> {
        let counts = [
            (launch.inputs.len(), self.inputs.len()),
            (launch.outputs.len(), self.outputs.len()),
            (launch.numbers.len(), self.numbers.len()),
        ];
        if counts.iter().any(|(given, named)| given != named) {
            return Err(Error::Mlx(format!("{:?} takes something else", self.name)));
        }
        let inputs = ArrayVector::of(launch.inputs)?;
        let mut outputs = ArrayVector::new();
        if is_metal()? {
            let kernel = if let Some(kernel) = self.of_metal.get() {
                kernel
            } else {
                let made = MetalKernel::new(self)?;
                self.of_metal.get_or_init(|| made)
            };
            kernel.launch(launch, &inputs, &mut outputs)?;
        } else {
            cuda::launch(self, launch, &inputs, &mut outputs)?;
        }
        outputs.into_arrays()
    }
}

#[cfg(test)]
mod tests;
