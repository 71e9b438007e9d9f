//! The layer that most architectures have: attention and a feed-forward layer, each after a norm and added
//! to what goes in.

use super::decoder::{Block, DecoderConfig};
use crate::cache::{LayerCaches, LayerKind};
use crate::error::Result;
use crate::models::Loader;
use crate::ops::decode::Builder;
use crate::ops::mlp::GatedMlp;
use crate::ops::norm::RmsNorm;
use crate::ops::tensor::Tensor;

/// What lets a token see those before it.
pub(in crate::models) trait Mixer {
    /// What it keeps of a sequence, in numbers of so many bytes where MLX computes.
    fn kind(&self, number_bytes: usize) -> LayerKind;

    /// `x + self(norm(x))`, `[T, hidden]` to the same. Of each segment what the layer keeps grows by
    /// the segment's tokens.
    fn add_to(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        caches: &mut LayerCaches<'_, '_>,
    ) -> Result<Tensor>;

    /// Takes `x + after(self(norm(x)))` down for the kernel that decodes; says whether it can compute it.
    fn describe(
        &self,
        _norm: &RmsNorm,
        _after: Option<&RmsNorm>,
        _program: &mut Builder,
    ) -> Result<bool> {
        Ok(false)
    }
}

/// What follows it in a layer.
pub(in crate::models) trait FeedForward {
    /// `x + self(norm(x))`, `[T, hidden]` to the same.
    fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor>;

    /// Takes `x + self(norm(x))` down for the kernel that decodes; says whether it can compute it.
    fn describe(&self, _norm: &RmsNorm, _program: &mut Builder) -> Result<bool> {
        Ok(false)
    }
}

impl FeedForward for GatedMlp {
    fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        self.add_to(norm, x)
    }

    fn describe(&self, norm: &RmsNorm, program: &mut Builder) -> Result<bool> {
        program.feed_forward(norm, self, None)
    }
}

/// Of layers that differ.
impl FeedForward for Box<dyn FeedForward> {
    fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        self.as_ref().add_to(norm, x)
    }

    fn describe(&self, norm: &RmsNorm, program: &mut Builder) -> Result<bool> {
        self.as_ref().describe(norm, program)
    }
}

/// Of layers that differ.
impl Mixer for Box<dyn Mixer> {
    fn kind(&self, number_bytes: usize) -> LayerKind {
        self.as_ref().kind(number_bytes)
    }

    fn add_to(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        caches: &mut LayerCaches<'_, '_>,
    ) -> Result<Tensor> {
        self.as_ref().add_to(norm, x, caches)
    }

    fn describe(
        &self,
        norm: &RmsNorm,
        after: Option<&RmsNorm>,
        program: &mut Builder,
    ) -> Result<bool> {
        self.as_ref().describe(norm, after, program)
    }
}

/// `x + mixer(norm(x))`, then the same with a feed-forward layer.
pub(in crate::models) struct PreNorm<M, F> {
    mixer: M,
    feed_forward: F,
    mixer_norm: RmsNorm,
    feed_forward_norm: RmsNorm,
}

impl<M: Mixer, F: FeedForward> PreNorm<M, F> {
    /// Loads the norms `prefix.input_layernorm` and `prefix.post_attention_layernorm`.
    pub(in crate::models) fn load(
        loader: &Loader<'_>,
        prefix: &str,
        decoder: &DecoderConfig,
        mixer: M,
        feed_forward: F,
    ) -> Result<Self> {
        let norm = |name: &str| {
            let (epsilon, shift) = (decoder.epsilon, decoder.norm_shift);
            loader.shifted_norm(&format!("{prefix}.{name}"), decoder.hidden, epsilon, shift)
        };
        Ok(Self {
            mixer,
            feed_forward,
            mixer_norm: norm("input_layernorm")?,
            feed_forward_norm: norm("post_attention_layernorm")?,
        })
    }
}

impl<M: Mixer, F: FeedForward> Block for PreNorm<M, F> {
    fn kind(&self, number_bytes: usize) -> LayerKind {
        self.mixer.kind(number_bytes)
    }

    fn forward(&self, x: &Tensor, caches: &mut LayerCaches<'_, '_>) -> Result<Tensor> {
        let x = self.mixer.add_to(&self.mixer_norm, x, caches)?;
        self.feed_forward.add_to(&self.feed_forward_norm, &x)
    }

    fn describe(&self, program: &mut Builder) -> Result<bool> {
        Ok(self.mixer.describe(&self.mixer_norm, None, program)?
            && self
                .feed_forward
                .describe(&self.feed_forward_norm, program)?)
    }
}
