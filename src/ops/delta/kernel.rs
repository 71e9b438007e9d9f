//! The recurrence as a kernel for GPUs.

use std::ffi::CStr;

use super::GatedDelta;
use crate::error::Result;
use crate::mlx::{Array, Dtype, GpuKernel, Launch, eval, ops};

/// Threads that share a column of a state; as in the sources.
const LANES: i32 = 8;

/// Threads of a block.
const BLOCK: i32 = 128;

const fn source(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(source) => source,
        Err(_) => c"",
    }
}

static KERNEL: GpuKernel = GpuKernel::new(
    c"gated_delta_recurrence",
    &[
        c"queries", c"keys", c"values", c"decays", c"shares", c"state", c"length",
    ],
    &[c"read", c"new_state"],
    source(concat!(include_str!("recurrence.cu"), "\0")),
    source(concat!(include_str!("recurrence.metal"), "\0")),
);

/// As [`super::graph`] has it, but for where the heads are: `queries` and `keys` `[L, Hk, Dk]`, `values` `[L, Hv,
/// Dv]`, logarithms of decays and `shares` `[L, Hv]` and the state `[Hv, Dk, Dv]`, all float32, to what is read
/// `[L, Hv, Dv]` and the state then.
pub(super) fn recur(
    delta: &GatedDelta,
    [queries, keys, values, decays, shares]: [&Array; 5],
    state: &Array,
) -> Result<(Array, Array)> {
    let tokens = decays.shape()[0];
    let [key_heads, heads, key_width, width] = delta.sizes();
    let length = Array::from_slice(&[tokens], &[1]);
    let columns = BLOCK / LANES;
    let made = KERNEL.launch(&Launch {
        inputs: &[queries, keys, values, decays, shares, state, &length],
        outputs: &[
            (&[tokens, heads, width], Dtype::Float32),
            (&[heads, key_width, width], Dtype::Float32),
        ],
        constants: &[
            (c"HK", key_heads),
            (c"HV", heads),
            (c"DK", key_width),
            (c"DV", width),
        ],
        grid: [(width + columns - 1) / columns * BLOCK, heads, 1],
        block: [BLOCK, 1, 1],
    })?;
    match <[Array; 2]>::try_from(made) {
        Ok([read, state]) => Ok((read, state)),
        Err(_) => Err(super::misplaced()),
    }
}

/// Runs the kernel on one token of zeros.
///
/// # Errors
/// What the compiler, or the GPU, says.
pub(super) fn probe(delta: &GatedDelta) -> Result<()> {
    let zeros = |shape: &[i32]| ops::zeros_dtype(shape, Dtype::Float32);
    let [key_heads, heads, key_width, width] = delta.sizes();
    let keys = zeros(&[1, key_heads, key_width])?;
    let (values, numbers) = (zeros(&[1, heads, width])?, zeros(&[1, heads])?);
    let state = zeros(&[heads, key_width, width])?;
    let rows = [&keys, &keys, &values, &numbers, &numbers];
    let (read, state) = recur(delta, rows, &state)?;
    eval([&read, &state]).map_err(Into::into)
}
