//! The arguments of `bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use mlxr::models::SHAPES;

use super::bench_tokenize::BenchTokenize;
use super::bench_values::{Form, Limit, PromptAndGenerate, Quant, Sizes};
use super::{BudgetArgs, KeptArgs, ModelArgs, after_help, numbers};

/// No machine computes more sequences together.
const MOST_SEQUENCES: usize = 4096;

/// Measure how fast a model computes
///
/// A test is a number of tokens: pp512 evaluates a prompt of 512, tg128 generates 128, pp512+tg128
/// does both; `@ d2048` means after 2048 tokens that are there already. Lists are separated by commas,
/// and may hold ranges: 128-512+128 adds, 8-64*2 multiplies. 0 leaves a kind of test out.
///
/// Every test is run once before it is timed. Tokens are random, differ with each repetition and are
/// no special ones; nothing is turned into text, and no token ends a test. With several sequences
/// the rate is that of all together.
///
/// "% bw" is the share of the memory's bandwidth that generating reaches: the bytes that must be
/// read for a token (weights, keys and values), times the rate, by the bandwidth of a large copy or
/// read in this same run. "ops", where a GPU generates, is how many operations MLX launches for a
/// step; those that only look at memory in another way are not among them.
#[derive(Debug, Args)]
#[command(after_help = after_help(), args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,

    /// Tokens of prompts
    #[arg(
        short = 'p',
        long,
        value_name = "LIST",
        default_value = "512",
        help_heading = "Tests"
    )]
    pub(crate) prompt: Sizes,
    /// Tokens to generate
    #[arg(
        short = 'n',
        long,
        value_name = "LIST",
        default_value = "128",
        help_heading = "Tests"
    )]
    pub(crate) generate: Sizes,
    /// A prompt of P tokens, then N generated ones, timed together (repeatable)
    #[arg(long, value_name = "P,N", help_heading = "Tests")]
    pub(crate) pg: Vec<PromptAndGenerate>,
    /// Tokens that are there before each test
    #[arg(
        short,
        long,
        value_name = "LIST",
        default_value = "0",
        help_heading = "Tests"
    )]
    pub(crate) depth: Sizes,
    /// Sequences that are computed together
    #[arg(
        short = 'b',
        long,
        value_name = "LIST",
        default_value = "1",
        value_parser = sequences,
        help_heading = "Tests"
    )]
    pub(crate) concurrency: Sizes,
    /// Times that each test is timed
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = numbers::repetitions,
        help_heading = "Tests",
    )]
    pub(crate) repetitions: usize,
    /// Wait before each test, for the machine to cool down
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Tests")]
    pub(crate) delay: Option<Duration>,

    /// Form of the results [default: a table on a terminal, else md]
    #[arg(short, long, value_enum, value_name = "FORM", help_heading = "Output")]
    pub(crate) output: Option<Form>,
    /// Compare with the results that an earlier run wrote with `-o json`
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) baseline: Option<PathBuf>,
    /// End with code 1 if the median rate of a test falls so far below the baseline's: pp<-5%, tg<-3%,
    /// 'tg128 @ d2048<-3%' (repeatable)
    #[arg(
        long,
        value_name = "LIMIT",
        requires = "baseline",
        help_heading = "Output"
    )]
    pub(crate) fail_if: Vec<Limit>,
}

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct SubjectArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Measure the shape of a known model with made-up weights
    #[arg(
        long,
        value_name = "SHAPE",
        conflicts_with = "model",
        value_parser = PossibleValuesParser::new(SHAPES.iter().map(|shape| shape.name)),
        help_heading = "Model",
    )]
    pub(crate) random: Option<String>,
    /// How made-up matrices are packed: affine<BITS>g<GROUP>, mxfp4, mxfp8, nvfp4, or none (bf16)
    #[arg(
        long,
        value_name = "FORM",
        default_value = "affine4g64",
        requires = "random",
        help_heading = "Model"
    )]
    pub(crate) quant: Quant,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Start(BenchStart),
    Cache(BenchCache),
    Tokenize(BenchTokenize),
}

/// Measure prompts that begin as earlier ones did
///
/// A conversation of eight messages is asked again in ways that are common: the very same, with the
/// answer and a next message, with the answer but without what was thought, with one message in the
/// middle changed, again after that, after five other prompts, and after another one that is as long: with a
/// small --memory, what was computed has to leave it for that. Told is how many tokens of the prompt
/// were known, how many were taken from what was kept and how many were computed; what making that ready
/// took, and the time to the first token.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct BenchCache {
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    /// Tokens of the conversation
    #[arg(
        short = 'p',
        long,
        value_name = "N",
        default_value_t = 2048,
        value_parser = numbers::tokens,
    )]
    pub(crate) prompt: usize,
    /// Conversations
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = numbers::repetitions,
    )]
    pub(crate) repetitions: usize,
    /// Form of the results [default: a table on a terminal, else md]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Form>,
}

/// Measure from the start of the program to its first token
///
/// Runs this program again as `mlxr run` with a short prompt, several times, and takes the time until
/// the first byte of the answer is there. One run before the first makes the page cache warm. The
/// parts are what the run says of itself in --stats=json; "rest" is what it does not account for.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct BenchStart {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Times that the program is started
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = numbers::repetitions,
    )]
    pub(crate) repetitions: usize,
    /// Form of the results [default: a table on a terminal, else md]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Form>,
}

fn sequences(text: &str) -> Result<Sizes, String> {
    numbers::all_between(text, 0, MOST_SEQUENCES)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|error: std::num::ParseFloatError| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
