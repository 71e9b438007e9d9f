//! Layers of experts: what configurations say of them, and how checkpoints lay them out.

use super::block::FeedForward;
use crate::config::Config;
use crate::error::Result;
use crate::kernels::experts::Expert;
use crate::kernels::gate::Activation;
use crate::kernels::router::Scores;
use crate::models::{BiasStack, Loader};
use crate::ops::decode::Builder;
use crate::ops::experts::{Experts, Router, Shared, Stack};
use crate::ops::linear::Matrix;
use crate::ops::norm::RmsNorm;
use crate::ops::tensor::Tensor;

impl FeedForward for Experts {
    fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        self.add_to(norm, x)
    }

    fn describe(&self, norm: &RmsNorm, program: &mut Builder) -> Result<bool> {
        program.experts(norm, self)
    }
}

/// Experts as Qwen's models have them.
pub(in crate::models) struct SparseConfig {
    count: usize,
    taken: usize,
    inner: usize,
    /// Weights of those that are taken add up to 1.
    normalize: bool,
    /// Inner width of the expert that every token takes.
    shared: Option<usize>,
    /// Of every so many layers the last has experts.
    step: usize,
    /// Layers that have none.
    dense: Vec<usize>,
}

/// Refuses to take more experts than there are.
pub(in crate::models) fn expect_taken(config: &Config, [count, taken]: [usize; 2]) -> Result<()> {
    if taken > count {
        let problem = format!("each token takes {taken} experts, and there are {count}");
        return Err(config.problem(problem));
    }
    Ok(())
}

impl SparseConfig {
    /// Reads the fields; `normalize` is for configurations that do not say.
    pub(in crate::models) fn read(config: &Config, normalize: bool) -> Result<Self> {
        let count = match config.optional_size("num_experts")? {
            Some(count) => count,
            None => config.size("num_local_experts")?,
        };
        let taken = config.size("num_experts_per_tok")?;
        expect_taken(config, [count, taken])?;
        Ok(Self {
            count,
            taken,
            inner: config.size("moe_intermediate_size")?,
            normalize: config.flag_or("norm_topk_prob", normalize)?,
            shared: config.optional_size("shared_expert_intermediate_size")?,
            step: config.optional_size("decoder_sparse_step")?.unwrap_or(1),
            dense: config.indices("mlp_only_layers")?,
        })
    }

    /// Whether a layer has experts.
    pub(in crate::models) fn is_sparse(&self, layer: usize) -> bool {
        !self.dense.contains(&layer) && (layer + 1).is_multiple_of(self.step)
    }

    /// Loads `prefix.gate`, the experts, and `prefix.shared_expert` with its gate.
    pub(in crate::models) fn load(
        &self,
        loader: &Loader<'_>,
        prefix: &str,
        hidden: usize,
    ) -> Result<Experts> {
        let name = |part: &str| format!("{prefix}.{part}");
        let shared = match self.shared {
            Some(inner) => Some(Shared {
                mlp: loader.gated_mlp(&name("shared_expert"), hidden, inner, false)?,
                gate: Some(loader.exact_linear(&name("shared_expert_gate"), hidden, 1, false)?),
            }),
            None => None,
        };
        let whole = Experts {
            router: Router {
                linear: loader.exact_linear(&name("gate"), hidden, self.count, false)?,
                scores: Scores::Softmax,
                correction: None,
                groups: None,
                taken: self.taken,
                normalize: self.normalize.then_some(0.0),
                factor: 1.0,
            },
            stack: stack(loader, prefix, [self.count, self.taken], hidden, self.inner)?,
            activation: Activation::Silu,
            shared,
            group: None,
        };
        match loader.group() {
            Some(group) => whole.part(group),
            None => Ok(whole),
        }
    }
}

