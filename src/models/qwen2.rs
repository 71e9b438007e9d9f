//! Qwen2 and Qwen2.5, dense: Llama's shape with biases on what makes queries, keys and values.

use super::layers::block::PreNorm;
use super::layers::decoder::{Decoder, DecoderConfig};
use super::layers::grouped::{Biases, GroupedAttention, GroupedConfig, Windows};
use super::{Loader, Model, Spec};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::ops::attention::Attention;
use crate::ops::rope::Rope;

pub(super) const SPEC: Spec = Spec {
    names: &["Qwen2ForCausalLM"],
    load,
};

const BIASES: Biases = Biases {
    inputs: true,
    output: false,
};

struct Config {
    attention: GroupedConfig,
    windows: Windows,
    intermediate: usize,
    rope: RopeConfig,
}

impl Config {
    fn read(config: &config::Config, hidden: usize, layers: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        Ok(Self {
            attention: GroupedConfig::read(config, hidden, None)?,
            windows: Windows::of_qwen(config, layers)?,
            intermediate: config.size("intermediate_size")?,
            rope: config.rope(10_000.0)?,
        })
    }
}

fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 32_768, 1e-6)?;
    let config = Config::read(config, decoder.hidden, decoder.layers)?;
    Decoder::load(decoder, loader, |layer, prefix, decoder| {
        let rope = Rope::new(config.attention.width, &config.rope);
        let attention = Attention {
            window: config.windows.of(layer),
            ..config.attention.attention(loader, rope)
        };
        let (hidden, inner) = (decoder.hidden, config.intermediate);
        let mlp = loader.gated_mlp(&format!("{prefix}.mlp"), hidden, inner, false)?;
        let name = format!("{prefix}.self_attn");
        let attention = GroupedAttention::load(loader, &name, decoder.hidden, BIASES, attention)?;
        PreNorm::load(loader, prefix, decoder, attention, mlp)
    })
}
