//! Shapes of well-known models: what their `config.json` says, as far as it tells how they compute. Knows no
//! weights.

use serde_json::{Map, Value, json};

use crate::config::{Config, PackingConfig};

/// The shape of a model whose weights are not needed to measure it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The name that people know it by.
    pub name: &'static str,
    /// The first of the special tokens, which the vocabulary ends with.
    pub first_special: u32,
    /// Its `config.json`.
    config: &'static str,
    /// Sizes that are others than in its `config.json`.
    changes: &'static [(&'static str, usize)],
}

macro_rules! shape {
    ($name:literal, $first_special:literal) => {
        Shape {
            name: $name,
            first_special: $first_special,
            config: include_str!(concat!("shapes/", $name, ".json")),
            changes: &[],
        }
    };
}

/// Every shape, from the `config.json` that its makers published.
pub const SHAPES: &[Shape] = &[
    shape!("qwen3-0.6b", 151_643),
    shape!("qwen3-1.7b", 151_643),
    shape!("qwen3-4b", 151_643),
    shape!("qwen3-8b", 151_643),
    shape!("qwen3-30b-a3b", 151_643),
    shape!("llama-3.2-1b", 128_000),
    shape!("llama-3.2-3b", 128_000),
    shape!("llama-3.1-8b", 128_000),
    // Gemma's vocabulary begins with the special ones, and ends with those for images.
    shape!("gemma-3-1b", 262_144),
    shape!("gemma-3-4b", 262_144),
    shape!("gpt-oss-20b", 199_998),
    // Some of the layers of models that are larger than the memory of most machines.
    shape!("qwen3-next-80b-8l", 151_643),
    shape!("glm-4.7-flash-12l", 154_820),
];

impl Shape {
    /// Its configuration, with every matrix packed alike, or none.
    pub fn config(&self, packing: Option<&PackingConfig>) -> Config {
        // A test reads them all.
        let mut fields: Map<String, Value> = serde_json::from_str(self.config).unwrap_or_default();
        for (name, size) in self.changes {
            fields.insert((*name).to_owned(), json!(size));
        }
        if let Some(packing) = packing {
            let packing = json!({
                "mode": packing.mode.name(),
                "group_size": packing.group_size,
                "bits": packing.bits,
            });
            fields.insert("quantization".to_owned(), packing);
        }
        Config::of(self.name, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::SHAPES;
    use crate::error::Result;
    use crate::mlx::{DeviceChoice, open};
    use crate::models::{Precision, Source, load};
    use crate::ops::batch::Batch;
    use crate::progress::Silent;

    #[test]
    fn the_shapes_have_the_parameters_that_their_makers_count() {
        let millions = [596, 1721, 4022, 8191, 30_532, 1236, 3213, 8030, 1000, 3880];
        for (shape, millions) in SHAPES.iter().zip(millions) {
            let config = shape.config(None);
            let size = |field: &str| config.optional_size(field).unwrap();
            let of = |field: &str| config.size(field).unwrap();
            let (hidden, width) = (of("hidden_size"), of("head_dim"));
            let heads = 2 * of("num_attention_heads") + 2 * of("num_key_value_heads");
            let experts = size("num_experts");
            let router = experts.unwrap_or(0);
            let inner = size("moe_intermediate_size").unwrap_or(of("intermediate_size"));
            let inner = inner * experts.unwrap_or(1);
            let layer = hidden * (heads * width + 3 * inner + router);
            let tied = config.flag_or("tie_word_embeddings", false).unwrap();
            let embeddings = if tied { 1 } else { 2 };
            let all = of("num_hidden_layers") * layer + embeddings * of("vocab_size") * hidden;
            // The weights of norms are not worth counting here.
            let difference = all.abs_diff(millions * 1_000_000);
            assert!(difference < 1_000_000, "{}: {all}", shape.name);
        }
    }

    /// Logits of three tokens of a small model of this shape.
    fn logits(shape: &super::Shape, packing: Option<&str>) -> Result<(Vec<f32>, String)> {
        let small = super::Shape {
            changes: &[
                ("hidden_size", 256),
                ("num_hidden_layers", 12),
                ("intermediate_size", 512),
                ("moe_intermediate_size", 128),
                ("num_attention_heads", 16),
                ("vocab_size", 1024),
            ],
            ..shape.clone()
        };
        let packing = packing.map(|packing| packing.parse().unwrap());
        let loaded = load(
            &Source::Random(small, packing),
            Precision::Float32,
            usize::MAX,
            None,
            &Silent,
        )?;
        let mut cache = loaded.model.new_cache();
        let batch = Batch::new(&[(0, 0, &[5, 77, 900])])?;
        let hidden = loaded.model.forward(&batch, &mut [&mut cache])?;
        let logits = loaded.model.logits(&hidden)?;
        Ok((logits.into_numbers()?, loaded.quantization))
    }

    #[test]
    fn made_up_weights_of_every_packing_give_logits_that_are_numbers_and_differ() {
        open(DeviceChoice::Cpu, None).unwrap();
        let packings = [
            "affine2g32",
            "affine3g64",
            "affine4g64",
            "affine5g32",
            "affine6g128",
            "affine8g64",
            "mxfp4",
            "mxfp8",
            "nvfp4",
        ];
        let tied = &SHAPES[0];
        let untied = &SHAPES[3];
        let packings = packings.map(|name| (name, Some(name)));
        for (shape, (name, packing)) in [(untied, ("bf16", None)), (tied, ("bf16", None))]
            .into_iter()
            .chain(packings.map(|packing| (untied, packing)))
        {
            let (logits, quantization) = logits(shape, packing).unwrap();
            assert_eq!(quantization, name);
            let count = logits.len() as f32;
            let mean = logits.iter().sum::<f32>() / count;
            let squares: f32 = logits.iter().map(|x| (x - mean).powi(2)).sum();
            let deviation = (squares / count).sqrt();
            // Rows of 256 numbers that deviate by 0.02 times a normed vector give 0.32.
            assert!((0.2..0.6).contains(&deviation), "{name}: {deviation}");
            assert!(mean.abs() < 0.1, "{name}: {mean}");
        }
    }
}
