//! Qwen3, dense and with experts: Llama's shape with a norm on each query and key head.

use super::layers::block::{FeedForward, PreNorm};
use super::layers::decoder::{Decoder, DecoderConfig};
use super::layers::experts::SparseConfig;
use super::layers::grouped::{Biases, GroupedAttention, GroupedConfig, Windows};
use super::roles::{Tensors, tables};
use super::{Loader, Model, Spec};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::ops::attention::Attention;
use crate::ops::rope::Rope;

pub(super) const SPEC: Spec = Spec {
    names: &["Qwen3ForCausalLM"],
    tensors: Tensors {
        rules: &[
            tables::ENDS,
            tables::NORMS,
            tables::HEAD_NORMS,
            tables::ATTENTION,
            tables::GATED_MLP,
        ],
        saved_under: None,
        unused: &[],
    },
    load: |config, loader| load(config, loader, None),
};

pub(super) const EXPERTS: Spec = Spec {
    names: &["Qwen3MoeForCausalLM"],
    tensors: Tensors {
        rules: &[
            tables::ENDS,
            tables::NORMS,
            tables::HEAD_NORMS,
            tables::ATTENTION,
            tables::GATED_MLP,
            tables::ROUTED_EXPERTS,
            tables::ROUTER,
        ],
        saved_under: None,
        unused: &[],
    },
    load: |config, loader| {
        let sparse = SparseConfig::read(config, false)?;
        load(config, loader, Some(&sparse))
    },
};

struct Config {
    attention: GroupedConfig,
    attention_bias: bool,
    windows: Windows,
    intermediate: usize,
    rope: RopeConfig,
}

impl Config {
    fn read(config: &config::Config, hidden: usize, layers: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        Ok(Self {
            attention: GroupedConfig::read(config, hidden, Some(128))?,
            attention_bias: config.flag_or("attention_bias", false)?,
            windows: Windows::of_qwen(config, layers)?,
            intermediate: config.size("intermediate_size")?,
            rope: config.rope(1_000_000.0)?,
        })
    }
}

fn load(
    config: &config::Config,
    loader: &Loader<'_>,
    sparse: Option<&SparseConfig>,
) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 32_768, 1e-6)?;
    let config = Config::read(config, decoder.hidden, decoder.layers)?;
    let biases = Biases::all(config.attention_bias);
    Decoder::load(decoder, loader, |layer, prefix, decoder| {
        let rope = Rope::new(config.attention.width, &config.rope);
        let name = format!("{prefix}.self_attn");
        let attention = Attention {
            window: config.windows.of(layer),
            ..config
                .attention
                .normed_attention(loader, &name, rope, decoder)?
        };
        let (hidden, inner) = (decoder.hidden, config.intermediate);
        let name = format!("{prefix}.mlp");
        let mlp: Box<dyn FeedForward> = match sparse {
            Some(sparse) if sparse.is_sparse(layer) => {
                Box::new(sparse.load(loader, &name, hidden)?)
            }
            _ => Box::new(loader.gated_mlp(&name, hidden, inner, false)?),
        };
        let name = format!("{prefix}.self_attn");
        let attention = GroupedAttention::load(loader, &name, decoder.hidden, biases, attention)?;
        PreNorm::load(loader, prefix, decoder, attention, mlp)
    })
}
