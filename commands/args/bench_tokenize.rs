//! The arguments of `bench tokenize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;

use super::bench_values::{Form, Limit, Sizes};
use super::{after_help, names, numbers};

/// Measure how fast text is turned into tokens and back
///
/// Before anything is timed, the ids of our engine are compared with those of the reference, the
/// `tokenizers` library, on every text: whole, line by line and in pieces. A difference is told and
/// ends it with code 1. Where a vocabulary is left to the reference, that alone is measured.
///
/// The tests: load reads the vocabulary, with the growth of the program's memory by the first time; cold
/// encodes a text with a tokenizer that has seen none; warm encodes it again; lines, 4k and 100b
/// encode it, again and again, line by line and in pieces of 4096 and of 100 bytes; decode turns all its ids
/// into text at once; stream does so one token at a time. MB are millions of bytes.
///
/// All but load and cold have the very text before them that they saw last, and what an engine remembers of it
/// is in the figure: new text is slower than warm, and at first as slow as cold.
///
/// Both engines decode by the same code of ours, which is measured with the first one alone. The growth
/// of memory has in it what loading gave back and the program still keeps; what is kept so of the first
/// engine can make that of the second one smaller: for figures to be compared, measure each in a run of its own.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct BenchTokenize {
    /// Folder or `org/name[@revision]` of the hub, of which no weights are fetched [env: `MLXR_MODEL`] [default: the
    /// built-in model]
    #[arg(short, long, add = ArgValueCompleter::new(names::models))]
    pub(crate) model: Option<String>,
    /// Text to measure with (repeatable) [default: 1 MB of made-up prose, code and several scripts]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Engines to measure, separated by commas [default: both]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) engine: Vec<MeasuredEngine>,
    /// Threads that encode at the same time with one tokenizer, each a copy of the text; a list as in `bench`
    #[arg(long, value_name = "LIST", default_value = "1", value_parser = numbers::lists_of_threads)]
    pub(crate) threads: Sizes,
    /// Times that each test is timed
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = numbers::repetitions,
    )]
    pub(crate) repetitions: usize,

    /// Form of the results [default: a table on a terminal, else md]
    #[arg(short, long, value_enum, value_name = "FORM", help_heading = "Output")]
    pub(crate) output: Option<Form>,
    /// Print each result as a line of JSON: -o jsonl
    #[arg(long, conflicts_with = "output", help_heading = "Output")]
    pub(crate) json: bool,
    /// Compare with the results that an earlier run wrote with `--json` or `-o json`: behind a figure of the table
    /// is how many times as fast it is
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) baseline: Option<PathBuf>,
    /// End with code 1 if the median speed of a test falls so far below the baseline's: warm<-5%,
    /// 'cold mlxr FILE<-3%' (repeatable)
    #[arg(
        long,
        value_name = "LIMIT",
        requires = "baseline",
        help_heading = "Output"
    )]
    pub(crate) fail_if: Vec<Limit>,
}

/// Who turns text into ids while it is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeasuredEngine {
    Mlxr,
    Reference,
}
