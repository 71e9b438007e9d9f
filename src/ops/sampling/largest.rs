//! The greedy choice of many rows by one kernel.

use crate::error::Result;
use crate::kernels::sampling::COLDEST;
use crate::mlx::{Array, Dtype, GpuKernel, Launch, kernel_source};
use crate::ops::tensor::misplaced;
use crate::sample::Sampling;

/// Threads of a block; as in the source.
const THREADS: i32 = 1024;

static LARGEST: GpuKernel = GpuKernel::for_cuda(
    c"largest",
    &[c"logits"],
    &[c"tokens"],
    c"",
    kernel_source(concat!(include_str!("largest.cu"), "\0")),
);

/// Whether the token with the largest logit is chosen, whatever came before, and nothing else is asked for.
pub fn takes_largest(sampling: &Sampling) -> bool {
    let is_greedy = sampling.temperature < COLDEST && sampling.logit_bias.is_empty();
    is_greedy && !sampling.has_penalties() && sampling.logprobs.is_none()
}

/// Of each row of `logits`, float32 `[B, V]` in the memory of NVIDIA's card, the token with the largest, int32 `[B]`;
/// -1 where they are not finite numbers. What [`super::choose`] chooses at temperature 0 where nothing changes logits.
///
/// # Errors
/// What MLX, or the compiler, says.
pub fn largest(logits: &Array) -> Result<Array> {
    let &[rows, size] = logits.shape() else {
        return Err(misplaced());
    };
    let made = LARGEST.launch(&Launch {
        inputs: &[logits],
        outputs: &[(&[rows], Dtype::Int32)],
        constants: &[(c"SIZE", size)],
        grid: [rows * THREADS, 1, 1],
        block: [THREADS, 1, 1],
    })?;
    made.into_iter().next().ok_or_else(misplaced)
}
