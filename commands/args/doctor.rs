//! The arguments of `doctor`.

use clap::Args;

use super::after_help;

/// Tell what there is to compute with, and what is amiss
///
/// Looks for MLX's library as a command that computes does, and at its devices, the processor, memory, caches
/// and the environment. The network is not used. What is amiss comes with a sentence on what to do about it; a
/// note is for reading, and a problem keeps mlxr from computing and leads to exit code 6.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct Doctor {
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}
