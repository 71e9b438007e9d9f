//! Attention over latent rows that all heads share (DeepSeek-V2, arXiv:2405.04434): what is kept of a token is
//! one row, and heads differ in how queries meet it and what is made of sums.

use super::block::Mixer;
use super::decoder::DecoderConfig;
use crate::cache::{LayerCaches, LayerKind};
use crate::config::Config;
use crate::error::Result;
use crate::models::Loader;
use crate::ops::attention::Attention;
use crate::ops::heads::{HeadLinear, join, split};
use crate::ops::linear::{Linear, project};
use crate::ops::norm::RmsNorm;
use crate::ops::rope::Rope;
use crate::ops::tensor::Tensor;

/// Of the norms within, whatever that of the others is.
const EPSILON: f32 = 1e-6;

/// Widths, under the names of the paper's code.
pub(in crate::models) struct LatentConfig {
    heads: usize,
    /// Width of what queries are made from, if not of hidden states.
    query_rank: Option<usize>,
    /// Width of a latent row.
    rank: usize,
    /// Width of a query that meets the latent row.
    key: usize,
    /// Width of a query and a key that turn.
    pub(in crate::models) rotated: usize,
    value: usize,
    bias: bool,
}

impl LatentConfig {
    pub(in crate::models) fn read(config: &Config) -> Result<Self> {
        let rotated = config.size("qk_rope_head_dim")?;
        if !rotated.is_multiple_of(2) {
            return Err(config.problem(format!("`qk_rope_head_dim` {rotated} is odd")));
        }
        Ok(Self {
            heads: config.size("num_attention_heads")?,
            query_rank: config.optional_size("q_lora_rank")?,
            rank: config.size("kv_lora_rank")?,
            key: config.size("qk_nope_head_dim")?,
            rotated,
            value: config.size("v_head_dim")?,
            bias: config.flag_or("attention_bias", false)?,
        })
    }

    /// Loads the layer `prefix`; `stretch` is what scores are multiplied by beside `1/√width`.
    pub(in crate::models) fn load(
        &self,
        loader: &Loader<'_>,
        prefix: &str,
        decoder: &DecoderConfig,
        rope: Rope,
        stretch: f32,
    ) -> Result<LatentAttention> {
        let &Self {
            heads,
            rank,
            key,
            rotated,
            value,
            bias,
            ..
        } = self;
        let hidden = decoder.hidden;
        let linear = |name: &str, inputs: usize, outputs: usize, bias: bool| {
            loader.linear(&format!("{prefix}.{name}"), inputs, outputs, bias)
        };
        let norm =
            |name: &str, width: usize| loader.norm(&format!("{prefix}.{name}"), width, EPSILON);
        let queries = heads * (key + rotated);
        let (query, ranked) = match self.query_rank {
            None => (linear("q_proj", hidden, queries, false)?, None),
            Some(rank) => (
                linear("q_a_proj", hidden, rank, bias)?,
                Some((
                    norm("q_a_layernorm", rank)?,
                    linear("q_b_proj", rank, queries, false)?,
                )),
            ),
        };
        let [embed, unembed] = loader.absorbed(prefix, heads, [key, value], rank)?;
        Ok(LatentAttention {
            query,
            ranked,
            latent: linear("kv_a_proj_with_mqa", hidden, rank + rotated, bias)?,
            latent_norm: norm("kv_a_layernorm", rank)?,
            embed: HeadLinear::new(embed, heads)?,
            unembed: HeadLinear::new(unembed, heads)?,
            output: linear("o_proj", heads * value, hidden, bias)?,
            attention: Attention {
                value_width: rank,
                values_in_keys: true,
                scale: stretch * ((key + rotated) as f32).powf(-0.5),
                ..Attention::new([heads, 1], rotated + rank, rope, loader.host_cache())
            },
            key,
        })
    }
}

/// Projections of one layer, and what is between them.
pub(in crate::models) struct LatentAttention {
    /// Makes queries, or what they are made from.
    query: Linear,
    ranked: Option<(RmsNorm, Linear)>,
    /// Makes a latent row, and a key that turns.
    latent: Linear,
    latent_norm: RmsNorm,
    embed: HeadLinear,
    unembed: HeadLinear,
    output: Linear,
    /// A key is the turned part and then the latent row, which is the value too.
    attention: Attention,
    /// Width of a query that meets the latent row.
    key: usize,
}

impl Mixer for LatentAttention {
    fn kind(&self, number_bytes: usize) -> LayerKind {
        LayerKind::Keys {
            window: self.attention.window,
            bytes: self.attention.bytes_per_position(number_bytes),
        }
    }

    fn add_to(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        caches: &mut LayerCaches<'_, '_>,
    ) -> Result<Tensor> {
        let heads = self.attention.heads;
        let [mut queries, latent] = project(norm, [&self.query, &self.latent], x)?;
        if let Some((norm, up)) = &self.ranked {
            [queries] = project(norm, [up], &queries)?;
        }
        let [query, turning] = split(&queries, heads, self.key)?;
        let queries = join(&turning, &self.embed.apply(&query)?, heads)?;
        let [latent, turning] = split(&latent, 1, self.attention.value_width)?;
        let values = self.latent_norm.apply(&latent)?;
        let keys = join(&turning, &values, 1)?;
        let rows = [queries, keys, values];
        let sums = caches.attend(&self.attention, &rows)?;
        self.output.add_to(x, &self.unembed.apply(&sums)?)
    }
}
