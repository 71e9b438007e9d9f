//! The arguments as they are typed; what they lead to is not known here.

mod bench;
mod bench_tokenize;
mod bench_values;
mod cache;
mod constraint;
mod doctor;
mod framing;
mod model;
mod names;
mod numbers;
mod quantize;
mod sampling;
mod serve;
mod tokenize;

use std::ffi::OsString;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Verbosity;
pub(crate) use bench::{Bench, BenchCache, BenchCommand, BenchStart, SubjectArgs};
pub(crate) use bench_tokenize::{BenchTokenize, MeasuredEngine};
pub(crate) use bench_values::{Form, Limit};
pub(crate) use cache::{
    Cache, CacheCommand, CacheExplain, CacheInspect, CacheLs, CachePrune, CacheRm, CacheWarm,
};
pub(crate) use constraint::ConstraintArgs;
pub(crate) use doctor::Doctor;
pub(crate) use framing::{FramingArgs, Think};
pub(crate) use model::{BudgetArgs, Device, KeptArgs, ModelArgs, RanksArgs};
pub(crate) use quantize::Quantize;
pub(crate) use sampling::SamplingArgs;
pub(crate) use serve::{KeepAlive, Runner, Serve};
pub(crate) use tokenize::{EngineChoice, Switch, Tokenize};

/// Run language models on Apple's MLX: Metal, CUDA and plain CPUs
#[derive(Debug, Parser)]
#[command(name = "mlxr", version, after_help = after_help(), arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    talk: Talk,
}

#[derive(Debug, Args)]
struct Talk {
    /// Print nothing on stderr but errors
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Output",
        conflicts_with = "verbose"
    )]
    quiet: bool,
    /// Say which model, device and library are used, and how long things took
    #[arg(short, long, global = true, help_heading = "Output")]
    verbose: bool,
}

impl Cli {
    /// How much is to be said on stderr.
    pub(crate) fn verbosity(&self) -> Verbosity {
        match self.talk {
            Talk { quiet: true, .. } => Verbosity::Quiet,
            Talk { verbose: true, .. } => Verbosity::Verbose,
            Talk { .. } => Verbosity::Normal,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<Run>),
    Serve(Box<Serve>),
    Runner(Box<Runner>),
    Tokenize(Box<Tokenize>),
    Quantize(Box<Quantize>),
    Bench(Box<Bench>),
    Cache(Cache),
    Doctor(Doctor),
}

/// Answer a prompt, a file of prompts, or chat
///
/// The prompt is the words given, joined by spaces. Text piped to standard input comes before
/// them, with a blank line between; alone, it is the prompt. One newline at its end is dropped,
/// nothing else is changed. Without either, on a terminal, a chat begins.
///
/// Standard output gets the text of the answer and a newline if it does not end in one. What a
/// model thinks between <think> and </think> goes to standard error, unless --raw is given.
///
/// With --jsonl and a pipe as the only input, each line of it is a request: an object with
/// `prompt` or `messages`, and optionally `id`, `system`, `prefill`, `max_tokens`, `stop`,
/// `schema` (itself), `choices` (an array), `temperature`, `top_k`, `top_p`, `min_p`,
/// `repeat_penalty`, `repeat_last_n`, `presence_penalty`, `frequency_penalty`, `seed`. Flags give the defaults. Each line is
/// answered by one line, in the same order; a request that fails is answered by an `error` with
/// its `kind` and `message`, and the exit code is that of the first one that failed.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct Run {
    /// Words of the prompt; `-` as the first reads standard input even from a terminal
    pub(crate) prompt: Vec<OsString>,

    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Tokens of prompt and answer together [default: what the model allows]
    #[arg(short, long, value_name = "N", value_parser = numbers::tokens, help_heading = "Model")]
    pub(crate) ctx: Option<usize>,

    #[command(flatten)]
    pub(crate) together: RanksArgs,

    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    #[command(flatten)]
    pub(crate) framing: FramingArgs,

    /// Tokens to produce at most [default: to the end of the context]
    #[arg(short = 'n', long, value_name = "N", value_parser = numbers::tokens, help_heading = "Answer")]
    pub(crate) max_tokens: Option<usize>,
    /// Text that ends the answer; it is not printed (repeatable)
    #[arg(
        long,
        value_name = "TEXT",
        value_parser = NonEmptyStringValueParser::new(),
        help_heading = "Answer",
    )]
    pub(crate) stop: Vec<String>,
    #[command(flatten)]
    pub(crate) constraint: ConstraintArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    /// Print one JSON object when the answer is complete
    #[arg(long, help_heading = "Output", conflicts_with = "jsonl")]
    pub(crate) json: bool,
    /// Print one JSON object per line: the events of an answer, or the results of many requests
    #[arg(long, help_heading = "Output")]
    pub(crate) jsonl: bool,
    /// Print counts and times on stderr
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        help_heading = "Output",
    )]
    pub(crate) stats: Option<Stats>,
}

/// The form of `--stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stats {
    Text,
    Json,
}

/// What stands below the options.
fn after_help() -> String {
    format!("{}\n\n{}", Settings::HELP, Exit::help())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, Command, Think};

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn think_takes_its_level_only_after_an_equals_sign() {
        let think = |words: &[&str]| {
            let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
                panic!("another command")
            };
            (run.framing.think, run.prompt)
        };
        assert_eq!(
            think(&["mlxr", "run", "--think", "off"]),
            (Some(Think::On), vec!["off".into()])
        );
        assert_eq!(
            think(&["mlxr", "run", "--think=off"]),
            (Some(Think::Off), vec![])
        );
    }
}
