//! Layers from the tensors of a checkpoint.

use std::sync::Arc;

use super::matrices::number_of;
use super::{FLOATS, Loader, Precision};
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::kernels::linear::Arithmetic;
use crate::mlx::{Array, Dtype, Group, eval};
use crate::ops::embedding::Embedding;
use crate::ops::linear::{Linear, Matrix};
use crate::ops::mlp::GatedMlp;
use crate::ops::norm::RmsNorm;
use crate::ops::vector::Vector;

impl Loader<'_> {
    /// A row of floats.
    ///
    /// # Errors
    /// As [`Weights::take`](crate::weights::Weights::take).
    pub fn vector(&self, name: &str, width: usize) -> Result<Vector> {
        self.count(width);
        if !self.host {
            return Ok(Vector::Device(self.floats(name, &[width])?));
        }
        let found = self.weights.take_host(name, &[width], FLOATS)?;
        let numbers = found.map(|(bytes, dtype)| number_of(dtype).map(|n| n.floats(&bytes)));
        Ok(Vector::Host(numbers.flatten().unwrap_or_default().into()))
    }

    /// Weights of a convolution of each channel by itself, `[channels, 1, taps]` or `[channels, taps, 1]`, as
    /// `[taps, channels]`.
    ///
    /// # Errors
    /// As [`Weights::take`](crate::weights::Weights::take).
    pub fn taps(&self, name: &str, channels: usize, taps: usize) -> Result<Vector> {
        self.count(channels * taps);
        let shape = match self.shape(name) {
            Some(shape) if shape == [channels, taps, 1] => shape,
            _ => vec![channels, 1, taps],
        };
        if !self.host {
            let weight = self.floats(name, &shape)?;
            if weight.size() != channels * taps {
                return Ok(Vector::Device(weight));
            }
            let weight = weight.reshape(&[channels as i32, taps as i32])?;
            let weight = weight.transpose()?.contiguous()?;
            eval([&weight])?;
            return Ok(Vector::Device(weight));
        }
        let found = self.weights.take_host(name, &shape, FLOATS)?;
        let numbers = found.and_then(|(bytes, dtype)| Some(number_of(dtype)?.floats(&bytes)));
        let numbers = numbers.unwrap_or_else(|| vec![0.0; channels * taps]);
        let by_tap = (0..taps).flat_map(|tap| numbers.iter().skip(tap).step_by(taps).copied());
        Ok(Vector::Host(by_tap.collect()))
    }

    /// What steps' sizes are multiplied by to be logarithms of decays, of the logarithms `name` of what they
    /// are divided by: `-e^x`.
    ///
    /// # Errors
    /// As [`Weights::take`](crate::weights::Weights::take).
    pub fn decay(&self, name: &str, heads: usize) -> Result<Vector> {
        Ok(match self.vector(name, heads)? {
            Vector::Device(logarithms) => {
                let decay = logarithms.as_dtype(Dtype::Float32)?.exp()?.negative()?;
                eval([&decay])?;
                Vector::Device(decay)
            }
            Vector::Host(logarithms) => Vector::Host(
                logarithms
                    .iter()
                    .map(|logarithm| -logarithm.exp())
                    .collect(),
            ),
        })
    }

    /// Floats in the type to compute in.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Array> {
        self.converted(self.weights.take(name, shape, FLOATS)?)
    }

    /// An RMS norm `prefix.weight` of this width.
    ///
    /// # Errors
    /// As [`Weights::take`](crate::weights::Weights::take).
    pub fn norm(&self, prefix: &str, width: usize, epsilon: f32) -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: self.vector(&format!("{prefix}.weight"), width)?,
            epsilon,
        })
    }

    /// The same with `shift` added to the weight: some checkpoints hold how far it is from 1.
    ///
    /// # Errors
    /// As [`Weights::take`](crate::weights::Weights::take).
    pub fn shifted_norm(
        &self,
        prefix: &str,
        width: usize,
        epsilon: f32,
        shift: f32,
    ) -> Result<RmsNorm> {
        let mut norm = self.norm(prefix, width, epsilon)?;
        if shift != 0.0 {
            norm.weight = match norm.weight {
                Vector::Device(weight) => {
                    let shift = Array::from_f32(shift).as_dtype(weight.dtype())?;
                    let shifted = weight.add(shift)?;
                    eval([&shifted])?;
                    Vector::Device(shifted)
                }
                Vector::Host(weight) => {
                    Vector::Host(weight.iter().map(|weight| weight + shift).collect())
                }
            };
        }
        Ok(norm)
    }

    /// The matrix `prefix.weight` that makes logits, where the embedding does not serve as one.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn head(&self, prefix: &str, hidden: usize, vocabulary: usize) -> Result<Linear> {
        self.has_head.set(true);
        Ok(Linear {
            matrix: self.matrix(prefix, hidden, vocabulary)?,
            bias: None,
            group: None,
        })
    }

    /// A linear layer `prefix.weight` `[outputs, inputs]`, with `prefix.bias` if `bias`.
    ///
    /// # Errors
    /// As [`Weights::take`](crate::weights::Weights::take), and [`Error::Weights`](crate::Error::Weights) where packed shapes cannot be.
    pub fn linear(
        &self,
        prefix: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Linear> {
        let matrix = self.matrix(prefix, inputs, outputs)?;
        self.widen(inputs.max(outputs));
        let bias = bias
            .then(|| self.vector(&format!("{prefix}.bias"), outputs))
            .transpose()?;
        Ok(Linear {
            matrix,
            bias,
            group: None,
        })
    }

    /// The same, computed in float32 whatever the others are: what it decides is not to be rounded.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn exact_linear(
        &self,
        prefix: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Linear> {
        let mut linear = self.linear(prefix, inputs, outputs, bias)?;
        if let Matrix::Host(matrix) = &mut linear.matrix {
            matrix.arithmetic = Arithmetic::Float32;
        }
        Ok(linear)
    }

    /// A gated feed-forward layer `prefix.{gate,up,down}_proj`, with a `SiLU`.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn gated_mlp(
        &self,
        prefix: &str,
        hidden: usize,
        inner: usize,
        bias: bool,
    ) -> Result<GatedMlp> {
        let whole = GatedMlp {
            gate: self.linear(&format!("{prefix}.gate_proj"), hidden, inner, bias)?,
            up: self.linear(&format!("{prefix}.up_proj"), hidden, inner, bias)?,
            down: self.linear(&format!("{prefix}.down_proj"), inner, hidden, bias)?,
            activation: Activation::Silu,
        };
        match &self.group {
            Some(group) => whole.part(group),
            None => Ok(whole),
        }
    }

    /// Has layers parted among these processes.
    pub fn share(&mut self, group: Option<&Arc<Group>>) {
        self.group = group.cloned();
    }

    /// The processes that compute the model together, if there are several.
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// An embedding `prefix.weight` `[rows, width]`.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn embedding(&self, prefix: &str, rows: usize, width: usize) -> Result<Embedding> {
        let matrix = self.matrix(prefix, width, rows)?;
        self.embeddings.borrow_mut().push(format!("{prefix}."));
        let dtype = match (&matrix, self.precision) {
            (_, Precision::Float32 | Precision::Int8) | (Matrix::Host(_), _) => Dtype::Float32,
            (Matrix::Dense(weight), Precision::Stored) => weight.dtype(),
            // The scales of the floating modes are bytes; models of those modes compute in bfloat16.
            (Matrix::Packed { scales, .. }, Precision::Stored) => {
                if scales.dtype() == Dtype::Uint8 {
                    Dtype::Bfloat16
                } else {
                    scales.dtype()
                }
            }
        };
        Ok(Embedding { matrix, dtype })
    }
}
