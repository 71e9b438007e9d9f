//! The only room that names `mlx-sys`: which library and device compute, memory, arrays over mapped
//! files, and the calls that `mlx-rs` does not offer. Knows nothing of models, caches or the engine.
#![expect(unsafe_code, reason = "calls to MLX's C functions")]

mod addresses;
mod bits;
mod call;
mod copied;
mod device;
mod gathered;
mod group;
mod inspect;
mod kernel;
mod mail;
mod mapped;
pub mod memory;
mod operations;
mod quantized;
mod slice;
mod tensor_map;

pub use addresses::{addresses, multiprocessors};
pub use bits::{bitwise_xor, right_shift};
pub use copied::{Staging, array_of_bytes, copy, in_device_memory, with_bytes};
pub use device::{
    Device, DeviceChoice, compute_by_graphs, computes_on_cpu, library_version, open, synchronize,
};
pub use gathered::{Stacked, gather_matmul};
pub use group::Group;
pub use inspect::{
    DeviceProperties, Library, devices, has_large_blocks, has_nvidia_driver, library,
};
pub use kernel::{
    GpuKernel, Launch, computes_with_cuda, has_gpu_kernels, keep_kernels, kernel_source,
};
pub use mail::Mail;
pub use mapped::{Bytes, MappedFile, SystemMemory, array_over, item_size};
pub use mlx_rs::{Array, Dtype, fast, ops, transforms::eval};
pub use operations::{async_eval, count_operations};
pub use quantized::{Mode, Packing, dequantize, quantize, quantized_matmul};
pub use slice::{slice, slice_update};
pub use tensor_map::{MAP_WORDS, tensor_map};

use crate::error::Error;

impl From<mlx_rs::error::Exception> for Error {
    fn from(error: mlx_rs::error::Exception) -> Self {
        Self::Mlx(without_place(error.what()))
    }
}

/// The values of an array, evaluated and converted to float32, in row-major order.
///
/// # Errors
/// What MLX says where the evaluation fails.
pub fn to_vec(array: &Array) -> crate::Result<Vec<f32>> {
    if array.size() == 0 {
        return Ok(Vec::new());
    }
    let array = array.as_dtype(Dtype::Float32)?.contiguous()?;
    array
        .to_vec_exact()
        .map_err(|error| Error::Mlx(error.to_string()))
}

/// The values of an array of 64-bit integers, evaluated, in row-major order.
///
/// # Errors
/// What MLX says where the evaluation fails, or that it is of another type.
pub fn to_words(array: &Array) -> crate::Result<Vec<i64>> {
    array
        .contiguous()?
        .to_vec_exact()
        .map_err(|error| Error::Mlx(error.to_string()))
}

/// MLX's messages end in the place of its source; users have no use for that.
fn without_place(message: &str) -> String {
    let end = message
        .rfind(" at /")
        .filter(|&at| message[at..].contains(".cpp:"));
    message[..end.unwrap_or(message.len())].to_owned()
}

/// Whether there is a GPU to test on, which is opened.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests may be told which device there is"
)]
pub(crate) fn opens_gpu() -> bool {
    let is_there = std::env::var("MLXR_TEST_DEVICE").is_ok_and(|device| device == "gpu");
    if is_there {
        open(DeviceChoice::Gpu, None).unwrap();
    } else {
        eprintln!("skipped: the kernel needs a GPU of NVIDIA (set MLXR_TEST_DEVICE=gpu)");
    }
    is_there
}

#[cfg(test)]
mod tests;
