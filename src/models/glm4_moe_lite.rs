//! GLM-4.7-Flash: latent attention, and experts in all layers but the first.

use super::layers::block::{FeedForward, PreNorm};
use super::layers::decoder::{Decoder, DecoderConfig};
use super::layers::experts::{expect_taken, stack};
use super::layers::latent::LatentConfig;
use super::roles::{Tensors, tables};
use super::{Loader, Model, Spec};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::router::Scores;
use crate::ops::experts::{Experts, Router, Shared};
use crate::ops::rope::Rope;

pub(super) const SPEC: Spec = Spec {
    names: &["Glm4MoeLiteForCausalLM", "GLM4MoeLite"],
    tensors: Tensors {
        rules: &[
            tables::ENDS,
            tables::NORMS,
            tables::LATENT,
            tables::GATED_MLP,
            tables::ROUTED_EXPERTS,
            tables::SHARED_EXPERTS,
        ],
        saved_under: None,
        unused: &[],
    },
    load,
};

struct Config {
    attention: LatentConfig,
    rope: RopeConfig,
    /// Pairs that turn are neighbours.
    interleaved: bool,
    /// What scores are multiplied by for long contexts.
    stretch: f32,
    intermediate: usize,
    /// Layers without experts, the first ones.
    dense: Vec<bool>,
    experts: usize,
    taken: usize,
    inner: usize,
    /// Experts that every token takes, which are one wide one.
    shared: usize,
    groups: Option<(usize, usize)>,
    normalize: bool,
    factor: f32,
}

impl Config {
    fn read(config: &config::Config, layers: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        let kinds = [("dense", true), ("sparse", false)];
        let first = config.optional_count("first_k_dense_replace")?.unwrap_or(1);
        let dense = config.kinds("mlp_layer_types", layers, &kinds)?;
        let dense = dense.unwrap_or_else(|| (0..layers).map(|layer| layer < first).collect());
        let groups = config.optional_size("n_group")?.unwrap_or(1);
        let allowed = config.optional_size("topk_group")?.unwrap_or(1);
        let (experts, taken) = (
            config.size("n_routed_experts")?,
            config.size("num_experts_per_tok")?,
        );
        expect_taken(config, [experts, taken])?;
        if !experts.is_multiple_of(groups) || allowed > groups {
            return Err(config.problem(format!(
                "{taken} of {experts} experts in {allowed} of {groups} groups cannot be taken"
            )));
        }
        Ok(Self {
            attention: LatentConfig::read(config)?,
            rope: config.rope(1_000_000.0)?,
            interleaved: config.flag_or("rope_interleave", true)?,
            stretch: config.score_stretch()?,
            intermediate: config.size("intermediate_size")?,
            dense,
            experts,
            taken,
            inner: config.size("moe_intermediate_size")?,
            shared: config.optional_size("n_shared_experts")?.unwrap_or(1),
            groups: (groups > 1).then_some((groups, allowed)),
            normalize: config.flag_or("norm_topk_prob", true)?,
            factor: config.number_or("routed_scaling_factor", 1.0)?,
        })
    }

    fn experts(&self, loader: &Loader<'_>, prefix: &str, hidden: usize) -> Result<Experts> {
        let gate = format!("{prefix}.gate");
        let correction = format!("{gate}.e_score_correction_bias");
        let shared = format!("{prefix}.shared_experts");
        let taken = [self.experts, self.taken];
        let whole = Experts {
            router: Router {
                linear: loader.exact_linear(&gate, hidden, self.experts, false)?,
                scores: Scores::Sigmoid,
                correction: Some(loader.vector(&correction, self.experts)?),
                groups: self.groups,
                taken: self.taken,
                normalize: (self.normalize && self.taken > 1).then_some(1e-20),
                factor: self.factor,
            },
            stack: stack(loader, prefix, taken, hidden, self.inner)?,
            activation: Activation::Silu,
            shared: Some(Shared {
                mlp: loader.gated_mlp(&shared, hidden, self.shared * self.inner, false)?,
                gate: None,
            }),
            group: None,
        };
        match loader.group() {
            Some(group) => whole.part(group),
            None => Ok(whole),
        }
    }
}

fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 202_752, 1e-5)?;
    let config = Config::read(config, decoder.layers)?;
    Decoder::load(decoder, loader, |layer, prefix, decoder| {
        let mut rope = Rope::new(config.attention.rotated, &config.rope);
        if config.interleaved {
            rope = rope.interleaved();
        }
        let name = format!("{prefix}.self_attn");
        let attention = config
            .attention
            .load(loader, &name, decoder, rope, config.stretch)?;
        let name = format!("{prefix}.mlp");
        let mlp: Box<dyn FeedForward> = if config.dense[layer] {
            let (hidden, inner) = (decoder.hidden, config.intermediate);
            Box::new(loader.gated_mlp(&name, hidden, inner, false)?)
        } else {
            Box::new(config.experts(loader, &name, decoder.hidden)?)
        };
        PreNorm::load(loader, prefix, decoder, attention, mlp)
    })
}
