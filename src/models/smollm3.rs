//! `SmolLM3`: Llama's shape, where some layers are told no positions (`NoPE`, Kazemnejad et al. 2023,
//! arXiv:2305.19466).

use super::layers::decoder::DecoderConfig;
use super::layers::grouped::{Biases, Windows};
use super::layers::plain::PlainConfig;
use super::roles::tables;
use super::{Loader, Model, Spec};
use crate::config::Config;
use crate::error::Result;

pub(super) const SPEC: Spec = Spec {
    names: &["SmolLM3ForCausalLM"],
    tensors: tables::PLAIN,
    load,
};

/// Of so many layers the last is told no positions, where the configuration says nothing (reference: 4).
const INTERVAL: usize = 4;

fn load(config: &Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 32_768, 1e-6)?;
    let positions = positions(config, decoder.layers)?;
    let windows = if config.flag_or("use_sliding_window", false)? {
        Windows::read(config, decoder.layers, |layer| !positions[layer])?
    } else {
        Windows::none()
    };
    let plain = PlainConfig {
        attention_biases: Biases::all(config.flag_or("attention_bias", false)?),
        mlp_bias: config.flag_or("mlp_bias", false)?,
        windows,
        rope: config.rope(2_000_000.0)?,
        positions,
        ..PlainConfig::read(config, decoder.hidden)?
    };
    plain.load(decoder, loader)
}

/// Whether each layer is told positions: what `no_rope_layers` says, which is 1 for those that are.
fn positions(config: &Config, layers: usize) -> Result<Vec<bool>> {
    let field = "no_rope_layers";
    let given = config.indices(field)?;
    if given.is_empty() {
        let interval = config.optional_size("no_rope_layer_interval")?;
        let interval = interval.unwrap_or(INTERVAL);
        return Ok((1..=layers)
            .map(|layer| !layer.is_multiple_of(interval))
            .collect());
    }
    if given.len() != layers {
        return Err(config.problem(format!(
            "`{field}` has {} entries for {layers} layers",
            given.len()
        )));
    }
    let positions = given.into_iter().map(|number| match number {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(config.problem(format!(
            "`{field}` has {other}, and only 0 or 1 means anything"
        ))),
    });
    positions.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::config::Config;
    use crate::error::Result;
    use crate::mlx::{DeviceChoice, open};
    use crate::models::{Precision, load_from};
    use crate::ops::batch::Batch;
    use crate::progress::Silent;
    use crate::weights::Weights;

    /// Logits of the last of some tokens, of a small model with made-up weights.
    fn logits(architecture: &str, layers: usize, more: &Value, tokens: &[i32]) -> Result<Vec<f32>> {
        open(DeviceChoice::Cpu, None)?;
        let mut fields = json!({
            "architectures": [architecture],
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_theta": 10_000.0,
            "vocab_size": 128,
            "tie_word_embeddings": false,
        });
        let fields = fields.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let config = Config::of("config.json", fields.clone());
        let weights = Weights::random(None);
        let loaded = load_from(
            &config,
            &weights,
            Precision::Float32,
            usize::MAX,
            None,
            &Silent,
        )?;
        let batch = Batch::new(&[(0, 0, tokens)])?;
        let hidden = loaded
            .model
            .forward(&batch, &mut [&mut loaded.model.new_cache()])?;
        let logits = loaded.model.logits(&hidden)?.into_numbers()?;
        Ok(logits[logits.len() - 128..].to_vec())
    }

    fn smollm3(layers: usize, more: &Value, tokens: &[i32]) -> Vec<f32> {
        logits("SmolLM3ForCausalLM", layers, more, tokens).unwrap()
    }

    fn furthest(a: &[f32], b: &[f32]) -> f32 {
        let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    }

    const TOKENS: [i32; 6] = [3, 99, 14, 15, 92, 65];

    #[test]
    fn it_is_llama_where_every_layer_is_told_positions() {
        let told = smollm3(4, &json!({"no_rope_layers": [1, 1, 1, 1]}), &TOKENS);
        let llama = logits(
            "LlamaForCausalLM",
            4,
            &json!({"rms_norm_eps": 1e-6}),
            &TOKENS,
        );
        assert_eq!(told, llama.unwrap());
    }

    #[test]
    fn a_layer_that_is_told_no_positions_does_not_know_the_order_of_what_was_before() {
        let reordered = [92, 14, 3, 15, 99, 65];
        let without = json!({"no_rope_layers": [0]});
        let off = |layers: &Value| {
            let [a, b] = [&TOKENS, &reordered].map(|tokens| smollm3(1, layers, tokens));
            furthest(&a, &b)
        };
        let (unknown, known) = (off(&without), off(&json!({"no_rope_layers": [1]})));
        assert!(unknown < 1e-6, "{unknown}");
        assert!(known > 1e-5, "{known}");
    }

    #[test]
    fn every_fourth_layer_is_told_none_unless_it_says_otherwise() {
        let default = smollm3(5, &json!({}), &TOKENS);
        let listed = |list: [u32; 5]| smollm3(5, &json!({"no_rope_layers": list}), &TOKENS);
        assert_eq!(default, listed([1, 1, 1, 0, 1]));
        assert_ne!(default, listed([1, 1, 1, 1, 1]));
        let second = smollm3(5, &json!({"no_rope_layer_interval": 2}), &TOKENS);
        assert_eq!(second, listed([1, 0, 1, 0, 1]));
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused() {
        for (list, expected) in [
            (json!([1, 0]), "`no_rope_layers` has 2 entries for 4 layers"),
            (
                json!([1, 0, 1, 2]),
                "`no_rope_layers` has 2, and only 0 or 1",
            ),
            (json!("all"), "`no_rope_layers` is \"all\", not a list"),
        ] {
            let more = json!({"no_rope_layers": list});
            let error = logits("SmolLM3ForCausalLM", 4, &more, &TOKENS).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
