//! The arguments of `doctor`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{after_help, names};

/// Tell what there is to compute with, and what is amiss
///
/// Looks for MLX's library as a command that computes does, and at its devices, the processor, memory, caches
/// and the environment. The network is not used. What is amiss comes with a sentence on what to do about it; a
/// note is for reading, and a problem keeps mlxr from computing and leads to exit code 6.
///
/// With --parity a model answers fixed prompts instead: by the CPU in float32, which is the reference, by the CPU as it
/// usually computes, and where there is a GPU by that, with its kernel for decoding and by graphs alone. Each is led
/// along the reference's tokens. Told are the first token that is another (its number, both texts, and how much less
/// likely the reference finds it), and the largest and mean difference of the log-probabilities of the 20
/// likeliest tokens. Exit code 1 says that a token differs which the reference finds far less likely: rounding does not
/// do that.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct Doctor {
    /// Compute fixed prompts by every way there is, and tell where each first differs from float32 on the CPU
    /// [default MODEL: as of `mlxr run`]
    #[arg(
        long,
        value_name = "MODEL",
        num_args = 0..=1,
        default_missing_value = "",
        add = ArgValueCompleter::new(names::models),
    )]
    pub(crate) parity: Option<String>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}
