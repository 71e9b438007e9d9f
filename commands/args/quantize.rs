//! The arguments of `quantize`.

use std::ffi::OsString;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use mlxr::config::PackingMode;
use mlxr::kernels::matrix::Number;
use mlxr::quantize::{Choice, DType, Override, Recipe};

use super::{after_help, names, numbers};

/// What says nothing of a model that is packed already.
const NOT_VERIFIED: [&str; 15] = [
    "model",
    "output",
    "mode",
    "bits",
    "group",
    "recipe",
    "target_bpw",
    "embed",
    "head",
    "expert",
    "overrides",
    "dtype",
    "memory",
    "explain",
    "dry_run",
];

/// Make a model smaller: fewer bits for each weight
///
/// What a tensor is for decides how it is stored: each architecture has a table of roles. Matrices get the base
/// (--mode, --bits, --group); the recipe keeps what a few wrong numbers ruin, such as the router of experts and the
/// projections of latent attention, and a tensor whose role is not known stays as it is. --explain says what
/// becomes of each tensor, and why.
///
/// A CHOICE is `keep`, a number of bits, or a packing: affine6g64, mxfp4, mxfp8, nvfp4.
///
/// Recipes: `default`, whose scales (below 8 bits) leave the least squares of what is off; `more-bits`, which also gives
/// values, ways down, embeddings and the head more bits; `mlx-lm`,
/// what `mlx_lm.convert` does; `mixed_2_6`, `mixed_3_4`, `mixed_3_6` and `mixed_4_6` of mlx-lm; `ollama`.
///
/// Sources are of bfloat16, float16 or float32, of 8-bit floats in squares of 128, or packed by compressed-tensors or
/// ModelOpt as nvfp4, by compressed-tensors as integers of 4 or 8 bits, or GGUF files of F32, F16, BF16, Q4_0, Q4_1, Q8_0
/// and Q6_K. Integers that MLX can have as they are stay so, unless --mode, --bits, --group or --recipe asks for
/// others; --embed, --head, --expert and --override are for tensors beside. Of a GGUF file, config.json and
/// tokenizer.json are made of its metadata, where they do not lie beside it.
///
/// Tensors are read, packed and written one after the other. A process that ends before it is done leaves a hidden
/// folder beside DIR, and the same command goes on from there. The result loads in mlx-lm too.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
#[expect(clippy::doc_markdown, reason = "help is not Markdown")]
pub(crate) struct Quantize {
    /// Folder or `org/name[@revision]` of the hub, not packed yet, or a GGUF file
    #[arg(required_unless_present = "verify", add = ArgValueCompleter::new(names::models))]
    pub(crate) model: Option<String>,
    /// Folder that is written
    #[arg(
        short,
        long,
        value_name = "DIR",
        required_unless_present_any = ["explain", "dry_run", "verify"],
    )]
    pub(crate) output: Option<PathBuf>,
    /// Replace DIR even if this command did not make it
    #[arg(long, requires = "output")]
    pub(crate) force: bool,

    /// How weights are packed: integers, or floats of 4 or 8 bits [default: affine]
    #[arg(
        long,
        value_parser = PossibleValuesParser::new(["affine", "mxfp4", "nvfp4", "mxfp8"])
            .try_map(|mode| mode.parse::<PackingMode>()),
        help_heading = "Packing",
    )]
    pub(crate) mode: Option<PackingMode>,
    /// Bits of a weight: 2, 3, 4, 5, 6 or 8 [default: 4, of mxfp8 8]
    #[arg(short, long, value_name = "N", help_heading = "Packing")]
    pub(crate) bits: Option<usize>,
    /// Weights that share a scale: 32, 64 or 128 [default: 64, of mxfp4 and mxfp8 32, of nvfp4 16]
    #[arg(short, long, value_name = "N", help_heading = "Packing")]
    pub(crate) group: Option<usize>,
    /// The mix [default: default]
    #[arg(long, value_name = "NAME", help_heading = "Packing")]
    pub(crate) recipe: Option<Recipe>,
    /// Search the mix of bits that loses least with X bits for each weight, scales and biases included; each role is
    /// measured in each third of the layers, on the text of --report
    #[arg(
        long,
        value_name = "X",
        value_parser = numbers::above_zero,
        requires = "output",
        conflicts_with_all = ["bits", "recipe"],
        help_heading = "Packing"
    )]
    pub(crate) target_bpw: Option<f64>,
    /// For embeddings, also where they are the head
    #[arg(long, value_name = "CHOICE", help_heading = "Packing")]
    pub(crate) embed: Option<Choice>,
    /// For a head of its own
    #[arg(long, value_name = "CHOICE", help_heading = "Packing")]
    pub(crate) head: Option<Choice>,
    /// For experts behind a router
    #[arg(long, value_name = "CHOICE", help_heading = "Packing")]
    pub(crate) expert: Option<Choice>,
    /// For tensors by name; `*` stands for anything, the last that fits counts (repeatable)
    #[arg(
        long = "override",
        value_name = "PATTERN=CHOICE",
        help_heading = "Packing"
    )]
    pub(crate) overrides: Vec<Override>,
    /// Type of what is not packed, and of scales [default: that of the model]
    #[arg(long, value_enum, help_heading = "Packing")]
    pub(crate) dtype: Option<Floats>,

    /// Memory for what is read and written, and for the models of --report and --target-bpw, as `2GiB`
    #[arg(long, value_name = "SIZE", help_heading = "Work")]
    pub(crate) memory: Option<ByteSize>,
    /// Threads that compute [default: one for each core]
    #[arg(long, value_name = "N", value_parser = numbers::threads, help_heading = "Work")]
    pub(crate) threads: Option<usize>,

    /// Hold a packed model against what it says of itself: shapes, scales, digests
    #[arg(long, value_name = "DIR", conflicts_with_all = NOT_VERIFIED, help_heading = "Output")]
    pub(crate) verify: Option<PathBuf>,
    /// Measure what was lost on a text, the sample or a file: divergence, agreement, perplexity; also kept beside
    /// the weights
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        requires = "output",
        conflicts_with = "dry_run",
        help_heading = "Output",
    )]
    pub(crate) report: Option<OsString>,
    /// End with code 1 if the mean divergence, in nats per token, is above X
    #[arg(
        long,
        value_name = "X",
        value_parser = numbers::not_negative,
        requires = "report",
        help_heading = "Output"
    )]
    pub(crate) max_kld: Option<f64>,
    /// Show each tensor with its role, its packing, the reason and its size
    #[arg(long, help_heading = "Output")]
    pub(crate) explain: bool,
    /// Write nothing, and show what would be written
    #[arg(long, help_heading = "Output")]
    pub(crate) dry_run: bool,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// A type of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Floats {
    #[value(name = "bf16", alias = "bfloat16")]
    Bfloat16,
    #[value(name = "f16", alias = "float16")]
    Float16,
    #[value(name = "f32", alias = "float32")]
    Float32,
}

impl From<Floats> for DType {
    fn from(floats: Floats) -> Self {
        Self(match floats {
            Floats::Bfloat16 => Number::Bfloat16,
            Floats::Float16 => Number::Float16,
            Floats::Float32 => Number::Float32,
        })
    }
}
