//! Shapes of well-known models: what their `config.json` says, as data. Knows no weights.

use serde_json::{Map, Value, json};

use crate::config::{Config, PackingConfig};

/// The shape of a model whose weights are not needed to measure it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The name that people know it by.
    pub name: &'static str,
    architecture: &'static str,
    hidden: usize,
    layers: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    vocabulary: usize,
    /// The first of the special tokens, which the vocabulary ends with.
    pub first_special: u32,
    context: usize,
    theta: f32,
    epsilon: f32,
    /// The embedding serves as the head.
    tied: bool,
    /// `factor` of Llama 3's rotary scaling.
    llama3_factor: Option<f32>,
}

const QWEN3: Shape = Shape {
    name: "",
    architecture: "Qwen3ForCausalLM",
    hidden: 0,
    layers: 0,
    intermediate: 0,
    heads: 0,
    kv_heads: 8,
    head_width: 128,
    vocabulary: 151_936,
    first_special: 151_643,
    context: 40_960,
    theta: 1e6,
    epsilon: 1e-6,
    tied: true,
    llama3_factor: None,
};

const LLAMA3: Shape = Shape {
    architecture: "LlamaForCausalLM",
    vocabulary: 128_256,
    first_special: 128_000,
    context: 131_072,
    theta: 5e5,
    epsilon: 1e-5,
    ..QWEN3
};

/// Every shape, from the `config.json` that its makers published.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "qwen3-0.6b",
        hidden: 1024,
        layers: 28,
        intermediate: 3072,
        heads: 16,
        ..QWEN3
    },
    Shape {
        name: "qwen3-1.7b",
        hidden: 2048,
        layers: 28,
        intermediate: 6144,
        heads: 16,
        ..QWEN3
    },
    Shape {
        name: "qwen3-4b",
        hidden: 2560,
        layers: 36,
        intermediate: 9728,
        heads: 32,
        ..QWEN3
    },
    Shape {
        name: "qwen3-8b",
        hidden: 4096,
        layers: 36,
        intermediate: 12_288,
        heads: 32,
        tied: false,
        ..QWEN3
    },
    Shape {
        name: "llama-3.2-1b",
        hidden: 2048,
        layers: 16,
        intermediate: 8192,
        heads: 32,
        head_width: 64,
        llama3_factor: Some(32.0),
        ..LLAMA3
    },
    Shape {
        name: "llama-3.2-3b",
        hidden: 3072,
        layers: 28,
        intermediate: 8192,
        heads: 24,
        llama3_factor: Some(32.0),
        ..LLAMA3
    },
    Shape {
        name: "llama-3.1-8b",
        hidden: 4096,
        layers: 32,
        intermediate: 14_336,
        heads: 32,
        tied: false,
        llama3_factor: Some(8.0),
        ..LLAMA3
    },
];

impl Shape {
    /// Its configuration, with every matrix packed alike, or none.
    pub fn config(&self, packing: Option<&PackingConfig>) -> Config {
        let scaling = self.llama3_factor.map(|factor| {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            })
        });
        let quantization = packing.map(|packing| {
            json!({
                "mode": packing.mode,
                "group_size": packing.group_size,
                "bits": packing.bits,
            })
        });
        let fields = [
            ("architectures", json!([self.architecture])),
            ("hidden_act", json!("silu")),
            ("hidden_size", json!(self.hidden)),
            ("num_hidden_layers", json!(self.layers)),
            ("intermediate_size", json!(self.intermediate)),
            ("num_attention_heads", json!(self.heads)),
            ("num_key_value_heads", json!(self.kv_heads)),
            ("head_dim", json!(self.head_width)),
            ("vocab_size", json!(self.vocabulary)),
            ("max_position_embeddings", json!(self.context)),
            ("rope_theta", json!(self.theta)),
            ("rms_norm_eps", json!(self.epsilon)),
            ("tie_word_embeddings", json!(self.tied)),
            ("rope_scaling", json!(scaling)),
            ("quantization", json!(quantization)),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        Config::of(self.name, Map::<String, Value>::from_iter(fields))
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
        let millions = [596, 1721, 4022, 8191, 1236, 3213, 8030];
        for (shape, millions) in SHAPES.iter().zip(millions) {
            let (queries, kv) = (
                shape.heads * shape.head_width,
                shape.kv_heads * shape.head_width,
            );
            let attention = shape.hidden * (2 * queries + 2 * kv);
            let layer = attention + 3 * shape.hidden * shape.intermediate;
            let embeddings = if shape.tied { 1 } else { 2 };
            let all = shape.layers * layer + embeddings * shape.vocabulary * shape.hidden;
            // The weights of norms are not worth counting here.
            let difference = all.abs_diff(millions * 1_000_000);
            assert!(difference < 1_000_000, "{}: {all}", shape.name);
        }
    }

    /// Logits of three tokens of a small model of this shape.
    fn logits(shape: &super::Shape, packing: Option<&str>) -> Result<(Vec<f32>, String)> {
        let small = super::Shape {
            hidden: 256,
            layers: 12,
            intermediate: 512,
            heads: 16,
            vocabulary: 1024,
            ..shape.clone()
        };
        let packing = packing.map(|packing| packing.parse().unwrap());
        let loaded = load(&Source::Random(small, packing), Precision::Float32, &Silent)?;
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
        let untied = SHAPES.iter().find(|shape| !shape.tied).unwrap();
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
