//! gpt-oss: experts in every layer, sinks in attention, every other layer looking back on a window.

use super::layers::block::PreNorm;
use super::layers::decoder::{Decoder, DecoderConfig};
use super::layers::experts;
use super::layers::grouped::{Biases, GroupedAttention, GroupedConfig, Windows};
use super::roles::{Tensors, tables};
use super::{Loader, Model, Picked, Spec};
use crate::config::{self, RopeConfig};
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::router::Scores;
use crate::ops::attention::Attention;
use crate::ops::experts::{Experts, Router, Stack};
use crate::ops::rope::Rope;

pub(super) const SPEC: Spec = Spec {
    names: &["GptOssForCausalLM"],
    tensors: Tensors {
        rules: &[
            tables::ENDS,
            tables::NORMS,
            tables::ATTENTION,
            tables::SINKS,
            tables::OSS_EXPERTS,
        ],
        saved_under: None,
        unused: &[],
    },
    load,
};

struct Config {
    attention: GroupedConfig,
    attention_bias: bool,
    windows: Windows,
    rope: RopeConfig,
    experts: usize,
    taken: usize,
    inner: usize,
    /// Where gates are cut, and what they gate.
    limit: f32,
}

impl Config {
    fn read(config: &config::Config, hidden: usize, layers: usize) -> Result<Self> {
        config.expect_one_of("hidden_act", &["silu"])?;
        let taken = match config.optional_size("num_experts_per_tok")? {
            Some(taken) => taken,
            None => config.size("experts_per_token")?,
        };
        let count = config.size("num_local_experts")?;
        experts::expect_taken(config, [count, taken])?;
        Ok(Self {
            attention: GroupedConfig::read(config, hidden, Some(64))?,
            attention_bias: config.flag_or("attention_bias", true)?,
            windows: Windows::read(config, layers, |layer| layer.is_multiple_of(2))?,
            rope: config.rope(150_000.0)?,
            experts: count,
            taken,
            inner: config.size("intermediate_size")?,
            limit: config.number_or("swiglu_limit", 7.0)?,
        })
    }

    /// Loads `prefix.router` and the experts.
    fn experts(&self, loader: &Loader<'_>, prefix: &str, hidden: usize) -> Result<Experts> {
        let router = format!("{prefix}.router");
        Ok(Experts {
            router: Router {
                linear: loader.exact_linear(&router, hidden, self.experts, true)?,
                scores: Scores::SoftmaxOfTaken,
                correction: None,
                groups: None,
                taken: self.taken,
                normalize: None,
                factor: 1.0,
            },
            stack: self.stack(loader, prefix, hidden)?,
            activation: Activation::Clamped(self.limit),
            shared: None,
            group: None,
        })
    }

    /// The experts in any of three layouts: mxfp4 with rows of gates and what they gate in turn, as they were
    /// published; dense ones the other way round, as transformers saves them; or mlx-lm's, each by
    /// itself.
    fn stack(&self, loader: &Loader<'_>, prefix: &str, hidden: usize) -> Result<Stack> {
        let experts = format!("{prefix}.experts");
        let (count, inner) = (self.experts, self.inner);
        let both = format!("{experts}.gate_up_proj");
        let down = format!("{experts}.down_proj");
        let every_second = |first: usize| Picked {
            rows: 2 * inner,
            first,
            step: 2,
        };
        let all = |rows: usize| Picked {
            rows,
            first: 0,
            step: 1,
        };
        let has = |name: &str| loader.has(name);
        let blocks = has(&format!("{both}_blocks"));
        let stack = if blocks || has(&both) {
            let matrix = |name: &str, inputs: usize, picked: Picked| {
                if blocks {
                    loader.block_stack(name, count, inputs, picked)
                } else {
                    loader.transposed_stack(name, count, inputs, picked)
                }
            };
            let gate = matrix(&both, hidden, every_second(0))?;
            let up = matrix(&both, hidden, every_second(1))?;
            let down = matrix(&down, inner, all(hidden))?;
            let width = hidden.max(inner);
            loader.spare(&format!("{experts}."), [count, self.taken], width);
            experts::of_stacks([gate, up, down], count)
        } else {
            experts::stack(loader, prefix, [count, self.taken], hidden, inner)?
        };
        let joined = format!("{both}_bias");
        let biases = if has(&joined) {
            [
                loader.bias_stack(&joined, count, every_second(0))?,
                loader.bias_stack(&joined, count, every_second(1))?,
                loader.bias_stack(&format!("{down}_bias"), count, all(hidden))?,
            ]
        } else {
            let bias = |name: &str, rows: usize| {
                loader.bias_stack(&format!("{experts}.{name}.bias"), count, all(rows))
            };
            [
                bias("gate_proj", inner)?,
                bias("up_proj", inner)?,
                bias("down_proj", hidden)?,
            ]
        };
        Ok(experts::with_biases(stack, biases))
    }
}

fn load(config: &config::Config, loader: &Loader<'_>) -> Result<Box<dyn Model>> {
    let decoder = DecoderConfig::read(config, 131_072, 1e-5)?;
    let config = Config::read(config, decoder.hidden, decoder.layers)?;
    let biases = Biases::all(config.attention_bias);
    Decoder::load(decoder, loader, |layer, prefix, decoder| {
        let rope = Rope::new(config.attention.width, &config.rope);
        let sinks = format!("{prefix}.self_attn.sinks");
        let attention = Attention {
            window: config.windows.of(layer),
            sinks: Some(loader.vector(&sinks, config.attention.heads)?),
            ..config.attention.attention(loader, rope)
        };
        let experts = config.experts(loader, &format!("{prefix}.mlp"), decoder.hidden)?;
        let name = format!("{prefix}.self_attn");
        let attention = GroupedAttention::load(loader, &name, decoder.hidden, biases, attention)?;
        PreNorm::load(loader, prefix, decoder, attention, experts)
    })
}
