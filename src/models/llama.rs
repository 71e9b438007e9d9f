//! Llama 1 to 3.3 and models of the same shape.

use super::layers::decoder::DecoderConfig;
use super::layers::grouped::Biases;
use super::layers::plain::PlainConfig;
use super::roles::tables;
use super::{Loader, Model, Spec};
use crate::config::Config;
use crate::error::Result;

pub(super) const SPEC: Spec = Spec {
    names: &["LlamaForCausalLM"],
    tensors: tables::PLAIN,
    load,
};

fn load(config: &Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 2048, 1e-5)?;
    let plain = PlainConfig {
        attention_biases: Biases::all(config.flag_or("attention_bias", false)?),
        mlp_bias: config.flag_or("mlp_bias", false)?,
        ..PlainConfig::read(config, decoder.hidden)?
    };
    plain.load(decoder, loader)
}
