//! The arguments of `cache`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{ArgGroup, Args, Subcommand};

use super::after_help;

/// Look into what is kept of prompts, and remove it
#[derive(Debug, Args)]
#[command(after_help = after_help(), arg_required_else_help = true)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    Inspect(CacheInspect),
    Prune(CachePrune),
}

/// Show which prompts are kept
///
/// On a terminal, a tree for each model: [first,last) positions, tokens, size on the disk, when it was last
/// used, and what kinds of layers it is of; below each what goes on from it. Elsewhere, one line for each
/// with all values, separated by tabs, under a line of their names.
///
/// Prompts are not shown unless --text is given.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct CacheInspect {
    /// What `mlxr run --cache` keeps prompts in [default: mlxr in `XDG_CACHE_HOME` or ~/.cache]
    pub(crate) folder: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
    /// Show how the text of each begins
    #[arg(long)]
    pub(crate) text: bool,
    /// Show only those with this text, and what they go on from
    #[arg(long, value_name = "TEXT")]
    pub(crate) find: Option<String>,
    /// Hold all bytes against their digests; a damaged file is an error
    #[arg(long)]
    pub(crate) verify: bool,
}

/// Remove prompts that were not used for long, or until the others fit
///
/// Prints the removed files.
#[derive(Debug, Args)]
#[command(
    after_help = after_help(),
    group = ArgGroup::new("which").args(["unused", "to"]).required(true).multiple(true),
)]
pub(crate) struct CachePrune {
    /// What `mlxr run --cache` keeps prompts in [default: mlxr in `XDG_CACHE_HOME` or ~/.cache]
    pub(crate) folder: Option<PathBuf>,
    /// Those that nobody has used for so long: 30days, 12h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) unused: Option<Duration>,
    /// Those used longest ago, until the others take no more: 5GiB, 0B
    #[arg(long, value_name = "SIZE")]
    pub(crate) to: Option<ByteSize>,
    /// Remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
