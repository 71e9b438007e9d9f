//! Mistral 7B to Nemo and Small 3, as text: Llama's shape, where all layers may look back on a window.

use super::layers::decoder::DecoderConfig;
use super::layers::grouped::Windows;
use super::layers::plain::PlainConfig;
use super::roles::tables;
use super::{Loader, Model, Spec};
use crate::config::Config;
use crate::error::Result;

pub(super) const SPEC: Spec = Spec {
    names: &["MistralForCausalLM", "Mistral3ForConditionalGeneration"],
    tensors: tables::PLAIN,
    load,
};

fn load(config: &Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 131_072, 1e-6)?;
    let plain = PlainConfig {
        windows: Windows::read(config, decoder.layers, |_| true)?,
        ..PlainConfig::read(config, decoder.hidden)?
    };
    plain.load(decoder, loader)
}
