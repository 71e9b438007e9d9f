//! Gemma 3, as text: norms before and after each branch, most layers looking back on a window.

use super::layers::block::Mixer as _;
use super::layers::decoder::{self, Decoder, DecoderConfig};
use super::layers::grouped::{Biases, GroupedAttention, GroupedConfig, Windows};
use super::roles::{Tensors, tables};
use super::{Loader, Model, Spec};
use crate::cache::{LayerCaches, LayerKind};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::ops::attention::Attention;
use crate::ops::decode::Builder;
use crate::ops::mlp::GatedMlp;
use crate::ops::norm::RmsNorm;
use crate::ops::rope::Rope;
use crate::ops::tensor::Tensor;

pub(super) const SPEC: Spec = Spec {
    names: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    tensors: Tensors {
        rules: &[
            tables::ENDS,
            tables::NORMS,
            tables::MORE_NORMS,
            tables::HEAD_NORMS,
            tables::ATTENTION,
            tables::GATED_MLP,
        ],
        saved_under: None,
        unused: &[],
    },
    load,
};

/// Of every so many layers the last sees everything, where the configuration does not say.
const PATTERN: usize = 6;

struct Config {
    attention: GroupedConfig,
    attention_bias: bool,
    /// Scores are divided by its root.
    score_divisor: f32,
    windows: Windows,
    intermediate: usize,
    rope: RopeConfig,
    /// Of layers that look back on a window.
    local_rope: RopeConfig,
}

impl Config {
    fn read(config: &config::Config, layers: usize) -> Result<Self> {
        config.expect_one_of("hidden_activation", &["gelu_pytorch_tanh"])?;
        config.refuse("attn_logit_softcapping")?;
        config.refuse("use_bidirectional_attention")?;
        // What checkpoints leave out is what their makers' code has for these sizes.
        let (heads, kv_heads) = match layers {
            48 => (16, 8),
            62 => (32, 16),
            _ => (8, 4),
        };
        let heads = config
            .optional_size("num_attention_heads")?
            .unwrap_or(heads);
        let kv_heads = config
            .optional_size("num_key_value_heads")?
            .unwrap_or(kv_heads);
        let width = config.head_width(256)?;
        let pattern = match config.optional_size("sliding_window_pattern")? {
            Some(pattern) => pattern,
            None => config
                .optional_size("_sliding_window_pattern")?
                .unwrap_or(PATTERN),
        };
        let local = "sliding_attention";
        Ok(Self {
            attention: GroupedConfig::new(config, heads, kv_heads, width)?,
            attention_bias: config.flag_or("attention_bias", false)?,
            score_divisor: config.number_or("query_pre_attn_scalar", width as f32)?,
            windows: Windows::read(config, layers, |layer| !(layer + 1).is_multiple_of(pattern))?,
            intermediate: config.size("intermediate_size")?,
            rope: config.rope(1_000_000.0)?,
            local_rope: if config.has_rope_of(local) {
                config.rope_of(local, 10_000.0)?
            } else {
                config.plain_rope("rope_local_base_freq", 10_000.0)?
            },
        })
    }
}

struct Block {
    attention: GroupedAttention,
    mlp: GatedMlp,
    before_attention: RmsNorm,
    after_attention: RmsNorm,
    before_mlp: RmsNorm,
    after_mlp: RmsNorm,
}

impl Block {
    fn load(
        config: &Config,
        decoder: &DecoderConfig,
        loader: &Loader<'_>,
        layer: usize,
        prefix: &str,
    ) -> Result<Self> {
        let DecoderConfig {
            hidden,
            epsilon,
            norm_shift,
            ..
        } = *decoder;
        let norm = |name: &str| {
            loader.shifted_norm(&format!("{prefix}.{name}"), hidden, epsilon, norm_shift)
        };
        let rope = if config.windows.is_sliding(layer) {
            &config.local_rope
        } else {
            &config.rope
        };
        let rope = Rope::new(config.attention.width, rope);
        let name = format!("{prefix}.self_attn");
        let attention = Attention {
            scale: config.score_divisor.powf(-0.5),
            window: config.windows.of(layer),
            ..config
                .attention
                .normed_attention(loader, &name, rope, decoder)?
        };
        let biases = Biases::all(config.attention_bias);
        let mlp = format!("{prefix}.mlp");
        Ok(Self {
            attention: GroupedAttention::load(loader, &name, hidden, biases, attention)?,
            mlp: loader
                .gated_mlp(&mlp, hidden, config.intermediate, false)?
                .with_gelu(),
            before_attention: norm("input_layernorm")?,
            after_attention: norm("post_attention_layernorm")?,
            before_mlp: norm("pre_feedforward_layernorm")?,
            after_mlp: norm("post_feedforward_layernorm")?,
        })
    }
}

impl decoder::Block for Block {
    fn kind(&self, number_bytes: usize) -> LayerKind {
        self.attention.kind(number_bytes)
    }

    fn forward(&self, x: &Tensor, caches: &mut LayerCaches<'_, '_>) -> Result<Tensor> {
        let norm = &self.before_attention;
        let attended = self.attention.forward(norm, x, caches)?;
        let x = self.after_attention.add_to(x, &attended)?;
        let fed = self.mlp.forward(&self.before_mlp, &x)?;
        self.after_mlp.add_to(&x, &fed)
    }

    fn describe(&self, program: &mut Builder) -> Result<bool> {
        let [attended, fed] = [&self.after_attention, &self.after_mlp].map(Some);
        let attention = &self.attention;
        Ok(
            attention.describe(&self.before_attention, attended, program)?
                && program.feed_forward(&self.before_mlp, &self.mlp, fed)?,
        )
    }
}

fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 131_072, 1e-6)?;
    let decoder = DecoderConfig {
        tied: decoder.tied.or(Some(true)),
        scale: Some((decoder.hidden as f32).sqrt()),
        norm_shift: 1.0,
        soft_cap: config.optional_number("final_logit_softcapping")?,
        ..decoder
    };
    let config = Config::read(config, decoder.layers)?;
    Decoder::load(decoder, loader, |layer, prefix, decoder| {
        Block::load(&config, decoder, loader, layer, prefix)
    })
}
