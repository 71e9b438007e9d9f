//! What all architectures have in common: an embedding, blocks one after the other, a norm and a head.

use crate::cache::{LayerCaches, LayerKind, SequenceCache};
use crate::config::Config;
use crate::error::Result;
use crate::mlx::item_size;
use crate::models::{Loader, Model};
use crate::ops::batch::Batch;
use crate::ops::decode::{Builder, Program};
use crate::ops::embedding::Embedding;
use crate::ops::linear::{Linear, project};
use crate::ops::norm::RmsNorm;
use crate::ops::tensor::Tensor;

/// One layer.
pub(in crate::models) trait Block {
    /// What it keeps of a sequence, in numbers of so many bytes where MLX computes.
    fn kind(&self, number_bytes: usize) -> LayerKind;

    /// Hidden states `[T, hidden]` to the same. Of each segment what the layer keeps grows by
    /// the segment's tokens.
    fn forward(&self, x: &Tensor, caches: &mut LayerCaches<'_, '_>) -> Result<Tensor>;

    /// Takes the layer down for the kernel that decodes; says whether it can compute it.
    fn describe(&self, _program: &mut Builder) -> Result<bool> {
        Ok(false)
    }
}

/// What the ends of a decoder need to know.
pub(in crate::models) struct DecoderConfig {
    pub(in crate::models) hidden: usize,
    pub(in crate::models) layers: usize,
    pub(in crate::models) vocabulary: usize,
    pub(in crate::models) context: usize,
    /// Of all norms.
    pub(in crate::models) epsilon: f32,
    /// The embedding serves as the head; `None` where the checkpoint decides by having none.
    pub(in crate::models) tied: Option<bool>,
    /// What embeddings are multiplied by.
    pub(in crate::models) scale: Option<f32>,
    /// What norms add to their weights.
    pub(in crate::models) norm_shift: f32,
    /// Logits become `cap · tanh(logit / cap)`.
    pub(in crate::models) soft_cap: Option<f32>,
}

impl DecoderConfig {
    /// Reads the fields that all architectures have.
    pub(in crate::models) fn read(config: &Config, context: usize, epsilon: f32) -> Result<Self> {
        Ok(Self {
            hidden: config.size("hidden_size")?,
            layers: config.size("num_hidden_layers")?,
            vocabulary: config.size("vocab_size")?,
            context: config
                .optional_size("max_position_embeddings")?
                .unwrap_or(context),
            epsilon: config.epsilon("rms_norm_eps", epsilon)?,
            tied: config.flag("tie_word_embeddings")?,
            scale: None,
            norm_shift: 0.0,
            soft_cap: None,
        })
    }
}

/// A model whose blocks are `B`.
pub(in crate::models) struct Decoder<B> {
    embedding: Embedding,
    blocks: Vec<B>,
    norm: RmsNorm,
    head: Linear,
    config: DecoderConfig,
}

impl<B: Block + 'static> Decoder<B> {
    /// Loads the ends, and each block by its index and the prefix of its tensors.
    pub(in crate::models) fn load(
        config: DecoderConfig,
        loader: &Loader<'_>,
        block: impl Fn(usize, &str, &DecoderConfig) -> Result<B>,
    ) -> Result<Box<dyn Model>> {
        let (prefix, head) = loader.text_prefixes();
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        let embedding = loader.embedding(&format!("{prefix}embed_tokens"), vocabulary, hidden)?;
        let tied = config
            .tied
            .unwrap_or_else(|| !loader.has(&format!("{head}.weight")));
        let head = if tied {
            loader.skip(&format!("{head}."));
            embedding.as_linear()
        } else {
            loader.head(head, hidden, vocabulary)?
        };
        let blocks = (0..config.layers)
            .map(|layer| block(layer, &format!("{prefix}layers.{layer}"), &config))
            .collect::<Result<_>>()?;
        let norm = format!("{prefix}norm");
        Ok(Box::new(Self {
            embedding,
            blocks,
            norm: loader.shifted_norm(&norm, hidden, config.epsilon, config.norm_shift)?,
            head,
            config,
        }))
    }
}

impl<B: Block> Model for Decoder<B> {
    fn context(&self) -> usize {
        self.config.context
    }

    fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    fn new_cache(&self) -> SequenceCache {
        let number_bytes = item_size(self.embedding.dtype);
        SequenceCache::new(self.blocks.iter().map(|block| block.kind(number_bytes)))
    }

    fn forward(&self, batch: &Batch, caches: &mut [&mut SequenceCache]) -> Result<Tensor> {
        let mut x = self.embedding.forward(batch)?;
        if let Some(scale) = self.config.scale {
            x = x.times(scale)?;
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &mut LayerCaches::new(batch, caches, layer))?;
        }
        Ok(x)
    }

    fn states(&self, hidden: &Tensor) -> Result<Tensor> {
        self.norm.apply(hidden)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let [logits] = project(&self.norm, [&self.head], hidden)?;
        match self.config.soft_cap {
            Some(cap) => logits.capped(cap),
            None => Ok(logits),
        }
    }

    fn decode_program(&self) -> Result<Option<Program>> {
        let mut program = Builder::default();
        if !program.embed(&self.embedding, self.config.scale)? {
            return Ok(None);
        }
        for block in &self.blocks {
            if !block.describe(&mut program)? {
                return Ok(None);
            }
        }
        if !program.head(&self.norm, &self.head, self.config.soft_cap)? {
            return Ok(None);
        }
        program.finish()
    }
}
