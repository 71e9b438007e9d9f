//! Feed-forward layers of which each token takes a few, and what decides which.

use std::sync::Arc;

use super::gate::activate;
use super::linear::{Linear, Matrix};
use super::mlp::GatedMlp;
use super::norm::RmsNorm;
use super::packed::{self, Tiles};
use super::tensor::{Rows, Tensor, misplaced};
use super::vector::Vector;
use crate::error::Result;
use crate::kernels::experts::{Choice, Expert, Experts as HostExperts, feed_forward};
use crate::kernels::gate::Activation;
use crate::kernels::linear::Arithmetic;
use crate::kernels::pool;
use crate::kernels::router::{Rule, Scores, route};
use crate::mlx::{Array, Dtype, Group, gather_matmul, ops, slice};

/// From so many choices on, rows are sorted by their experts, so that each one's weights are read once
/// (reference: 64).
const SORTED: i32 = 64;

/// Scores experts for each token.
#[derive(Debug, Clone)]
pub struct Router {
    /// `[hidden]` to `[E]`.
    pub linear: Linear,
    /// What becomes of its outputs.
    pub scores: Scores,
    /// `[E]`: added to scores where experts are chosen, not where they are weighed.
    pub correction: Option<Vector>,
    /// See [`Rule::groups`].
    pub groups: Option<(usize, usize)>,
    /// Experts that a token takes, k.
    pub taken: usize,
    /// Weights are divided by their sum and this.
    pub normalize: Option<f32>,
    /// Weights are multiplied by this in the end.
    pub factor: f32,
}

/// The weights of all experts.
#[derive(Debug, Clone)]
pub enum Stack {
    /// `[E, outputs, inputs]` each, for MLX.
    Device {
        /// Through the activation.
        gate: Matrix,
        /// What it gates.
        up: Matrix,
        /// Back to the hidden width.
        down: Matrix,
        /// Added to the three products, `[E, outputs]` each.
        biases: Option<[Array; 3]>,
    },
    /// For the kernels.
    Host(Vec<Expert>, Arithmetic),
}

impl Stack {
    /// Some of the intermediate numbers of every expert; `None` where they have biases.
    fn part(&self, group: &Group) -> Result<Option<Self>> {
        match self {
            Self::Device {
                gate,
                up,
                down,
                biases: None,
            } => {
                let part = group.part(down.inputs())?;
                Ok(Some(Self::Device {
                    gate: gate.rows(part.clone())?,
                    up: up.rows(part.clone())?,
                    down: down.columns(part)?,
                    biases: None,
                }))
            }
            Self::Host(experts, arithmetic) => {
                let part = |expert: &Expert| {
                    let part = group.part(expert.down.columns())?;
                    let made = || {
                        Some(Expert {
                            gate: expert.gate.part(part.clone())?,
                            up: expert.up.part(part.clone())?,
                            down: expert.down.columns_part(part.clone())?,
                            biases: None,
                        })
                    };
                    made().ok_or_else(misplaced)
                };
                if experts.iter().any(|expert| expert.biases.is_some()) {
                    return Ok(None);
                }
                let parts = experts.iter().map(part).collect::<Result<_>>()?;
                Ok(Some(Self::Host(parts, *arithmetic)))
            }
            Self::Device { .. } => Ok(None),
        }
    }
}

/// An expert that every token takes.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The expert.
    pub mlp: GatedMlp,
    /// `[hidden]` to one number, whose sigmoid it is multiplied by.
    pub gate: Option<Linear>,
}

/// A layer of experts.
#[derive(Debug, Clone)]
pub struct Experts {
    /// Chooses them.
    pub router: Router,
    /// Their weights.
    pub stack: Stack,
    /// Of their gates.
    pub activation: Activation,
    /// The one that is always taken.
    pub shared: Option<Shared>,
    /// Each of these processes has some of every expert's intermediate numbers, and what they make is added up.
    pub group: Option<Arc<Group>>,
}

impl Experts {
    /// What one of a group computes of it. The one that is always taken is parted by itself. Stacks with biases stay whole:
    /// all then compute the same.
    ///
    /// # Errors
    /// What MLX says, or that they cannot be parted so.
    pub fn part(self, group: &Arc<Group>) -> Result<Self> {
        let Some(stack) = self.stack.part(group)? else {
            return Ok(self);
        };
        Ok(Self {
            stack,
            group: Some(Arc::clone(group)),
            ..self
        })
    }

