//! The arguments of `bench`, and the small languages that some of them are written in.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use mlxr::config::PackingConfig;
use mlxr::models::SHAPES;

use super::bench_tokenize::BenchTokenize;
use super::{BudgetArgs, KeptArgs, ModelArgs, after_help, numbers};

/// No list of sizes needs to be longer.
const LONGEST_LIST: usize = 10_000;

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

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Md,
    Csv,
    Json,
    Jsonl,
    Sql,
}

/// How made-up matrices are packed, if they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quant(pub(crate) Option<PackingConfig>);

impl FromStr for Quant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" | "bf16" => Ok(Self(None)),
            text => text.parse().map(|packing| Self(Some(packing))),
        }
    }
}

/// Numbers of tokens or sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes(pub(crate) Vec<usize>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sizes = Vec::new();
        for part in text.split(',') {
            range(part, &mut sizes)?;
        }
        Ok(Self(sizes))
    }
}

/// Adds `8`, `8-64`, `8-64+8` or `8-64*2` to `sizes`.
fn range(text: &str, sizes: &mut Vec<usize>) -> Result<(), String> {
    let number = |digits: &str| {
        let number = digits.trim().parse::<u32>();
        number
            .map(|number| number as usize)
            .map_err(|error| format!("`{digits}`: {error}"))
    };
    let Some((first, rest)) = text.split_once('-') else {
        sizes.push(number(text)?);
        return Ok(());
    };
    let first = number(first)?;
    let (last, factor, step) = match (rest.split_once('*'), rest.split_once('+')) {
        (Some((last, factor)), _) => (number(last)?, number(factor)?, 0),
        (None, Some((last, step))) => (number(last)?, 1, number(step)?),
        (None, None) => (number(rest)?, 1, 1),
    };
    if last < first {
        return Err(format!("`{text}` ends before it begins"));
    }
    let mut size = first;
    while size <= last {
        if sizes.len() == LONGEST_LIST {
            return Err(format!("more than {LONGEST_LIST} sizes"));
        }
        sizes.push(size);
        let next = size.saturating_mul(factor).saturating_add(step);
        if next <= size {
            return Err(format!("`{text}` never ends"));
        }
        size = next;
    }
    Ok(())
}

/// A prompt and what is generated after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PromptAndGenerate {
    pub(crate) prompt: usize,
    pub(crate) generate: usize,
}

impl FromStr for PromptAndGenerate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Sizes>()?.0[..] {
            [prompt, generate] if prompt > 0 && generate > 0 => Ok(Self { prompt, generate }),
            _ => Err("not of the form P,N with numbers above 0".to_owned()),
        }
    }
}

/// How far below its baseline a test may fall.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    /// `pp`, `tg`, `pg`, or the name of one test.
    pub(crate) tests: String,
    /// In per cent, above 0.
    pub(crate) percent: f64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('<').and_then(|(tests, fall)| {
            let percent = fall.trim().strip_prefix('-')?.strip_suffix('%')?;
            Some((tests.trim(), percent.parse::<f64>().ok()?))
        });
        match parts {
            Some((tests, percent)) if !tests.is_empty() && (0.0..=100.0).contains(&percent) => {
                Ok(Self {
                    tests: tests.to_owned(),
                    percent,
                })
            }
            _ => Err("not of the form TEST<-PERCENT%, as in tg<-3%".to_owned()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{Limit, PromptAndGenerate, Quant, Sizes};

    fn sizes(text: &str) -> Result<Vec<usize>, String> {
        text.parse().map(|Sizes(sizes)| sizes)
    }

    #[test]
    fn lists_and_ranges_are_llama_bench_s() {
        assert_eq!(sizes("16,32").unwrap(), [16, 32]);
        assert_eq!(sizes("8-64*2").unwrap(), [8, 16, 32, 64]);
        assert_eq!(sizes("8-32+8").unwrap(), [8, 16, 24, 32]);
        assert_eq!(sizes("1-3,0").unwrap(), [1, 2, 3, 0]);
        assert_eq!(sizes("5-8*2").unwrap(), [5]);
    }

    #[test]
    fn lists_that_mean_nothing_are_refused() {
        for (text, word) in [
            ("", "empty"),
            ("8,", "empty"),
            ("x", "invalid digit"),
            ("-1", "empty"),
            ("8-4", "ends before it begins"),
            ("8-64*1", "never ends"),
            ("8-64+0", "never ends"),
            ("0-64*2", "never ends"),
            ("0-4000000000", "more than 10000"),
            ("99999999999", "too large"),
        ] {
            let refusal = sizes(text).unwrap_err();
            assert!(refusal.contains(word), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_prompt_and_what_follows_are_two_numbers() {
        let pair: PromptAndGenerate = "512,128".parse().unwrap();
        assert_eq!((pair.prompt, pair.generate), (512, 128));
        for text in ["512", "1,2,3", "0,4", "4,0", "a,b"] {
            assert!(text.parse::<PromptAndGenerate>().is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_falls_in_per_cent() {
        let limit: Limit = "tg128 @ d2048<-2.5%".parse().unwrap();
        assert_eq!(
            (limit.tests.as_str(), limit.percent),
            ("tg128 @ d2048", 2.5)
        );
        for text in ["tg", "tg<3%", "tg<-3", "<-3%", "tg>3%", "tg<-x%", "tg<--3%"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn made_up_matrices_are_packed_or_not() {
        assert_eq!("none".parse(), Ok(Quant(None)));
        assert_eq!("bf16".parse(), Ok(Quant(None)));
        for text in ["affine4g64", "affine8g32", "mxfp4", "mxfp8", "nvfp4"] {
            let Quant(packing) = text.parse().unwrap();
            assert_eq!(packing.unwrap().to_string(), text);
        }
        for text in ["affine7g64", "affine4g16", "q4_0", "affine4", "mxfp4g32"] {
            assert!(text.parse::<Quant>().is_err(), "{text}");
        }
    }
}
