//! Attention whose query heads share the heads of keys and values: what most architectures have.

use std::ops::Range;
use std::sync::Arc;

use super::block::Mixer;
use super::decoder::DecoderConfig;
use crate::cache::{LayerCaches, LayerKind};
use crate::config::Config;
use crate::error::Result;
use crate::mlx::Group;
use crate::models::Loader;
use crate::ops::attention::Attention;
use crate::ops::decode::Builder;
use crate::ops::heads::split;
use crate::ops::linear::{Linear, project};
use crate::ops::norm::RmsNorm;
use crate::ops::rope::Rope;
use crate::ops::tensor::Tensor;

/// Heads and their widths.
pub(in crate::models) struct GroupedConfig {
    pub(in crate::models) heads: usize,
    pub(in crate::models) kv_heads: usize,
    pub(in crate::models) width: usize,
}

impl GroupedConfig {
    /// Reads the fields that all architectures have; `width` is that of heads where they say nothing,
    /// by default the hidden states' share of each.
    pub(in crate::models) fn read(
        config: &Config,
        hidden: usize,
        width: Option<usize>,
    ) -> Result<Self> {
        let heads = config.size("num_attention_heads")?;
        let kv_heads = config.optional_size("num_key_value_heads")?;
        let width = config.head_width(width.unwrap_or(hidden / heads))?;
        Self::new(config, heads, kv_heads.unwrap_or(heads), width)
    }

    /// Checks that the heads can be grouped.
    pub(in crate::models) fn new(
        config: &Config,
        heads: usize,
        kv_heads: usize,
        width: usize,
    ) -> Result<Self> {
        if !heads.is_multiple_of(kv_heads) {
            return Err(config.problem(format!(
                "`num_key_value_heads` {kv_heads} does not divide {heads} heads"
            )));
        }
        Ok(Self {
            heads,
            kv_heads,
            width,
        })
    }

    /// Heads that see everything, without norms; turned by `rope`.
    pub(in crate::models) fn attention(&self, loader: &Loader<'_>, rope: Rope) -> Attention {
        let heads = [self.heads, self.kv_heads];
        Attention::new(heads, self.width, rope, loader.host_cache())
    }

    /// The same, with the norms `prefix.q_norm` and `prefix.k_norm` of each query and key head.
    pub(in crate::models) fn normed_attention(
        &self,
        loader: &Loader<'_>,
        prefix: &str,
        rope: Rope,
        decoder: &DecoderConfig,
    ) -> Result<Attention> {
        let norm = |name: &str| {
            let (epsilon, shift) = (decoder.epsilon, decoder.norm_shift);
            loader.shifted_norm(&format!("{prefix}.{name}"), self.width, epsilon, shift)
        };
        Ok(Attention {
            query_norm: Some(norm("q_norm")?),
            key_norm: Some(norm("k_norm")?),
            ..self.attention(loader, rope)
        })
    }
}

/// Which projections have biases.
#[derive(Clone, Copy)]
pub(in crate::models) struct Biases {
    /// Those of queries, keys and values.
    pub(in crate::models) inputs: bool,
    pub(in crate::models) output: bool,
}

impl Biases {
    /// On all or none.
    pub(in crate::models) fn all(are_there: bool) -> Self {
        Self {
            inputs: are_there,
            output: are_there,
        }
    }
}

/// Which layers look back on a window only.
pub(in crate::models) struct Windows {
    window: Option<usize>,
    sliding: Vec<bool>,
}

impl Windows {
    /// No layer does.
    pub(in crate::models) fn none() -> Self {
        Self {
            window: None,
            sliding: Vec::new(),
        }
    }

    /// As `layer_types` says, or `default` for a layer where there are none; the window is
    /// `sliding_window`, and if there is none no layer has one.
    pub(in crate::models) fn read(
        config: &Config,
        layers: usize,
        default: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let kinds = [("sliding_attention", true), ("full_attention", false)];
        let sliding = match config.kinds("layer_types", layers, &kinds)? {
            Some(sliding) => sliding,
            None => (0..layers).map(default).collect(),
        };
        Ok(Self {
            window: config.optional_size("sliding_window")?,
            sliding,
        })
    }

    /// Qwen's: only where `use_sliding_window` says so, from layer `max_window_layers` on.
    pub(in crate::models) fn of_qwen(config: &Config, layers: usize) -> Result<Self> {
        if !config.flag_or("use_sliding_window", false)? {
            return Ok(Self::none());
        }
        let first = config.optional_count("max_window_layers")?.unwrap_or(0);
        Self::read(config, layers, |layer| layer >= first)
    }

