//! Gated delta networks (Yang et al. 2024, arXiv:2412.06464): layers that keep a state of one size instead of
//! keys and values.

mod graph;
mod kernel;

use std::ops::Range;

use super::norm::RmsNorm;
use super::tensor::{Rows, Tensor, misplaced};
use super::vector::Vector;
use crate::error::Result;
use crate::kernels::delta::{DeltaRows, DeltaSegment, GatedDelta as HostDelta};
use crate::kernels::pool;
use crate::mlx::{Array, Dtype, fast, ops, slice};

pub use crate::kernels::delta::DeltaState;

/// Keeps norms of queries and keys away from 0.
const EPSILON: f32 = 1e-6;

/// What stands between the projections of one layer.
#[derive(Debug, Clone)]
pub struct GatedDelta {
    /// Heads of queries and keys, Hk; divides Hv.
    pub key_heads: usize,
    /// Heads of values and states, Hv.
    pub value_heads: usize,
    /// Width of a query or key, Dk.
    pub key_width: usize,
    /// Width of a value, Dv.
    pub value_width: usize,
    /// `[taps, channels]`: of the convolution, the oldest row first.
    pub taps: Vector,
    /// `[Hv]`: what a step's size is multiplied by to be the logarithm of a decay.
    pub decay: Vector,
    /// `[Hv]`: added to what makes a step's size.
    pub step_bias: Vector,
    /// Of what is read, `[Dv]`.
    pub norm: RmsNorm,
    /// Kernels compute on the GPU, and no graphs: see [`GatedDelta::probe`].
    pub kernel: bool,
}

/// Rows as the projections give them.
#[derive(Debug)]
pub struct Projected {
    /// `[T, channels]`: queries and keys `[Hk, Dk]`, values `[Hv, Dv]`.
    pub mixed: Tensor,
    /// `[T, Hv·Dv]`: what gates the output.
    pub gates: Tensor,
    /// `[T, Hv]`: how much is corrected, before its sigmoid.
    pub corrections: Tensor,
    /// `[T, Hv]`: sizes of steps, before their softplus.
    pub steps: Tensor,
}

impl Projected {
    /// A run of rows of each.
    ///
    /// # Errors
    /// What MLX says.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        Ok(Self {
            mixed: self.mixed.rows(range.clone())?,
            gates: self.gates.rows(range.clone())?,
            corrections: self.corrections.rows(range.clone())?,
            steps: self.steps.rows(range)?,
        })
    }
}

/// What MLX keeps of a sequence: the last rows before the convolution, `[taps - 1, channels]`, and the
/// heads' states `[Hv, Dk, Dv]`.
pub type DeviceState = [Array; 2];

impl GatedDelta {
    /// Memory of the state of one sequence: the last rows of the convolution, in numbers of so many bytes where
    /// MLX computes, and a matrix of float32 for each head.
    pub fn state_bytes(&self, number_bytes: usize) -> usize {
        let channels = 2 * self.key_heads * self.key_width + self.value_heads * self.value_width;
        let taps = self.taps.length() / channels.max(1);
        let matrices = self.value_heads * self.key_width * self.value_width.next_multiple_of(8);
        taps.saturating_sub(1) * channels * number_bytes + matrices * size_of::<f32>()
    }

    /// Channels of the convolution.
    fn channels(&self) -> usize {
        2 * self.key_heads * self.key_width + self.value_heads * self.value_width
    }

    /// All rows by the kernel, `[T, Hv·Dv]`: those of several sequences end to end, with how many are each
    /// one's and what was kept of it.
    ///
    /// # Errors
    /// [`crate::Error::Mlx`] where the model is not on the host.
    pub fn on_host(
        &self,
        projected: &Projected,
        states: &mut [(usize, DeltaState)],
    ) -> Result<Tensor> {
        let host = |vector: &'_ Vector| vector.host().map(<[f32]>::to_vec).ok_or_else(misplaced);
        let (taps, decay) = (host(&self.taps)?, host(&self.decay)?);
        let (step_bias, norm) = (host(&self.step_bias)?, host(&self.norm.weight)?);
        let layer = HostDelta {
            key_heads: self.key_heads,
            value_heads: self.value_heads,
            key_width: self.key_width,
            value_width: self.value_width,
            taps: &taps,
            decay: &decay,
            step_bias: &step_bias,
            norm: &norm,
            epsilon: self.norm.epsilon,
        };
        let gates = projected.gates.host()?;
        let rows = DeltaRows {
            mixed: &projected.mixed.host()?.numbers,
            gates: &gates.numbers,
            corrections: &projected.corrections.host()?.numbers,
            steps: &projected.steps.host()?.numbers,
        };
        let segments = states.iter_mut();
        let segments = segments.map(|(rows, state)| DeltaSegment { rows: *rows, state });
        let mut segments: Vec<_> = segments.collect();
        let mut out = Rows::new(gates.count(), gates.width);
        layer.run(pool::shared(), rows, &mut segments, &mut out.numbers);
        Ok(Tensor::Host(out))
    }

