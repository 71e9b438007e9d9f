//! Qwen3-Next, Qwen3-Coder-Next and Qwen3.5, as text, dense and with experts: gated delta layers, and every so
//! many layers attention whose output is gated.

use super::layers::block::{FeedForward, Mixer, PreNorm};
use super::layers::decoder::{Decoder, DecoderConfig};
use super::layers::delta::DeltaConfig;
use super::layers::experts::SparseConfig;
use super::layers::grouped::{Biases, GroupedAttention, GroupedConfig};
use super::roles::{TensorRule, Tensors, tables};
use super::{Loader, Model, Spec};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::ops::rope::Rope;

const RULES: &[&[TensorRule]] = &[
    tables::ENDS,
    tables::RAISED_NORMS,
    tables::ATTENTION,
    tables::DELTA,
    tables::GATED_MLP,
    tables::ROUTED_EXPERTS,
    tables::ROUTER,
    tables::SHARED_EXPERT,
];

/// A head that guesses several tokens ahead.
const GUESSES: &[&str] = &["mtp.", "model.mtp."];

pub(super) const SPEC: Spec = Spec {
    names: &[
        "Qwen3NextForCausalLM",
        "Qwen3NextForConditionalGeneration",
        "Qwen3NextMoeForCausalLM",
        "Qwen3NextMoeForConditionalGeneration",
    ],
    tensors: Tensors {
        rules: RULES,
        saved_under: None,
        unused: GUESSES,
    },
    load,
};

pub(super) const QWEN3_5: Spec = Spec {
    names: &[
        "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeForConditionalGeneration",
    ],
    tensors: Tensors {
        rules: RULES,
        saved_under: Some(("language_model.model.", "language_model.lm_head")),
        unused: GUESSES,
    },
    load,
};

/// Of every so many layers the last has attention, where the configuration does not say.
const INTERVAL: usize = 4;

struct Config {
    /// Layers with attention.
    full: Vec<bool>,
    delta: DeltaConfig,
    attention: GroupedConfig,
    attention_bias: bool,
    rope: RopeConfig,
    experts: Option<SparseConfig>,
    /// Inner width of layers without experts.
    intermediate: Option<usize>,
}

impl Config {
    fn read(config: &config::Config, hidden: usize, layers: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        let kinds = [("full_attention", true), ("linear_attention", false)];
        let interval = config
            .optional_size("full_attention_interval")?
            .unwrap_or(INTERVAL);
        let is_full = |layer: usize| (layer + 1).is_multiple_of(interval);
        let full = config.kinds("layer_types", layers, &kinds)?;
        let full = full.unwrap_or_else(|| (0..layers).map(is_full).collect());
        let rope = config.rope(10_000_000.0)?;
        let has_experts = config.optional_size("num_experts")?.is_some();
        Ok(Self {
            full,
            delta: DeltaConfig::read(config)?,
            attention: GroupedConfig::read(config, hidden, Some(256))?,
            attention_bias: config.flag_or("attention_bias", false)?,
            rope,
            experts: if has_experts {
                Some(SparseConfig::read(config, true)?)
            } else {
                None
            },
            intermediate: config.optional_size("intermediate_size")?,
        })
    }
}

/// Whether norms hold how far their weights are from 1: not where mlx-lm has saved the checkpoint, which
/// turns the weights of convolutions around too.
fn is_raw(config: &Config, loader: &Loader<'_>) -> bool {
    let (prefix, _) = loader.text_prefixes();
    let layer = config.full.iter().position(|full| !full).unwrap_or(0);
    let name = format!("{prefix}layers.{layer}.linear_attn.conv1d.weight");
    let shape = loader.shape(&name);
    shape.is_none_or(|shape| shape.last() == Some(&config.delta.taps))
}

fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 262_144, 1e-6)?;
    let problem = |problem: &str| config.problem(problem.to_owned());
    let missing = problem("`intermediate_size` is missing");
    let config = Config::read(config, decoder.hidden, decoder.layers)?;
    if config.experts.is_none() && config.intermediate.is_none() {
        return Err(missing);
    }
    let decoder = DecoderConfig {
        norm_shift: if is_raw(&config, loader) { 1.0 } else { 0.0 },
        ..decoder
    };
    for prefix in GUESSES {
        loader.skip(prefix);
    }
    let biases = Biases::all(config.attention_bias);
    Decoder::load(decoder, loader, |layer, prefix, decoder| {
        let hidden = decoder.hidden;
        let mixer: Box<dyn Mixer> = if config.full[layer] {
            let rope = Rope::new(config.attention.width, &config.rope);
            let name = format!("{prefix}.self_attn");
            let heads = &config.attention;
            let attention = heads.normed_attention(loader, &name, rope, decoder)?;
            let attention = GroupedAttention::gated(loader, &name, hidden, biases, attention)?;
            Box::new(attention)
        } else {
            Box::new(
                config
                    .delta
                    .load(loader, &format!("{prefix}.linear_attn"), decoder)?,
            )
        };
        let name = format!("{prefix}.mlp");
        let mlp: Box<dyn FeedForward> = match (&config.experts, config.intermediate) {
            (Some(experts), inner) if experts.is_sparse(layer) || inner.is_none() => {
                Box::new(experts.load(loader, &name, hidden)?)
            }
            (_, inner) => {
                Box::new(loader.gated_mlp(&name, hidden, inner.unwrap_or(hidden), false)?)
            }
        };
        PreNorm::load(loader, prefix, decoder, mixer, mlp)
    })
}
