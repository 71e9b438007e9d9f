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
    &[c"tokens", c"for_host"],
    c"",
    kernel_source(concat!(include_str!("largest.cu"), "\0")),
);

/// Whether the token with the largest logit is chosen, whatever came before, and nothing else is asked for.
pub fn takes_largest(sampling: &Sampling) -> bool {
    let is_greedy = sampling.temperature < COLDEST && sampling.logit_bias.is_empty();
    is_greedy && !sampling.has_penalties() && sampling.logprobs.is_none()
}

/// The tokens of some rows, int32 `[B]`; -1 where logits are not finite numbers.
#[derive(Debug)]
pub struct Largest {
    /// For what is computed next.
    pub tokens: Array,
    /// The same for the host. MLX moves what the host reads, and does not wait for kernels that are queued to read it.
    pub for_host: Array,
}

/// Of each row of `logits`, float32 `[B, V]` in the memory of NVIDIA's card, the token with the largest: what
/// [`super::choose`] chooses at temperature 0 where nothing changes logits.
///
/// # Errors
/// What MLX, or the compiler, says.
pub fn largest(logits: &Array) -> Result<Largest> {
    let &[rows, size] = logits.shape() else {
        return Err(misplaced());
    };
    let made = LARGEST.launch(&Launch {
        inputs: &[logits],
        outputs: &[(&[rows], Dtype::Int32), (&[rows], Dtype::Int32)],
        numbers: &[],
        constants: &[(c"SIZE", size)],
        grid: [rows * THREADS, 1, 1],
        block: [THREADS, 1, 1],
    })?;
    match <[Array; 2]>::try_from(made) {
        Ok([tokens, for_host]) => Ok(Largest { tokens, for_host }),
        Err(_) => Err(misplaced()),
    }
}