    /// One sequence's rows by MLX, `[L, Hv·Dv]`, and what is kept of it then.
    ///
    /// # Errors
    /// What MLX says.
    pub fn on_device(
        &self,
        [mixed, gates, corrections, steps]: [&Array; 4],
        state: Option<DeviceState>,
    ) -> Result<(Array, DeviceState)> {
        let (length, dtype) = (mixed.shape()[0], mixed.dtype());
        let taps = self.taps.array();
        let (before, channels) = (taps.shape()[0] - 1, self.channels() as i32);
        let sizes = [self.value_heads, self.key_width, self.value_width].map(|size| size as i32);
        let [recent, state] = match state {
            Some(state) => state,
            None => [
                ops::zeros_dtype(&[before, channels], dtype)?,
                ops::zeros_dtype(&sizes, Dtype::Float32)?,
            ],
        };
        let all = ops::concatenate(&[&recent, mixed], 0)?;
        let recent = slice(&all, 0, length..)?.contiguous()?;
        let mixed = if self.kernel {
            kernel::convolve(self, &all)?
        } else {
            graph::convolve(&all, &taps)?
        };
        let wide = |x: &Array| x.as_dtype(Dtype::Float32);
        let steps = softplus(&wide(steps)?.add(wide(&self.step_bias.array())?)?)?;
        let decays = steps.multiply(wide(&self.decay.array())?)?;
        let shares = ops::sigmoid(wide(corrections)?)?;
        let [queries, keys, values] = self.heads(&mixed)?;
        let (read, state) = if self.kernel {
            kernel::recur(self, [&queries, &keys, &values, &decays, &shares], &state)?
        } else {
            self.by_graph([&queries, &keys, &values, &decays, &shares], &state)?
        };
        let weight = wide(&self.norm.weight.array())?;
        let read = fast::rms_norm(&read, Some(&weight), self.norm.epsilon)?;
        let gates = wide(gates)?;
        let gates = gates.multiply(ops::sigmoid(&gates)?)?;
        let out = read.reshape(&[length, -1])?.multiply(gates)?;
        Ok((out.as_dtype(dtype)?, [recent, state]))
    }

    /// Queries and keys `[L, Hk, Dk]` and values `[L, Hv, Dv]` of `[L, channels]`.
    fn heads(&self, mixed: &Array) -> Result<[Array; 3]> {
        let length = mixed.shape()[0];
        let [key_heads, heads, width, _] = self.sizes();
        let keys = key_heads * width;
        let unit = |first: i32, scale: f32| -> Result<Array> {
            let x = slice(mixed, 1, first..first + keys)?;
            let x = x.reshape(&[length, key_heads, width])?;
            let squares = x.square()?.sum_axis(-1, true)?;
            let root = squares.add(Array::from_f32(EPSILON))?.rsqrt()?;
            Ok(x.multiply(root)?.multiply(Array::from_f32(scale))?)
        };
        let values = slice(mixed, 1, 2 * keys..)?;
        Ok([
            unit(0, (self.key_width as f32).powf(-0.5))?,
            unit(keys, 1.0)?,
            values.reshape(&[length, heads, -1])?,
        ])
    }

    /// What [`kernel::recur`] gives.
    fn by_graph(
        &self,
        [queries, keys, values, decays, shares]: [&Array; 5],
        state: &Array,
    ) -> Result<(Array, Array)> {
        let group = (self.value_heads / self.key_heads) as i32;
        let of_each = |x: &Array| -> Result<Array> {
            let repeated = ops::repeat_axis::<f32>(x.clone(), group, 1)?;
            Ok(repeated.transpose_axes(&[1, 0, 2])?)
        };
        let values = values.transpose_axes(&[1, 0, 2])?;
        let (decays, shares) = (decays.transpose()?, shares.transpose()?.expand_dims(2)?);
        let rows = [&of_each(queries)?, &of_each(keys)?, &values, &shares];
        let (read, state) = if decays.shape()[1] == 1 {
            graph::step(rows, &decays, state)?
        } else {
            graph::chunks(rows, &decays, state)?
        };
        Ok((read.transpose_axes(&[1, 0, 2])?, state))
    }

    /// Hk, Hv, Dk and Dv.
    fn sizes(&self) -> [i32; 4] {
        let heads = [self.key_heads, self.value_heads];
        let [key_heads, heads] = heads.map(|heads| heads as i32);
        [
            key_heads,
            heads,
            self.key_width as i32,
            self.value_width as i32,
        ]
    }

    /// Whether the kernels for GPUs can be compiled and run here.
    ///
    /// # Errors
    /// What the compiler, or the GPU, says.
    pub fn probe(&self) -> Result<()> {
        kernel::probe(self)
    }
}

/// `ln(1 + e^x)`.
fn softplus(x: &Array) -> Result<Array> {
    Ok(ops::logaddexp(x, Array::from_f32(0.0))?)
}

#[cfg(test)]
mod tests;
