//! Parts of models from the tensors of a checkpoint: dense or packed, in the type to compute in.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::config::{PackingConfig, Quantization};
use crate::error::{Error, Result};
use crate::kernels::CacheNumber;
use crate::kernels::linear::Arithmetic;
use crate::kernels::matrix::{Format, Matrix as HostWeights, Number, Part};
use crate::mlx::{Array, Dtype, Mode, Packing, computes_on_cpu, eval};
use crate::ops::embedding::Embedding;
use crate::ops::host::HostMatrix;
use crate::ops::linear::{Linear, Matrix};
use crate::ops::mlp::SwiGlu;
use crate::ops::norm::RmsNorm;
use crate::ops::vector::Vector;
use crate::progress::{Progress, Unit};
use crate::weights::Weights;

/// The type that a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// That of the checkpoint. For GPUs.
    Stored,
    /// float32, but packed weights times activations that are rounded to int8, and a cache in int8
    /// beside packed weights, in half precision beside others: for the CPU.
    Int8,
    /// float32: for exact comparisons.
    Float32,
}

/// Makes parts of a model; notes which tensors were used.
pub struct Loader<'a> {
    weights: &'a Weights,
    quantization: Option<Quantization>,
    precision: Precision,
    /// The kernels of the CPU compute.
    host: bool,
    progress: &'a dyn Progress,
    skipped: RefCell<Vec<String>>,
    /// Prefixes of embeddings.
    embeddings: RefCell<Vec<String>>,
    parameters: Cell<usize>,
}