/// The experts of a layer, of which a token takes some, in any of the layouts that checkpoints have:
///
/// - `prefix.switch_mlp.gate_proj.weight` `[E, inner, hidden]`, and so on: mlx-lm's;
/// - `prefix.experts.gate_up_proj` `[E, 2 · inner, hidden]` and `down_proj`: transformers' since its 5;
/// - `prefix.experts.gate_proj` `[E, inner, hidden]`, and so on;
/// - `prefix.experts.0.gate_proj.weight`, and so on.
pub(in crate::models) fn stack(
    loader: &Loader<'_>,
    prefix: &str,
    [count, taken]: [usize; 2],
    hidden: usize,
    inner: usize,
) -> Result<Stack> {
    let has = |name: &str| loader.has(name) || loader.has(&format!("{name}.weight"));
    let (switch, experts) = (format!("{prefix}.switch_mlp"), format!("{prefix}.experts"));
    let three = |prefix: &str, stack: &[usize]| -> Result<[Matrix; 3]> {
        Ok([
            loader.stack(&format!("{prefix}.gate_proj"), stack, hidden, inner)?,
            loader.stack(&format!("{prefix}.up_proj"), stack, hidden, inner)?,
            loader.stack(&format!("{prefix}.down_proj"), stack, inner, hidden)?,
        ])
    };
    if has(&format!("{switch}.gate_proj")) {
        let stack = of_stacks(three(&switch, &[count])?, count);
        loader.spare(&format!("{switch}."), [count, taken], hidden.max(inner));
        return Ok(stack);
    }
    let stack = if has(&format!("{experts}.gate_up_proj")) {
        let both = format!("{experts}.gate_up_proj");
        let both = loader.stack(&both, &[count], hidden, 2 * inner)?;
        let down = loader.stack(&format!("{experts}.down_proj"), &[count], inner, hidden)?;
        of_joined(&both, &down, count, inner)?
    } else if has(&format!("{experts}.gate_proj")) {
        of_stacks(three(&experts, &[count])?, count)
    } else {
        let all = (0..count).map(|expert| three(&format!("{experts}.{expert}"), &[]));
        of_each(&all.collect::<Result<Vec<_>>>()?)?
    };
    loader.spare(&format!("{experts}."), [count, taken], hidden.max(inner));
    Ok(stack)
}

/// Of one stack for each of the three matrices.
pub(in crate::models) fn of_stacks([gate, up, down]: [Matrix; 3], count: usize) -> Stack {
    let Matrix::Host(first) = &gate else {
        return Stack::Device {
            gate,
            up,
            down,
            biases: None,
        };
    };
    let experts = (0..count).filter_map(|expert| {
        Some(Expert {
            gate: gate.host_part(expert, count)?,
            up: up.host_part(expert, count)?,
            down: down.host_part(expert, count)?,
            biases: None,
        })
    });
    Stack::Host(experts.collect(), first.arithmetic)
}

/// Of gates and what they gate in one stack, an expert's gate before its other half.
fn of_joined(both: &Matrix, down: &Matrix, count: usize, inner: usize) -> Result<Stack> {
    let Matrix::Host(first) = both else {
        return Ok(Stack::Device {
            gate: both.stack_rows(0..inner)?,
            up: both.stack_rows(inner..2 * inner)?,
            down: down.clone(),
            biases: None,
        });
    };
    let experts = (0..count).filter_map(|expert| {
        Some(Expert {
            gate: both.host_part(2 * expert, 2 * count)?,
            up: both.host_part(2 * expert + 1, 2 * count)?,
            down: down.host_part(expert, count)?,
            biases: None,
        })
    });
    Ok(Stack::Host(experts.collect(), first.arithmetic))
}

/// Of matrices of each expert.
fn of_each(all: &[[Matrix; 3]]) -> Result<Stack> {
    let Some([Matrix::Host(first), ..]) = all.first() else {
        let of = |index: usize| {
            let matrices: Vec<&Matrix> = all.iter().map(|expert| &expert[index]).collect();
            Matrix::stack_of(&matrices)
        };
        return Ok(Stack::Device {
            gate: of(0)?,
            up: of(1)?,
            down: of(2)?,
            biases: None,
        });
    };
    let experts = all.iter().filter_map(|[gate, up, down]| {
        Some(Expert {
            gate: gate.host_part(0, 1)?,
            up: up.host_part(0, 1)?,
            down: down.host_part(0, 1)?,
            biases: None,
        })
    });
    Ok(Stack::Host(experts.collect(), first.arithmetic))
}

/// With biases for the three products of each expert.
pub(in crate::models) fn with_biases(stack: Stack, biases: [BiasStack; 3]) -> Stack {
    match (stack, biases) {
        (
            Stack::Device { gate, up, down, .. },
            [
                BiasStack::Device(a),
                BiasStack::Device(b),
                BiasStack::Device(c),
            ],
        ) => Stack::Device {
            gate,
            up,
            down,
            biases: Some([a, b, c]),
        },
        (
            Stack::Host(mut experts, arithmetic),
            [BiasStack::Host(a), BiasStack::Host(b), BiasStack::Host(c)],
        ) => {
            for (expert, ((a, b), c)) in experts.iter_mut().zip(a.into_iter().zip(b).zip(c)) {
                expert.biases = Some([a, b, c]);
            }
            Stack::Host(experts, arithmetic)
        }
        // A model is all in one place.
        (stack, _) => stack,
    }
}
