//! Qwen3, dense: Llama's shape with a norm on each query and key head.

use super::{Loader, Model, Spec};
use crate::cache::{SequenceCache, attend};
use crate::config;
use crate::error::Result;
use crate::ops::attention::Attention as Heads;
use crate::ops::batch::Batch;
use crate::ops::embedding::Embedding;
use crate::ops::linear::{Linear, project};
use crate::ops::mlp::SwiGlu as Mlp;
use crate::ops::norm::RmsNorm;
use crate::ops::rope::Rope;
use crate::ops::tensor::Tensor;

pub(super) const SPEC: Spec = Spec {
    names: &["Qwen3ForCausalLM"],
    load: |config, loader| Ok(Box::new(Qwen3::load(config, loader)?)),
};

struct Config {
    hidden: usize,
    layers: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    vocabulary: usize,
    context: usize,
    epsilon: f32,
    attention_bias: bool,
    /// The embedding serves as the head.
    tied: bool,
    rope: config::RopeConfig,
}

impl Config {
    fn read(config: &config::Config, has_head: bool) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        if config.flag_or("use_sliding_window", false)? {
            return Err(
                config.problem("`use_sliding_window` is true, which is not supported".to_owned())
            );
        }
        let hidden = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        let kv_heads = config
            .optional_size("num_key_value_heads")?
            .unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(config.problem(format!(
                "`num_key_value_heads` {kv_heads} does not divide {heads} heads"
            )));
        }
        Ok(Self {
            hidden,
            layers: config.size("num_hidden_layers")?,
            intermediate: config.size("intermediate_size")?,
            heads,
            kv_heads,
            head_width: config.head_width(128)?,
            vocabulary: config.size("vocab_size")?,
            context: config
                .optional_size("max_position_embeddings")?
                .unwrap_or(32_768),
            epsilon: config.epsilon("rms_norm_eps", 1e-6)?,
            attention_bias: config.flag_or("attention_bias", false)?,
            tied: config.flag_or("tie_word_embeddings", !has_head)?,
            rope: config.rope(1_000_000.0)?,
        })
    }
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: Heads,
}

impl Attention {
    fn load(config: &Config, loader: &Loader<'_>, prefix: &str) -> Result<Self> {
        let (hidden, width, bias) = (config.hidden, config.head_width, config.attention_bias);
        let projection = |name: &str, heads: usize| {
            loader.linear(&format!("{prefix}.{name}"), hidden, heads * width, bias)
        };
        Ok(Self {
            query: projection("q_proj", config.heads)?,
            key: projection("k_proj", config.kv_heads)?,
            value: projection("v_proj", config.kv_heads)?,
            output: loader.linear(
                &format!("{prefix}.o_proj"),
                config.heads * width,
                hidden,
                bias,
            )?,
            heads: Heads {
                heads: config.heads,
                kv_heads: config.kv_heads,
                width,
                scale: (width as f32).powf(-0.5),
                rope: Rope::new(width, &config.rope),
                query_norm: Some(loader.norm(
                    &format!("{prefix}.q_norm"),
                    width,
                    config.epsilon,
                )?),
                key_norm: Some(loader.norm(&format!("{prefix}.k_norm"), width, config.epsilon)?),
                host: loader.host_cache(),
            },
        })
    }

    /// `x + output(attention(norm(x)))`.
    fn add_to(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        batch: &Batch,
        caches: &mut [&mut SequenceCache],
        layer: usize,
    ) -> Result<Tensor> {
        let projected = project(norm, [&self.query, &self.key, &self.value], x)?;
        let attended = attend(&self.heads, batch, caches, layer, &projected)?;
        self.output.add_to(x, &attended)
    }
}

struct Block {
    attention: Attention,
    mlp: Mlp,
    attention_norm: RmsNorm,
    mlp_norm: RmsNorm,
}

impl Block {
    fn load(config: &Config, loader: &Loader<'_>, prefix: &str) -> Result<Self> {
        let norm =
            |name: &str| loader.norm(&format!("{prefix}.{name}"), config.hidden, config.epsilon);
        Ok(Self {
            attention: Attention::load(config, loader, &format!("{prefix}.self_attn"))?,
            mlp: loader.swiglu(
                &format!("{prefix}.mlp"),
                config.hidden,
                config.intermediate,
                false,
            )?,
            attention_norm: norm("input_layernorm")?,
            mlp_norm: norm("post_attention_layernorm")?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        batch: &Batch,
        caches: &mut [&mut SequenceCache],
        layer: usize,
    ) -> Result<Tensor> {
        let norm = &self.attention_norm;
        let x = self.attention.add_to(norm, x, batch, caches, layer)?;
        self.mlp.add_to(&self.mlp_norm, &x)
    }
}

struct Qwen3 {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    config: Config,
}

impl Qwen3 {
    fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Self> {
        let config = Config::read(config, loader.has("lm_head.weight"))?;
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        let embedding = loader.embedding("model.embed_tokens", vocabulary, hidden)?;
        let head = if config.tied {
            loader.skip("lm_head.");
            embedding.as_linear()
        } else {
            loader.linear("lm_head", hidden, vocabulary, false)?
        };
        Ok(Self {
            embedding,
            blocks: (0..config.layers)
                .map(|layer| Block::load(&config, loader, &format!("model.layers.{layer}")))
                .collect::<Result<_>>()?,
            norm: loader.norm("model.norm", hidden, config.epsilon)?,
            head,
            config,
        })
    }
}

impl Model for Qwen3 {
    fn context(&self) -> usize {
        self.config.context
    }

    fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    fn new_cache(&self) -> SequenceCache {
        SequenceCache::new(self.blocks.len())
    }

    fn forward(&self, batch: &Batch, caches: &mut [&mut SequenceCache]) -> Result<Tensor> {
        let mut x = self.embedding.forward(batch)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, batch, caches, layer)?;
        }
        Ok(x)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let [logits] = project(&self.norm, [&self.head], hidden)?;
        Ok(logits)
    }
}
