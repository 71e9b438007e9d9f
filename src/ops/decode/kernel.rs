//! The kernel, and how it is launched.

use crate::error::Result;
use crate::mlx::{Array, Dtype, GpuKernel, Launch, kernel_source};
use crate::ops::tensor::misplaced;

/// Threads of a block, those included that read; as in the sources. One block runs on each multiprocessor.
pub(in crate::ops) const THREADS: i32 = 640;

/// Bytes of dynamic shared memory that a block has: nearly all that there is beside what has a name.
pub(in crate::ops) const SHARED: i32 = 223 * 1024;

static DECODE_STEP: GpuKernel = GpuKernel::for_cuda(
    c"decode_step",
    &[
        c"program",
        c"sizes",
        c"tokens",
        c"positions",
        c"caches",
        c"places",
        c"scratch",
        c"barrier",
        c"after",
    ],
    &[c"logits"],
    kernel_source(concat!(
        include_str!("../float4.cu"),
        include_str!("common.cu"),
        include_str!("layout.cu"),
        include_str!("ring.cu"),
        include_str!("reader.cu"),
        include_str!("weights.cu"),
        include_str!("inputs.cu"),
        include_str!("operands.cu"),
        include_str!("mail.cu"),
        include_str!("embed.cu"),
        include_str!("route.cu"),
        include_str!("finish.cu"),
        include_str!("multiply.cu"),
        include_str!("normed.cu"),
        include_str!("turn.cu"),
        include_str!("positions.cu"),
        include_str!("tiles.cu"),
        include_str!("attend.cu"),
        include_str!("run.cu"),
        "\0"
    )),
    kernel_source(concat!(include_str!("decode.cu"), "\0")),
)
.with_shared_memory(SHARED);

/// What the kernel is compiled for, beside the number of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Constants {
    /// A bit for each variant of matrices.
    pub(super) variants: i32,
    /// The number of the type that scales have.
    pub(super) scales: i32,
    /// Of heads.
    pub(super) width: i32,
    /// Heads of queries for each head of keys.
    pub(super) ratio: i32,
    /// The number of the type that keys and values have.
    pub(super) kept: i32,
    /// Processes that compute together.
    pub(super) ranks: i32,
}

/// What the kernel takes, in its order.
pub(super) struct Inputs<'a> {
    /// int64 `[instructions, 32]`.
    pub(super) program: &'a Array,
    /// int32 `[4]`: rows, splits of attention, two zeros.
    pub(super) sizes: &'a Array,
    /// int32 `[B]`.
    pub(super) tokens: &'a Array,
    /// int32 `[B]`: how long each sequence was before its token.
    pub(super) positions: &'a Array,
    /// int64 `[B, layers, 2]`: addresses of keys and values.
    pub(super) caches: &'a Array,
    /// int32 `[B, layers, 2]`: capacity of the buffers, and the position of their first row.
    pub(super) places: &'a Array,
    /// float32, written.
    pub(super) scratch: &'a Array,
    /// uint32 `[32]`, zeros at first, written.
    pub(super) barrier: &'a Array,
    /// Any int32: what it is computed by comes first.
    pub(super) after: &'a Array,
}

/// Logits `[B, vocabulary]`, float32, not evaluated. Keys and values are written where `caches` says.
pub(super) fn launch(
    inputs: &Inputs<'_>,
    constants: Constants,
    vocabulary: i32,
    multiprocessors: i32,
) -> Result<Array> {
    let rows = inputs.tokens.shape()[0];
    let compiled = rows.cast_unsigned().next_power_of_two().cast_signed();
    let made = DECODE_STEP.launch(&Launch {
        inputs: &[
            inputs.program,
            inputs.sizes,
            inputs.tokens,
            inputs.positions,
            inputs.caches,
            inputs.places,
            inputs.scratch,
            inputs.barrier,
            inputs.after,
        ],
        outputs: &[(&[rows, vocabulary], Dtype::Float32)],
        numbers: &[],
        constants: &[
            (c"ROWS", compiled),
            (c"VARIANTS", constants.variants),
            (c"SCALES", constants.scales),
            (c"WIDTH", constants.width),
            (c"RATIO", constants.ratio),
            (c"CACHE", constants.kept),
            (c"RANKS", constants.ranks),
        ],
        grid: [multiprocessors * THREADS, 1, 1],
        block: [THREADS, 1, 1],
    })?;
    made.into_iter().next().ok_or_else(misplaced)
}
