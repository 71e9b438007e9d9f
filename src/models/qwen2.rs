//! Qwen2 and Qwen2.5, dense: Llama's shape with biases on what makes queries, keys and values.

use super::layers::decoder::DecoderConfig;
use super::layers::grouped::{Biases, Windows};
use super::layers::plain::PlainConfig;
use super::roles::tables;
use super::{Loader, Model, Spec};
use crate::config::Config;
use crate::error::Result;

pub(super) const SPEC: Spec = Spec {
    names: &["Qwen2ForCausalLM"],
    tensors: tables::PLAIN,
    load,
};

fn load(config: &Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 32_768, 1e-6)?;
    let plain = PlainConfig {
        attention_biases: Biases {
            inputs: true,
            output: false,
        },
        windows: Windows::of_qwen(config, decoder.layers)?,
        ..PlainConfig::read(config, decoder.hidden)?
    };
    plain.load(decoder, loader)
}
