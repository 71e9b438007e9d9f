//! The arguments as they are typed; what they lead to is not known here.

mod bench;
mod cache;

use std::ffi::OsString;

use bytesize::ByteSize;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mlxr::mlx::DeviceChoice;
use mlxr::sample::Sampling;
use serde_json::Value;

use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Verbosity;
pub(crate) use bench::{Bench, BenchCache, BenchCommand, BenchStart, Form, Limit, SubjectArgs};
pub(crate) use cache::{Cache, CacheCommand, CacheInspect, CachePrune};

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
    Bench(Box<Bench>),
    Cache(Cache),
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
/// `temperature`, `top_k`, `top_p`, `min_p`, `repeat_penalty`, `repeat_last_n`,
/// `presence_penalty`, `frequency_penalty`, `seed`. Flags give the defaults. Each line is
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
    #[arg(short, long, value_name = "N", value_parser = at_least_one, help_heading = "Model")]
    pub(crate) ctx: Option<usize>,

    /// Keep what the CPU computes of prompts in a folder, for later ones that begin alike [default DIR:
    /// mlxr in `XDG_CACHE_HOME` or ~/.cache]
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        help_heading = "Model",
    )]
    pub(crate) cache: Option<OsString>,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    /// What the folder may hold: the prompts used longest ago go
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "20GiB",
        requires = "cache",
        help_heading = "Model"
    )]
    pub(crate) cache_size: ByteSize,

    /// System message
    #[arg(short, long, value_name = "TEXT", help_heading = "Prompt")]
    pub(crate) system: Option<String>,
    /// Send the prompt as it is, without chat template, and print all that the model produces
    #[arg(
        long,
        help_heading = "Prompt",
        conflicts_with_all = ["system", "template_arg", "think", "prefill"],
    )]
    pub(crate) raw: bool,
    /// Begin the answer with TEXT (it is not printed again)
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    pub(crate) prefill: Option<String>,
    /// Let the model think, or not [default: the model's]
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        help_heading = "Prompt",
    )]
    pub(crate) think: Option<Think>,
    /// Variable for the chat template; VALUE is JSON or else text (repeatable)
    #[arg(
        long,
        value_name = "KEY=VALUE",
        value_parser = template_arg,
        help_heading = "Prompt",
    )]
    pub(crate) template_arg: Vec<(String, Value)>,

    /// Tokens to produce at most [default: to the end of the context]
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one, help_heading = "Answer")]
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

/// Which model, and how it is computed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]
    #[arg(short, long)]
    pub(crate) model: Option<String>,
    /// Where to compute; `auto` is the GPU where there is one
    #[arg(long, value_enum, default_value_t)]
    pub(crate) device: Device,
    /// Threads that compute on the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights
    #[arg(long)]
    pub(crate) cpu_exact: bool,
}

/// What may be taken of the device's memory.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct BudgetArgs {
    /// Memory for everything, weights, sequences and kept prompts, as `12GiB` [default: three quarters of what
    /// the device has, or what it can give now]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
}

impl BudgetArgs {
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.memory.map(|memory| memory.as_u64() as usize)
    }
}

/// What the user says about how tokens are chosen: as flags, or as fields of a request.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling (defaults: generation_config.json, else as shown)")]
pub(crate) struct SamplingArgs {
    /// 0 always takes the likeliest token [default: 0.8]
    #[arg(
        short,
        long = "temp",
        alias = "temperature",
        value_name = "T",
        allow_negative_numbers = true
    )]
    pub(crate) temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all [default: 40]
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have this probability [default: 0.9]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// Divide the logits of tokens seen before; 1 is off [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) repeat_penalty: Option<f32>,
    /// Tokens that the three penalties look back at; 0 is none, -1 all [default: 64]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..),
    )]
    pub(crate) repeat_last_n: Option<i64>,
    /// Subtract from the logits of tokens seen before [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,
    /// Subtract from the logits of tokens once for each time seen before [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,
    /// Same seed, same text [default: a fresh one]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl SamplingArgs {
    /// These where they are given, else `other`.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            repeat_penalty: self.repeat_penalty.or(other.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(other.repeat_last_n),
            presence_penalty: self.presence_penalty.or(other.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(other.frequency_penalty),
            seed: self.seed.or(other.seed),
        }
    }

    /// These where they are given, else those of `model`.
    pub(crate) fn over(&self, model: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(model.repeat_penalty),
            // A negative count is the whole context.
            repeat_last_n: self
                .repeat_last_n
                .map_or(model.repeat_last_n, |count| usize::try_from(count).ok()),
            presence_penalty: self.presence_penalty.unwrap_or(model.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(model.frequency_penalty),
            seed: self.seed.or(model.seed),
            ..model.clone()
        }
    }
}

/// Where to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    #[default]
    Auto,
    Cpu,
    Gpu,
}

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Cpu => Self::Cpu,
            Device::Gpu => Self::Gpu,
        }
    }
}

/// Whether and how much a model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Think {
    On,
    Off,
    Low,
    Medium,
    High,
}

impl Think {
    /// The variables by which chat templates know it.
    pub(crate) fn template_args(self) -> Vec<(&'static str, Value)> {
        let effort = match self {
            Self::On | Self::Off => None,
            Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High => Some("high"),
        };
        let mut args = vec![("enable_thinking", Value::from(self != Self::Off))];
        args.extend(effort.map(|effort| ("reasoning_effort", Value::from(effort))));
        args
    }
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

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

fn template_arg(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use serde_json::json;

    use super::{Cli, Command, Sampling, SamplingArgs, Think, template_arg};

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn template_arguments_are_json_or_else_text() {
        assert_eq!(template_arg("a=true").unwrap(), ("a".into(), json!(true)));
        assert_eq!(template_arg("a=b=c").unwrap(), ("a".into(), json!("b=c")));
        assert_eq!(template_arg("a=").unwrap(), ("a".into(), json!("")));
        assert!(template_arg("a").is_err());
    }

    #[test]
    fn think_takes_its_level_only_after_an_equals_sign() {
        let think = |words: &[&str]| {
            let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
                panic!("another command")
            };
            (run.think, run.prompt)
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

    #[test]
    fn a_row_beats_a_flag_and_a_flag_beats_the_model() {
        let row = SamplingArgs {
            temperature: Some(0.1),
            ..SamplingArgs::default()
        };
        let flags = SamplingArgs {
            temperature: Some(0.2),
            top_k: Some(2),
            repeat_last_n: Some(-1),
            ..SamplingArgs::default()
        };
        let model = Sampling {
            temperature: 0.3,
            top_k: 3,
            top_p: 0.3,
            ..Sampling::default()
        };
        let chosen = row.or(&flags).over(&model);
        let wanted = Sampling {
            temperature: 0.1,
            top_k: 2,
            repeat_last_n: None,
            ..model
        };
        assert_eq!(chosen, wanted);
    }
}
