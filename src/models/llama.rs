//! Llama 1 to 3.3 and models of the same shape.

use super::layers::block::PreNorm;
use super::layers::decoder::{Decoder, DecoderConfig};
use super::layers::grouped::{Biases, GroupedAttention, GroupedConfig};
use super::{Loader, Model, Spec};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::ops::rope::Rope;

pub(super) const SPEC: Spec = Spec {
    names: &["LlamaForCausalLM"],
    load,
};

struct Config {
    attention: GroupedConfig,
    attention_bias: bool,
    intermediate: usize,
    mlp_bias: bool,
    rope: RopeConfig,
}

impl Config {
    fn read(config: &config::Config, hidden: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        Ok(Self {
            attention: GroupedConfig::read(config, hidden, None)?,
            attention_bias: config.flag_or("attention_bias", false)?,
            intermediate: config.size("intermediate_size")?,
            mlp_bias: config.flag_or("mlp_bias", false)?,
            rope: config.rope(10_000.0)?,
        })
    }
}

fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 2048, 1e-5)?;
    let config = Config::read(config, decoder.hidden)?;
    let biases = Biases::all(config.attention_bias);
    Decoder::load(decoder, loader, |_, prefix, decoder| {
        let rope = Rope::new(config.attention.width, &config.rope);
        let attention = config.attention.attention(loader, rope);
        let (hidden, inner) = (decoder.hidden, config.intermediate);
        let mlp = loader.gated_mlp(&format!("{prefix}.mlp"), hidden, inner, config.mlp_bias)?;
        let name = format!("{prefix}.self_attn");
        let attention = GroupedAttention::load(loader, &name, decoder.hidden, biases, attention)?;
        PreNorm::load(loader, prefix, decoder, attention, mlp)
    })
}
