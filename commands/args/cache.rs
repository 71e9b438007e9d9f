//! The arguments of `cache`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{ArgGroup, Args, Subcommand};
use clap_complete::ArgValueCompleter;

use super::{BudgetArgs, FramingArgs, KeptArgs, ModelArgs, after_help, names};

/// Look into what is kept of models and prompts, add to it and remove it
#[derive(Debug, Args)]
#[command(after_help = after_help(), arg_required_else_help = true)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    Ls(CacheLs),
    Inspect(CacheInspect),
    Warm(Box<CacheWarm>),
    Explain(Box<CacheExplain>),
    Rm(CacheRm),
    Prune(CachePrune),
}

/// List downloaded models and kept prompts, with their sizes
///
/// On a terminal, a table. Elsewhere, one line for each with all values, separated by tabs, under a line of
/// their names. Each has a name that `mlxr cache rm` takes.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct CacheLs {
    /// The folder that `mlxr run --cache=DIR` keeps prompts in [default: mlxr in `XDG_CACHE_HOME` or ~/.cache]
    pub(crate) folder: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compute a prompt and keep it, for later ones that begin alike
///
/// What is put around a prompt must be the same as later, the system message above all. Prints nothing but
/// what it took, on standard error.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct CacheWarm {
    /// Words of the prompt; `-` as the first reads standard input even from a terminal
    pub(crate) prompt: Vec<OsString>,

    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    #[command(flatten)]
    pub(crate) framing: FramingArgs,
    /// Print a JSON array with one object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Compute two prompts, and tell what the second takes over from the first
///
/// Tells how many tokens are the same, the first that is not, with its text and the message that it is in,
/// and what the second prompt found: tokens that match, that were restored, that had to be evaluated, and why.
///
/// A file is the text of a prompt, or a JSON object with `prompt` or `messages`, as a line for `mlxr run --jsonl`.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct CacheExplain {
    /// File with the earlier prompt
    pub(crate) first: PathBuf,
    /// File with the later one
    pub(crate) second: PathBuf,

    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    #[command(flatten)]
    pub(crate) framing: FramingArgs,
    /// Print a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Remove models or prompts by name
///
/// A name is that of a model (`org/name`) or of all prompts of a model, as `mlxr cache ls` lists them, or that of
/// one prompt: its file without the ending, as `mlxr cache inspect` lists it. With a prompt go those that go on
/// from it. Asks before it removes. Prints what it removed.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct CacheRm {
    /// What is to go
    #[arg(required = true, value_name = "ID", add = ArgValueCompleter::new(names::cached_models))]
    pub(crate) ids: Vec<String>,
    /// The folder that `mlxr run --cache=DIR` keeps prompts in [default: mlxr in `XDG_CACHE_HOME` or ~/.cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Show which prompts are kept
///
/// On a terminal, a tree for each model: [first,last) positions, tokens, size on the disk, when it was last
/// used, and what kinds of layers it is of; below each what goes on from it. Elsewhere, one line for each
/// with all values, separated by tabs, under a line of their names.
///
/// Of a server, what it holds in memory: what is in sequences, copied out, with the host or on the disk.
///
/// Prompts are not shown unless --text is given.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct CacheInspect {
    /// The folder that `mlxr run --cache=DIR` keeps prompts in, or the URL of a server [default: mlxr in
    /// `XDG_CACHE_HOME` or ~/.cache]
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
    /// The folder that `mlxr run --cache=DIR` keeps prompts in [default: mlxr in `XDG_CACHE_HOME` or ~/.cache]
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
