//! The convolution and the recurrence as kernels for GPUs.

use super::GatedDelta;
use crate::error::Result;
use crate::mlx::{Array, Dtype, GpuKernel, Launch, eval, kernel_source, ops};

/// Threads that share a column of a state; as in the sources.
const LANES: i32 = 8;

/// Threads of a block.
const BLOCK: i32 = 128;

static RECURRENCE: GpuKernel = GpuKernel::new(
    c"gated_delta_recurrence",
    &[
        c"queries", c"keys", c"values", c"decays", c"shares", c"state", c"length",
    ],
    &[c"read", c"new_state"],
    kernel_source(concat!(include_str!("recurrence.cu"), "\0")),
    kernel_source(concat!(include_str!("recurrence.metal"), "\0")),
);

static CONVOLUTION: GpuKernel = GpuKernel::new(
    c"gated_delta_convolution",
    &[c"rows", c"taps", c"length"],
    &[c"mixed"],
    kernel_source(concat!(include_str!("convolution.cu"), "\0")),
    kernel_source(concat!(include_str!("convolution.metal"), "\0")),
);

/// The convolution of `rows` `[taps - 1 + L, channels]` and its activation, `[L, channels]`, float32.
pub(super) fn convolve(delta: &GatedDelta, rows: &Array) -> Result<Array> {
    let taps = delta.taps.array();
    let (count, channels) = (taps.shape()[0], delta.channels() as i32);
    let tokens = rows.shape()[0] - count + 1;
    let length = Array::from_slice(&[tokens], &[1]);
    let made = CONVOLUTION.launch(&Launch {
        inputs: &[rows, &taps, &length],
        outputs: &[(&[tokens, channels], Dtype::Float32)],
        numbers: &[],
        constants: &[(c"CHANNELS", channels), (c"TAPS", count)],
        grid: [(tokens * channels + BLOCK - 1) / BLOCK * BLOCK, 1, 1],
        block: [BLOCK, 1, 1],
    })?;
    made.into_iter().next().ok_or_else(super::misplaced)
}

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
    let made = RECURRENCE.launch(&Launch {
        inputs: &[queries, keys, values, decays, shares, state, &length],
        outputs: &[
            (&[tokens, heads, width], Dtype::Float32),
            (&[heads, key_width, width], Dtype::Float32),
        ],
        numbers: &[],
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

/// Runs both kernels on one token of zeros.
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
    let taps = delta.taps.array();
    if taps.ndim() != 2 {
        // They are missing, which is told of.
        return Ok(());
    }
    let mixed = convolve(delta, &zeros(taps.shape())?)?;
    eval([&read, &state, &mixed]).map_err(Into::into)
}
