//! Kernels of Apple's GPUs, which MLX compiles.

use std::ffi::CStr;

use super::super::call::{ArrayVector, check, stream};
use super::{GpuKernel, Launch};
use crate::error::{Error, Result};

/// A kernel as MLX holds it.
#[derive(Debug)]
pub(super) struct MetalKernel(mlx_sys::mlx_fast_metal_kernel);

// SAFETY: MLX changes nothing in a kernel when it is run.
unsafe impl Send for MetalKernel {}
// SAFETY: likewise.
unsafe impl Sync for MetalKernel {}

impl MetalKernel {
    pub(super) fn new(kernel: &GpuKernel) -> Result<Self> {
        let source = kernel
            .metal
            .ok_or_else(|| Error::Mlx(format!("the kernel {:?} is for CUDA alone", kernel.name)))?;
        let (inputs, outputs) = (Names::new(kernel.inputs)?, Names::new(kernel.outputs)?);
        let (name, source, header) = (kernel.name.as_ptr(), source.as_ptr(), c"".as_ptr());
        // SAFETY: all are valid for the call, which copies them.
        Ok(Self(unsafe {
            mlx_sys::mlx_fast_metal_kernel_new(
                name, inputs.0, outputs.0, source, header, true, false,
            )
        }))
    }

    pub(super) fn launch(
        &self,
        launch: &Launch<'_>,
        inputs: &ArrayVector,
        outputs: &mut ArrayVector,
    ) -> Result<()> {
        let config = Configuration::new();
        for (shape, dtype) in launch.outputs {
            let (shape, size, dtype) = (shape.as_ptr(), shape.len(), (*dtype).into());
            // SAFETY: the shape is valid for the call, which copies it.
            check(unsafe {
                mlx_sys::mlx_fast_metal_kernel_config_add_output_arg(config.0, shape, size, dtype)
            })?;
        }
        let [x, y, z] = launch.grid;
        // SAFETY: the configuration is valid.
        check(unsafe { mlx_sys::mlx_fast_metal_kernel_config_set_grid(config.0, x, y, z) })?;
        let [x, y, z] = launch.block;
        // SAFETY: likewise.
        check(unsafe {
            mlx_sys::mlx_fast_metal_kernel_config_set_thread_group(config.0, x, y, z)
        })?;
        for (name, number) in launch.constants {
            let name = name.as_ptr();
            // SAFETY: likewise, and the name is copied.
            check(unsafe {
                mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_int(config.0, name, *number)
            })?;
        }
        let (outputs, stream) = (outputs.handle_mut(), stream());
        // SAFETY: all handles are valid for the call.
        check(unsafe {
            mlx_sys::mlx_fast_metal_kernel_apply(
                outputs,
                self.0,
                inputs.handle(),
                config.0,
                stream.as_ptr(),
            )
        })
    }
}

/// How a kernel is run, freed when dropped.
struct Configuration(mlx_sys::mlx_fast_metal_kernel_config);

impl Configuration {
    fn new() -> Self {
        // SAFETY: makes an empty configuration.
        Self(unsafe { mlx_sys::mlx_fast_metal_kernel_config_new() })
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: the configuration is ours.
        unsafe { mlx_sys::mlx_fast_metal_kernel_config_free(self.0) };
    }
}

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