    /// How many positions a query of a layer sees, if not all.
    pub(in crate::models) fn of(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| self.is_sliding(layer))
    }

    /// Whether a layer is of the kind that looks back on a window.
    pub(in crate::models) fn is_sliding(&self, layer: usize) -> bool {
        self.sliding.get(layer).copied().unwrap_or(false)
    }
}

/// Projections of one layer, and what is between them.
pub(in crate::models) struct GroupedAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention: Attention,
    /// Each head's queries are followed by what gates its output.
    gated: bool,
}

impl GroupedAttention {
    /// Loads `prefix.{q,k,v,o}_proj`.
    pub(in crate::models) fn load(
        loader: &Loader<'_>,
        prefix: &str,
        hidden: usize,
        biases: Biases,
        attention: Attention,
    ) -> Result<Self> {
        Self::of_queries(loader, prefix, hidden, biases, attention, false)
    }

    /// The same where `prefix.q_proj` makes queries and gates.
    pub(in crate::models) fn gated(
        loader: &Loader<'_>,
        prefix: &str,
        hidden: usize,
        biases: Biases,
        attention: Attention,
    ) -> Result<Self> {
        Self::of_queries(loader, prefix, hidden, biases, attention, true)
    }

    fn of_queries(
        loader: &Loader<'_>,
        prefix: &str,
        hidden: usize,
        biases: Biases,
        attention: Attention,
        gated: bool,
    ) -> Result<Self> {
        let input = |name: &str, heads: usize| {
            let name = format!("{prefix}.{name}");
            loader.linear(&name, hidden, heads * attention.width, biases.inputs)
        };
        let inner = attention.heads * attention.width;
        let whole = Self {
            query: input("q_proj", attention.heads * if gated { 2 } else { 1 })?,
            key: input("k_proj", attention.kv_heads)?,
            value: input("v_proj", attention.kv_heads)?,
            output: loader.linear(&format!("{prefix}.o_proj"), inner, hidden, biases.output)?,
            attention,
            gated,
        };
        match loader.group() {
            Some(group) => whole.part(group),
            None => Ok(whole),
        }
    }

    /// What one of a group computes of it, each of which has some of the heads.
    fn part(self, group: &Arc<Group>) -> Result<Self> {
        let (heads, kv_heads) = (
            group.part(self.attention.heads)?,
            group.part(self.attention.kv_heads)?,
        );
        let rows = |heads: &Range<usize>, width: usize| heads.start * width..heads.end * width;
        let width = self.attention.width;
        let of_query = if self.gated { 2 * width } else { width };
        let sinks = self.attention.sinks.as_ref();
        Ok(Self {
            query: self.query.outputs(rows(&heads, of_query))?,
            key: self.key.outputs(rows(&kv_heads, width))?,
            value: self.value.outputs(rows(&kv_heads, width))?,
            output: self.output.inputs(rows(&heads, width), group)?,
            attention: Attention {
                sinks: sinks.map(|sinks| sinks.part(heads.clone())).transpose()?,
                heads: heads.len(),
                kv_heads: kv_heads.len(),
                ..self.attention
            },
            gated: self.gated,
        })
    }

    /// `attention(norm(x))`.
    pub(in crate::models) fn forward(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        caches: &mut LayerCaches<'_, '_>,
    ) -> Result<Tensor> {
        let attended = self.attended(norm, x, caches)?;
        self.output.apply(&attended)
    }

    fn attended(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        caches: &mut LayerCaches<'_, '_>,
    ) -> Result<Tensor> {
        let mut projected = project(norm, [&self.query, &self.key, &self.value], x)?;
        if !self.gated {
            return caches.attend(&self.attention, &projected);
        }
        let [queries, gates] = split(&projected[0], self.attention.heads, self.attention.width)?;
        projected[0] = queries;
        let attended = caches.attend(&self.attention, &projected)?;
        attended.gated_by(&gates)
    }
}

impl Mixer for GroupedAttention {
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
        let attended = self.attended(norm, x, caches)?;
        self.output.add_to(x, &attended)
    }

    fn describe(
        &self,
        norm: &RmsNorm,
        after: Option<&RmsNorm>,
        program: &mut Builder,
    ) -> Result<bool> {
        let inputs = [&self.query, &self.key, &self.value];
        Ok(!self.gated && program.attend(norm, inputs, &self.attention, &self.output, after)?)
    }
}
