//! Gated delta networks (Yang et al. 2024, arXiv:2412.06464) as Qwen's models have them: projections of a
//! layer, in both forms that checkpoints have.

use super::block::Mixer;
use super::decoder::DecoderConfig;
use crate::cache::{LayerCaches, LayerKind};
use crate::config::Config;
use crate::error::Result;
use crate::models::Loader;
use crate::ops::delta::{GatedDelta, Projected};
use crate::ops::heads::{join, split};
use crate::ops::linear::{Linear, project};
use crate::ops::norm::RmsNorm;
use crate::ops::tensor::Tensor;

/// Heads, widths and the length of the convolution.
pub(in crate::models) struct DeltaConfig {
    key_heads: usize,
    value_heads: usize,
    key_width: usize,
    value_width: usize,
    pub(in crate::models) taps: usize,
}

impl DeltaConfig {
    pub(in crate::models) fn read(config: &Config) -> Result<Self> {
        let key_heads = config.size("linear_num_key_heads")?;
        let value_heads = config.size("linear_num_value_heads")?;
        if !value_heads.is_multiple_of(key_heads) {
            return Err(config.problem(format!(
                "`linear_num_key_heads` {key_heads} does not divide {value_heads} value heads"
            )));
        }
        Ok(Self {
            key_heads,
            value_heads,
            key_width: config.size("linear_key_head_dim")?,
            value_width: config.size("linear_value_head_dim")?,
            taps: config.size("linear_conv_kernel_dim")?,
        })
    }

    /// Loads the layer `prefix`.
    pub(in crate::models) fn load(
        &self,
        loader: &Loader<'_>,
        prefix: &str,
        decoder: &DecoderConfig,
    ) -> Result<DeltaNet> {
        let &Self {
            key_heads,
            value_heads,
            key_width,
            value_width,
            taps,
        } = self;
        let name = |part: &str| format!("{prefix}.{part}");
        let (keys, values) = (key_heads * key_width, value_heads * value_width);
        let channels = 2 * keys + values;
        let linear =
            |part: &str, outputs: usize| loader.linear(&name(part), decoder.hidden, outputs, false);
        // How much is kept of a state, and corrected, over hundreds of tokens: not to be rounded.
        let exact = |part: &str, outputs: usize| {
            loader.exact_linear(&name(part), decoder.hidden, outputs, false)
        };
        let inputs = if loader.has(&name("in_proj_qkvz.weight")) {
            Inputs::Joined(
                linear("in_proj_qkvz", channels + values)?,
                exact("in_proj_ba", 2 * value_heads)?,
            )
        } else {
            Inputs::Apart([
                linear("in_proj_qkv", channels)?,
                linear("in_proj_z", values)?,
                exact("in_proj_b", value_heads)?,
                exact("in_proj_a", value_heads)?,
            ])
        };
        let mut delta = GatedDelta {
            key_heads,
            value_heads,
            key_width,
            value_width,
            taps: loader.taps(&name("conv1d.weight"), channels, taps)?,
            decay: loader.decay(&name("A_log"), value_heads)?,
            step_bias: loader.vector(&name("dt_bias"), value_heads)?,
            norm: loader.norm(&name("norm"), value_width, decoder.epsilon)?,
            kernel: false,
        };
        delta.kernel = loader.has_kernel("gated delta layers", || delta.probe());
        Ok(DeltaNet {
            inputs,
            delta,
            output: loader.linear(&name("out_proj"), values, decoder.hidden, false)?,
        })
    }
}

/// What makes the rows that go into the layer.
enum Inputs {
    /// Queries, keys, values and gates of each key head together; and corrections and steps.
    Joined(Linear, Linear),
    /// Queries, keys and values; gates; corrections; steps.
    Apart([Linear; 4]),
}

/// Projections of one layer, and what is between them.
pub(in crate::models) struct DeltaNet {
    inputs: Inputs,
    delta: GatedDelta,
    output: Linear,
}

impl DeltaNet {
    fn projected(&self, norm: &RmsNorm, x: &Tensor) -> Result<Projected> {
        match &self.inputs {
            Inputs::Apart([mixed, gates, corrections, steps]) => {
                let layers = [mixed, gates, corrections, steps];
                let [mixed, gates, corrections, steps] = project(norm, layers, x)?;
                Ok(Projected {
                    mixed,
                    gates,
                    corrections,
                    steps,
                })
            }
            Inputs::Joined(rows, numbers) => {
                let [rows, numbers] = project(norm, [rows, numbers], x)?;
                let (heads, width) = (self.delta.key_heads, self.delta.key_width);
                let group = self.delta.value_heads / heads;
                let [queries, rest] = split(&rows, heads, width)?;
                let [keys, rest] = split(&rest, heads, width)?;
                let [values, gates] = split(&rest, heads, group * self.delta.value_width)?;
                let [corrections, steps] = split(&numbers, heads, group)?;
                Ok(Projected {
                    mixed: join(&join(&queries, &keys, 1)?, &values, 1)?,
                    gates,
                    corrections,
                    steps,
                })
            }
        }
    }
}

impl Mixer for DeltaNet {
    fn kind(&self, number_bytes: usize) -> LayerKind {
        LayerKind::State {
            bytes: self.delta.state_bytes(number_bytes),
        }
    }

    fn add_to(
        &self,
        norm: &RmsNorm,
        x: &Tensor,
        caches: &mut LayerCaches<'_, '_>,
    ) -> Result<Tensor> {
        let projected = self.projected(norm, x)?;
        let read = caches.recur(&self.delta, &projected)?;
        self.output.add_to(x, &read)
    }
}