    /// `x + Σ weight · expert(norm(x)) + shared(norm(x))`, `[T, hidden]` to the same.
    ///
    /// # Errors
    /// What MLX says.
    pub fn add_to(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        let mut fed = match (x, &self.stack) {
            (
                Tensor::Device(x),
                Stack::Device {
                    gate,
                    up,
                    down,
                    biases,
                },
            ) => {
                let normed = norm.forward(x)?;
                Tensor::Device(self.on_device([gate, up, down], biases.as_ref(), &normed)?)
            }
            (Tensor::Host(x), Stack::Host(experts, arithmetic)) => {
                let normed = norm.on_host(x)?;
                Tensor::Host(self.on_host(experts, *arithmetic, &normed)?)
            }
            _ => return Err(misplaced()),
        };
        if let Some(group) = &self.group {
            fed = fed.summed(group)?;
        }
        let sum = x.plus(&fed)?;
        match &self.shared {
            Some(shared) => shared.add_to(norm, x, &sum),
            None => Ok(sum),
        }
    }

    fn on_host(&self, experts: &[Expert], arithmetic: Arithmetic, x: &Rows) -> Result<Rows> {
        let pool = pool::shared();
        let router = &self.router;
        let logits = router.linear.apply(&Tensor::Host(x.clone()))?;
        let rule = Rule {
            scores: router.scores,
            correction: match &router.correction {
                Some(correction) => Some(correction.host().ok_or_else(misplaced)?),
                None => None,
            },
            groups: router.groups,
            taken: router.taken,
            normalize: router.normalize,
            factor: router.factor,
        };
        let mut chosen = vec![0; x.count() * router.taken];
        let mut weights = vec![0.0; chosen.len()];
        route(
            pool,
            &rule,
            &logits.host()?.numbers,
            &mut chosen,
            &mut weights,
        );
        let layer = HostExperts {
            experts,
            activation: self.activation,
            arithmetic,
        };
        let choice = Choice {
            experts: &chosen,
            weights: &weights,
        };
        let mut out = Rows::new(x.count(), x.width);
        feed_forward(pool, &layer, &x.numbers, choice, &mut out.numbers);
        Ok(out)
    }

    fn on_device(
        &self,
        matrices: [&Matrix; 3],
        biases: Option<&[Array; 3]>,
        x: &Array,
    ) -> Result<Array> {
        let (experts, weights) = self.router.on_device(x)?;
        let &[tokens, taken] = experts.shape() else {
            return Err(misplaced());
        };
        let product = |index: usize, x: &Array, experts: &Array, sorted: bool| {
            let product = gather_matmul(x, &matrices[index].stacked()?, experts, sorted)?;
            match biases {
                Some(biases) => {
                    let bias = biases[index].take_axis(experts, 0)?.expand_dims(-2)?;
                    Ok(product.add(bias)?)
                }
                None => Ok(product),
            }
        };
        let each = |x: &Array, experts: &Array, sorted: bool| -> Result<Array> {
            let gate = product(0, x, experts, sorted)?;
            let up = product(1, x, experts, sorted)?;
            let gated = activate(self.activation, &gate, &up)?;
            product(2, &gated, experts, sorted)
        };
        let fed = if tokens > 1 && packed::takes(&matrices, x.dtype())? {
            self.sorted_by_kernel(matrices, biases, x, &experts)?
        } else if tokens * taken < SORTED {
            // `[T, 1, 1, hidden]` meets `[T, k]` experts.
            let x = x.expand_dims(1)?.expand_dims(1)?;
            each(&x, &experts, false)?.squeeze_axes(&[2])?
        } else {
            let experts = experts.reshape(&[-1])?;
            let order = ops::argsort(&experts)?;
            let back = ops::argsort(&order)?;
            let token = order.floor_divide(Array::from_int(taken))?;
            let x = x.take_axis(&token, 0)?.expand_dims(1)?;
            let fed = each(&x, &experts.take_axis(&order, 0)?, true)?;
            let fed = fed.squeeze_axes(&[1])?.take_axis(&back, 0)?;
            fed.reshape(&[tokens, taken, -1])?
        };
        let weights = weights.as_dtype(fed.dtype())?.expand_dims(2)?;
        Ok(fed.multiply(weights)?.sum_axis(1, false)?)
    }

