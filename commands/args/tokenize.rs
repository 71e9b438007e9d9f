//! The arguments of `tokenize`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use clap_complete::ArgValueCompleter;

use super::{after_help, names, numbers};

/// What says nothing of a comparison of tokenizers.
const NOT_COMPARED: [&str; 6] = ["ids", "count", "pieces", "offsets", "bos", "jsonl"];

/// Turn text into tokens and back, count them, compare tokenizers
///
/// The text is the words given, joined by spaces, or the files, or standard input; of files and standard input every
/// byte counts, the last newline too. Text that spells a special token becomes that token, unless --special off.
///
/// Without an option for the form, each token is a line: its id, a tab, and its text as a JSON string. With several
/// files, --count prints a line for each, and their sum.
///
/// With --jsonl each line of the input is a text of its own, a JSON string or an object with `text` (with --chat, with
/// `messages`), and each is answered by one line of JSON.
#[derive(Debug, Args)]
#[command(after_help = after_help(), group = ArgGroup::new("form"), group = ArgGroup::new("task"))]
pub(crate) struct Tokenize {
    /// Words of the text
    pub(crate) words: Vec<OsString>,
    /// Read a file (repeatable)
    #[arg(short, long, value_name = "FILE", conflicts_with = "words")]
    pub(crate) file: Vec<PathBuf>,
    /// Each line of the input is a text, in JSON
    #[arg(long)]
    pub(crate) jsonl: bool,

    /// Folder or `org/name[@revision]` of the hub, of which no weights are fetched [env: `MLXR_MODEL`] [default: the
    /// built-in model]
    #[arg(short, long, help_heading = "Tokenizer", add = ArgValueCompleter::new(names::models))]
    pub(crate) model: Option<String>,
    /// Whether text may spell special tokens, and decoding shows them
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "on",
        help_heading = "Tokenizer"
    )]
    pub(crate) special: Switch,
    /// Begin with the tokens that the model's files put before a text
    #[arg(long, help_heading = "Tokenizer")]
    pub(crate) bos: bool,
    /// Who does the work: ours where it knows the vocabulary, or the library that is the reference
    #[arg(long, value_enum, default_value = "auto", help_heading = "Tokenizer")]
    pub(crate) engine: EngineChoice,

    /// Print ids alone, a line for each text
    #[arg(long, group = "form", help_heading = "Output")]
    pub(crate) ids: bool,
    /// Print how many tokens there are
    #[arg(long, group = "form", help_heading = "Output")]
    pub(crate) count: bool,
    /// Print the tokens' texts alone, as JSON strings
    #[arg(long, group = "form", help_heading = "Output")]
    pub(crate) pieces: bool,
    /// Print for each token which bytes of the text it comes from, its id and its text
    #[arg(long, group = "form", help_heading = "Output")]
    pub(crate) offsets: bool,
    /// Print one JSON object for each text
    #[arg(long, group = "form", help_heading = "Output")]
    pub(crate) json: bool,

    /// The input is ids, and what is printed is their text
    #[arg(long, group = "task", conflicts_with_all = ["form", "bos"], help_heading = "Task")]
    pub(crate) decode: bool,
    /// The input is messages in JSON, alone or in an object with `messages` and `tools`: print the tokens of each
    #[arg(
        long,
        group = "task",
        conflicts_with_all = ["offsets", "bos", "special"],
        help_heading = "Task"
    )]
    pub(crate) chat: bool,
    /// Print where another tokenizer cuts the text otherwise; the exit code is 1 if it does
    #[arg(
        long,
        group = "task",
        value_name = "MODEL",
        conflicts_with_all = NOT_COMPARED,
        help_heading = "Task"
    )]
    pub(crate) diff: Option<String>,
    /// Compare our ids with the reference's; the exit code is 1 where they differ
    #[arg(
        long,
        group = "task",
        conflicts_with_all = NOT_COMPARED,
        conflicts_with = "engine",
        help_heading = "Task"
    )]
    pub(crate) verify: bool,
    /// Print parts of the text of at most so many tokens, each as a line of JSON
    #[arg(
        long,
        group = "task",
        value_name = "TOKENS",
        value_parser = numbers::tokens,
        conflicts_with_all = ["ids", "count", "pieces", "offsets"],
        help_heading = "Task"
    )]
    pub(crate) split: Option<usize>,
    /// Tokens that a part has in common with the one before it, fewer than it has
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 0,
        requires = "split",
        help_heading = "Task"
    )]
    pub(crate) overlap: usize,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// Who turns text into ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineChoice {
    Auto,
    Reference,
}