/// The types that a checkpoint may hold numbers in.
const FLOATS: &[Dtype] = &[Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

/// The matrix that makes logits, where the embedding does not serve as one.
const HEAD: &str = "lm_head.weight";

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
            host: computes_on_cpu(),
            progress,
            skipped: RefCell::default(),
            embeddings: RefCell::default(),
            parameters: Cell::default(),
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

    /// Numbers in all tensors that were asked for, however they are packed.
    pub fn parameters(&self) -> usize {
        self.parameters.get()
    }

    /// Bytes of all tensors that were asked for, without embeddings where there is a head beside.
    pub fn read_bytes(&self) -> usize {
        let embeddings = self.embeddings.borrow();
        let has_head = self.weights.taken_type(HEAD).is_some();
        self.weights.taken_bytes(|name| {
            let embeds = |prefix: &String| name.starts_with(prefix.as_str());
            !(has_head && embeddings.iter().any(embeds))
        })
    }

    /// How matrices are packed, or the type of dense ones.
    pub fn quantization(&self) -> String {
        if let Some(quantization) = &self.quantization {
            return quantization.default_packing().to_string();
        }
        let embeddings = self.embeddings.borrow();
        let name = embeddings.first().map(|prefix| format!("{prefix}weight"));
        match name.and_then(|name| self.weights.taken_type(&name)) {
            Some(Dtype::Bfloat16) => "bf16",
            Some(Dtype::Float16) => "f16",
            _ => "f32",
        }
        .to_owned()
    }

    fn count(&self, parameters: usize) {
        self.parameters.set(self.parameters.get() + parameters);
    }

    /// How layers that the kernels compute keep keys and values; `None` where MLX computes.
    pub fn host_cache(&self) -> Option<CacheNumber> {
        self.host.then_some(match self.precision {
            Precision::Float32 => CacheNumber::F32,
            Precision::Int8 if self.quantization.is_some() => CacheNumber::I8,
            Precision::Int8 | Precision::Stored => CacheNumber::F16,
        })
    }

    /// A row of floats.
    fn vector(&self, name: &str, width: usize) -> Result<Vector> {
        self.count(width);
        if !self.host {
            return Ok(Vector::Device(self.floats(name, &[width])?));
        }
        let found = self.weights.take_host(name, &[width], FLOATS)?;
        let numbers = found.map(|(bytes, dtype)| number_of(dtype).map(|n| n.floats(&bytes)));
        Ok(Vector::Host(numbers.flatten().unwrap_or_default().into()))
    }

    /// Floats in the type to compute in.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Array> {
        self.converted(self.weights.take(name, shape, FLOATS)?)
    }

    /// An RMS norm `prefix.weight` of this width.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn norm(&self, prefix: &str, width: usize, epsilon: f32) -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: self.vector(&format!("{prefix}.weight"), width)?,
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
            .then(|| self.vector(&format!("{prefix}.bias"), outputs))
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

    fn matrix(&self, prefix: &str, inputs: usize, outputs: usize) -> Result<Matrix> {
        let weight = format!("{prefix}.weight");
        let scales = format!("{prefix}.scales");
        let packing = self
            .quantization
            .as_ref()
            .and_then(|quantization| quantization.of(prefix));
        // mlx-lm leaves layers dense that it cannot pack, without saying so in the configuration.
        let Some(packing) = packing.filter(|_| self.has(&scales)) else {
            self.count(outputs * inputs);
            let shape = [outputs, inputs];
            if self.host {
                return self.host_dense(&weight, shape);
            }
            return Ok(Matrix::Dense(self.floats(&weight, &shape)?));
        };
        let (group, bits) = (packing.group_size, packing.bits);
        let whole = inputs.is_multiple_of(group) && (inputs * bits).is_multiple_of(32);
        let packing = packing_of(packing).filter(|_| whole);
        let packing = packing.ok_or_else(|| Error::Config {
            path: "config.json".into(),
            problem: format!(
                "{prefix}: {inputs} inputs cannot be packed {bits} bits each in groups of {group}"
            ),
        })?;
        self.count(outputs * inputs);
        let groups = [outputs, inputs / group];
        let words = [outputs, inputs * bits / 32];
        if self.host {
            return self.host_packed(prefix, [outputs, inputs], words, groups, packing);
        }
        let (scales, biases) = if packing.mode == Mode::Affine {
            let biases = self.floats(&format!("{prefix}.biases"), &groups)?;
            (self.floats(&scales, &groups)?, Some(biases))
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

    /// A dense matrix where it lies.
    fn host_dense(&self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        let Some((weights, dtype)) = self.weights.take_host(name, &shape, FLOATS)? else {
            return Ok(Matrix::missing());
        };
        let Some(number) = number_of(dtype) else {
            return Ok(Matrix::missing());
        };
        self.host_matrix(
            name,
            shape,
            Format::Dense(number),
            [weights, Part::empty(), Part::empty()],
        )
    }

    /// A packed matrix where it lies.
    fn host_packed(
        &self,
        prefix: &str,
        shape: [usize; 2],
        words: [usize; 2],
        groups: [usize; 2],
        packing: Packing,
    ) -> Result<Matrix> {
        let name = |part: &str| format!("{prefix}.{part}");
        let affine = packing.mode == Mode::Affine;
        let types = if affine { FLOATS } else { &[Dtype::Uint8] };
        let biases = if affine {
            self.weights.take_host(&name("biases"), &groups, types)?
        } else {
            Some((Part::empty(), Dtype::Uint8))
        };
        let types = biases
            .as_ref()
            .map_or(types, |(_, dtype)| std::slice::from_ref(dtype));
        let scales = self.weights.take_host(&name("scales"), &groups, types)?;
        let codes = self
            .weights
            .take_host(&name("weight"), &words, &[Dtype::Uint32])?;
        let (Some((codes, _)), Some((scales, dtype)), Some((biases, _))) = (codes, scales, biases)
        else {
            return Ok(Matrix::missing());
        };
        let format = match (packing.mode, number_of(dtype)) {
            (Mode::Affine, Some(number)) => Format::Affine {
                bits: packing.bits as usize,
                group: packing.group_size as usize,
                number,
            },
            (Mode::Mxfp4, _) => Format::Mxfp4,
            (Mode::Mxfp8, _) => Format::Mxfp8,
            (Mode::Nvfp4, _) => Format::Nvfp4,
            (Mode::Affine, None) => return Ok(Matrix::missing()),
        };
        self.host_matrix(prefix, shape, format, [codes, scales, biases])
    }

    fn host_matrix(
        &self,
        name: &str,
        shape: [usize; 2],
        format: Format,
        [codes, scales, biases]: [Part; 3],
    ) -> Result<Matrix> {
        let weights = HostWeights::new(shape, format, codes, scales, biases);
        let weights = weights.map_err(|problem| Error::Config {
            path: "config.json".into(),
            problem: format!("{name}: {problem}"),
        })?;
        let arithmetic = match self.precision {
            Precision::Float32 => Arithmetic::Float32,
            Precision::Int8 | Precision::Stored => Arithmetic::Int8,
        };
        Ok(Matrix::Host(HostMatrix {
            weights: Arc::new(weights),
            arithmetic,
        }))
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

/// The kernels' name for a type of floats.
fn number_of(dtype: Dtype) -> Option<Number> {
    match dtype {
        Dtype::Float32 => Some(Number::Float32),
        Dtype::Float16 => Some(Number::Float16),
        Dtype::Bfloat16 => Some(Number::Bfloat16),
        _ => None,
    }
}

/// A packing in MLX's terms, if MLX has it.
pub(super) fn packing_of(packing: &PackingConfig) -> Option<Packing> {
    let (_, mode) = Mode::ALL.iter().find(|(name, _)| *name == packing.mode)?;
    Some(Packing {
        mode: *mode,
        group_size: packing.group_size as i32,
        bits: packing.bits as i32,
    })
}
