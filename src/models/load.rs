//! Parts of models from the tensors of a checkpoint: dense or packed, in the type to compute in.

use std::cell::RefCell;

use crate::config::{PackingConfig, Quantization};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, Mode, Packing, eval};
use crate::ops::embedding::Embedding;
use crate::ops::linear::{Linear, Matrix};
use crate::ops::mlp::SwiGlu;
use crate::ops::norm::RmsNorm;
use crate::progress::{Progress, Unit};
use crate::weights::Weights;

/// The type that a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// That of the checkpoint. For GPUs.
    Stored,
    /// float32. For the CPU, where MLX is ten times slower in 16 bits, and for exact comparisons.
    Float32,
}

/// Makes parts of a model; notes which tensors were used.
pub struct Loader<'a> {
    weights: &'a Weights,
    quantization: Option<Quantization>,
    precision: Precision,
    progress: &'a dyn Progress,
    skipped: RefCell<Vec<String>>,
}

/// The types that a checkpoint may hold numbers in.
const FLOATS: &[Dtype] = &[Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

const LOADING: &str = "loading weights";

impl<'a> Loader<'a> {
    /// Over the tensors of `weights`, packed as `quantization` says.
    pub fn new(
        weights: &'a Weights,
        quantization: Option<Quantization>,
        precision: Precision,
        progress: &'a dyn Progress,
    ) -> Self {
        progress.start(LOADING, None, Unit::Items);
        Self {
            weights,
            quantization,
            precision,
            progress,
            skipped: RefCell::default(),
        }
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    /// Excuses tensors whose names begin so: the architecture does not use them.
    pub fn skip(&self, prefix: &str) {
        self.skipped.borrow_mut().push(prefix.to_owned());
    }

    /// Whether every tensor of the checkpoint found its place, and every place its tensor.
    ///
    /// # Errors
    /// [`Error::TensorNames`].
    pub fn finish(&self) -> Result<()> {
        self.progress.finish(LOADING);
        let skipped = self.skipped.borrow();
        self.weights.finish(|name| {
            // Old checkpoints carry the rotary frequencies, which follow from the configuration.
            name.ends_with(".rotary_emb.inv_freq")
                || skipped
                    .iter()
                    .any(|prefix| name.starts_with(prefix.as_str()))
        })
    }

    /// A tensor of floats in the type to compute in.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Array> {
        self.converted(self.weights.take(name, shape, FLOATS)?)
    }

    /// An RMS norm `prefix.weight` of this width.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn norm(&self, prefix: &str, width: usize, epsilon: f32) -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: self.tensor(&format!("{prefix}.weight"), &[width])?,
            epsilon,
        })
    }

    /// A linear layer `prefix.weight` `[outputs, inputs]`, with `prefix.bias` if `bias`.
    ///
    /// # Errors
    /// As [`Weights::take`], and [`Error::Weights`] where packed shapes cannot be.
    pub fn linear(
        &self,
        prefix: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Linear> {
        let matrix = self.matrix(prefix, inputs, outputs)?;
        let bias = bias
            .then(|| self.tensor(&format!("{prefix}.bias"), &[outputs]))
            .transpose()?;
        Ok(Linear { matrix, bias })
    }

    /// A gated feed-forward layer `prefix.{gate,up,down}_proj`.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn swiglu(&self, prefix: &str, hidden: usize, inner: usize, bias: bool) -> Result<SwiGlu> {
        Ok(SwiGlu {
            gate: self.linear(&format!("{prefix}.gate_proj"), hidden, inner, bias)?,
            up: self.linear(&format!("{prefix}.up_proj"), hidden, inner, bias)?,
            down: self.linear(&format!("{prefix}.down_proj"), inner, hidden, bias)?,
        })
    }

    /// An embedding `prefix.weight` `[rows, width]`.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn embedding(&self, prefix: &str, rows: usize, width: usize) -> Result<Embedding> {
        let matrix = self.matrix(prefix, width, rows)?;
        let dtype = match (&matrix, self.precision) {
            (_, Precision::Float32) => Dtype::Float32,
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

    fn matrix(&self, prefix: &str, inputs: usize, outputs: usize) -> Result<Matrix> {
        let weight = format!("{prefix}.weight");
        let scales = format!("{prefix}.scales");
        let packing = self
            .quantization
            .as_ref()
            .and_then(|quantization| quantization.of(prefix));
        // mlx-lm leaves layers dense that it cannot pack, without saying so in the configuration.
        let Some(packing) = packing.filter(|_| self.has(&scales)) else {
            return Ok(Matrix::Dense(self.tensor(&weight, &[outputs, inputs])?));
        };
        let packing = packing_of(prefix, packing, inputs)?;
        let (group, bits) = (packing.group_size as usize, packing.bits as usize);
        let groups = [outputs, inputs / group];
        let words = [outputs, inputs * bits / 32];
        let (scales, biases) = if packing.mode == Mode::Affine {
            let biases = self.tensor(&format!("{prefix}.biases"), &groups)?;
            (self.tensor(&scales, &groups)?, Some(biases))
        } else {
            (self.weights.take(&scales, &groups, &[Dtype::Uint8])?, None)
        };
        Ok(Matrix::Packed {
            weight: self.weights.take(&weight, &words, &[Dtype::Uint32])?,
            scales,
            biases,
            packing,
        })
    }

    /// Evaluated at once: the array over the file must outlive what is computed from it.
    fn converted(&self, array: Array) -> Result<Array> {
        let half = matches!(array.dtype(), Dtype::Bfloat16 | Dtype::Float16);
        if self.precision == Precision::Stored || !half {
            return Ok(array);
        }
        let converted = array.as_dtype(Dtype::Float32)?;
        eval([&converted])?;
        Ok(converted)
    }
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

/// The packing of a matrix with so many inputs, where it can be.
fn packing_of(prefix: &str, packing: &PackingConfig, inputs: usize) -> Result<Packing> {
    let PackingConfig {
        mode,
        group_size,
        bits,
    } = packing;
    let known = Mode::ALL.iter().find(|(name, _)| name == mode);
    match known {
        Some(&(_, mode))
            if inputs.is_multiple_of(*group_size) && (inputs * bits).is_multiple_of(32) =>
        {
            Ok(Packing {
                mode,
                group_size: *group_size as i32,
                bits: *bits as i32,
            })
        }
        _ => Err(Error::Config {
            path: "config.json".into(),
            problem: format!(
                "{prefix}: {inputs} inputs cannot be packed in {mode} groups of {group_size} with {bits} bits"
            ),
        }),
    }
}
