//! Llama's shape, which many have: grouped attention and a gated feed-forward layer, all layers alike.

use super::block::PreNorm;
use super::decoder::{Decoder, DecoderConfig};
use super::grouped::{Biases, GroupedAttention, GroupedConfig, Windows};
use crate::config::{Config, RopeConfig};
use crate::error::Result;
use crate::models::{Loader, Model};
use crate::ops::attention::Attention;
use crate::ops::rope::Rope;

/// What models of this shape differ in.
pub(in crate::models) struct PlainConfig {
    pub(in crate::models) attention: GroupedConfig,
    pub(in crate::models) attention_biases: Biases,
    pub(in crate::models) windows: Windows,
    pub(in crate::models) mlp_bias: bool,
    pub(in crate::models) intermediate: usize,
    pub(in crate::models) rope: RopeConfig,
    /// Whether a layer is told positions; all are where the list is empty.
    pub(in crate::models) positions: Vec<bool>,
}

impl PlainConfig {
    /// Reads the fields that all of them have: no biases, no windows, positions for every layer.
    pub(in crate::models) fn read(config: &Config, hidden: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        Ok(Self {
            attention: GroupedConfig::read(config, hidden, None)?,
            attention_biases: Biases::all(false),
            windows: Windows::none(),
            mlp_bias: false,
            intermediate: config.size("intermediate_size")?,
            rope: config.rope(10_000.0)?,
            positions: Vec::new(),
        })
    }

    /// Loads all layers and the ends.
    pub(in crate::models) fn load(
        self,
        decoder: DecoderConfig,
        loader: &Loader<'_>,
    ) -> Result<Box<dyn Model>> {
        Decoder::load(decoder, loader, |layer, prefix, decoder| {
            let (hidden, inner) = (decoder.hidden, self.intermediate);
            let rope = Rope::new(self.attention.width, &self.rope);
            let rope = match self.positions.get(layer) {
                Some(false) => rope.without_positions(),
                _ => rope,
            };
            let attention = Attention {
                window: self.windows.of(layer),
                ..self.attention.attention(loader, rope)
            };
            let (name, biases) = (format!("{prefix}.self_attn"), self.attention_biases);
            let attention = GroupedAttention::load(loader, &name, hidden, biases, attention)?;
            let mlp = loader.gated_mlp(&format!("{prefix}.mlp"), hidden, inner, self.mlp_bias)?;
            PreNorm::load(loader, prefix, decoder, attention, mlp)
        })
    }
}