    /// What each of a row's experts makes of it, `[T, k, hidden]`.
    fn sorted_by_kernel(
        &self,
        matrices: [&Matrix; 3],
        biases: Option<&[Array; 3]>,
        x: &Array,
        experts: &Array,
    ) -> Result<Array> {
        let &[tokens, taken] = experts.shape() else {
            return Err(misplaced());
        };
        let Matrix::Packed { weight, .. } = matrices[0] else {
            return Err(misplaced());
        };
        let experts = experts.reshape(&[-1])?;
        let order = ops::argsort(&experts)?;
        let experts = experts.take_axis(&order, 0)?;
        let tiles = Tiles::of_sorted(&experts, weight.shape()[0])?;
        let token = order.floor_divide(Array::from_int(taken))?;
        let product = |index: usize, x: &Array, rows: &Array| -> Result<Array> {
            let product = packed::multiply(x, rows, matrices[index], &tiles)?;
            match biases {
                Some(biases) => Ok(product.add(biases[index].take_axis(&experts, 0)?)?),
                None => Ok(product),
            }
        };
        let gated = activate(
            self.activation,
            &product(0, x, &token)?,
            &product(1, x, &token)?,
        )?;
        let all = ops::arange::<_, i32>(0, tokens * taken, 1)?;
        let fed = product(2, &gated, &all)?;
        let back = ops::argsort(&order)?;
        Ok(fed.take_axis(&back, 0)?.reshape(&[tokens, taken, -1])?)
    }
}

impl Router {
    /// The experts that each row takes and their weights in float32, `[T, k]` each, by MLX.
    fn on_device(&self, x: &Array) -> Result<(Array, Array)> {
        let logits = self.linear.forward(x)?.as_dtype(Dtype::Float32)?;
        let scores = match self.scores {
            Scores::Softmax => ops::softmax_axis(&logits, -1, true)?,
            Scores::SoftmaxOfTaken => logits,
            Scores::Sigmoid => ops::sigmoid(&logits)?,
        };
        let mut ranks = match &self.correction {
            Some(correction) => scores.add(correction.array().as_dtype(Dtype::Float32)?)?,
            None => scores.clone(),
        };
        if let Some((groups, allowed)) = self.groups {
            ranks = keep_groups(&ranks, groups as i32, allowed as i32)?;
        }
        let taken = self.taken as i32;
        let order = ops::argpartition_axis(ranks.negative()?, taken - 1, -1)?;
        let experts = slice(&order, 1, ..taken)?;
        let mut weights = scores.take_along_axis(&experts, -1)?;
        if self.scores == Scores::SoftmaxOfTaken {
            weights = ops::softmax_axis(&weights, -1, true)?;
        }
        if let Some(epsilon) = self.normalize {
            let sum = weights.sum_axis(-1, true)?;
            weights = weights.divide(sum.add(Array::from_f32(epsilon))?)?;
        }
        Ok((experts, weights.multiply(Array::from_f32(self.factor))?))
    }
}

/// Ranks `[T, E]` without experts whose group is not among the best, by MLX.
fn keep_groups(ranks: &Array, groups: i32, allowed: i32) -> Result<Array> {
    let &[tokens, count] = ranks.shape() else {
        return Err(misplaced());
    };
    let size = count / groups;
    let grouped = ranks.reshape(&[tokens, groups, size])?;
    let ascending = ops::sort_axis(&grouped, -1)?;
    let best = slice(&ascending, 2, (size - 2).max(0)..)?.sum_axis(-1, false)?;
    let order = ops::argsort_axis(best.negative()?, -1)?;
    let place = ops::argsort_axis(&order, -1)?;
    let stays = place.lt(Array::from_int(allowed))?.expand_dims(2)?;
    let out = Array::from_f32(f32::NEG_INFINITY);
    Ok(ops::select(&stays, &grouped, &out)?.reshape(&[tokens, count])?)
}

impl Shared {
    /// `to + self(norm(x))`.
    fn add_to(&self, norm: &RmsNorm, x: &Tensor, to: &Tensor) -> Result<Tensor> {
        let fed = self.mlp.forward(norm, x)?;
        match (to, x) {
            (Tensor::Device(to), Tensor::Device(x)) => {
                let mut fed = fed.device()?.clone();
                if let Some(gate) = &self.gate {
                    fed = fed.multiply(ops::sigmoid(gate.forward(&norm.forward(x)?)?)?)?;
                }
                Ok(Tensor::Device(to.add(fed)?))
            }
            (Tensor::Host(to), Tensor::Host(x)) => {
                let (mut out, fed) = (to.clone(), fed.host()?);
                let gates = match &self.gate {
                    Some(gate) => Some(gate.apply(&Tensor::Host(norm.on_host(x)?))?),
                    None => None,
                };
                let rows = out.numbers.chunks_exact_mut(to.width);
                for (row, (out, fed)) in rows.zip(fed.numbers.chunks_exact(to.width)).enumerate() {
                    let gate = match &gates {
                        Some(gates) => 1.0 / (1.0 + (-gates.host()?.numbers[row]).exp()),
                        None => 1.0,
                    };
                    for (out, fed) in out.iter_mut().zip(fed) {
                        *out += gate * fed;
                    }
                }
                Ok(Tensor::Host(out))
            }
            _ => Err(misplaced()),
        }
    }
}
