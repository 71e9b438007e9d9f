//! Matrices from the tensors of a checkpoint: dense or packed, where they lie or for MLX.

use std::sync::Arc;

use super::{FLOATS, Loader, Precision};
use crate::config::{PackingConfig, PackingMode};
use crate::error::{Error, Result};
use crate::kernels::linear::Arithmetic;
use crate::kernels::matrix::{Format, Matrix as HostWeights, Number, Part};
use crate::mlx::{Array, Dtype, Mode, Packing, eval};
use crate::ops::host::HostMatrix;
use crate::ops::linear::Matrix;

impl Loader<'_> {
    pub(super) fn matrix(&self, prefix: &str, inputs: usize, outputs: usize) -> Result<Matrix> {
        self.stack(prefix, &[], inputs, outputs)
    }

    /// Matrices of one shape in one tensor `prefix.weight` (or `prefix`), `[stack.., outputs, inputs]`. For
    /// the kernels they are one matrix, row after row.
    ///
    /// # Errors
    /// As [`Self::linear`].
    pub fn stack(
        &self,
        prefix: &str,
        stack: &[usize],
        inputs: usize,
        outputs: usize,
    ) -> Result<Matrix> {
        let mut weight = format!("{prefix}.weight");
        if !self.has(&weight) && self.has(prefix) {
            prefix.clone_into(&mut weight);
        }
        let scales = format!("{prefix}.scales");
        let packing = self
            .quantization
            .as_ref()
            .and_then(|quantization| quantization.of(prefix));
        let shape = |columns: usize| [stack, &[outputs, columns]].concat();
        self.count(shape(inputs).iter().product());
        // mlx-lm leaves layers dense that it cannot pack, without saying so in the configuration.
        let Some(packing) = packing.filter(|_| self.has(&scales)) else {
            if self.host {
                return self.host_dense(&weight, &shape(inputs));
            }
            return Ok(Matrix::Dense(self.floats(&weight, &shape(inputs))?));
        };
        let (group, bits) = (packing.group_size, packing.bits);
        let whole = inputs.is_multiple_of(group) && (inputs * bits).is_multiple_of(32);
        let packing = whole.then(|| packing_of(packing));
        let packing = packing.ok_or_else(|| Error::Config {
            path: self.config.to_path_buf(),
            problem: format!(
                "{prefix}: {inputs} inputs cannot be packed {bits} bits each in groups of {group}"
            ),
        })?;
        let groups = shape(inputs / group);
        let words = shape(inputs * bits / 32);
        if self.host {
            return self.host_packed(prefix, &shape(inputs), &words, &groups, packing);
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

    /// Dense matrices where they lie.
    fn host_dense(&self, name: &str, shape: &[usize]) -> Result<Matrix> {
        let Some((weights, dtype)) = self.weights.take_host(name, shape, FLOATS)? else {
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

    /// Packed matrices where they lie.
    fn host_packed(
        &self,
        prefix: &str,
        shape: &[usize],
        words: &[usize],
        groups: &[usize],
        packing: Packing,
    ) -> Result<Matrix> {
        let name = |part: &str| format!("{prefix}.{part}");
        let affine = packing.mode == Mode::Affine;
        let types = if affine { FLOATS } else { &[Dtype::Uint8] };
        let biases = if affine {
            self.weights.take_host(&name("biases"), groups, types)?
        } else {
            Some((Part::empty(), Dtype::Uint8))
        };
        let types = biases
            .as_ref()
            .map_or(types, |(_, dtype)| std::slice::from_ref(dtype));
        let scales = self.weights.take_host(&name("scales"), groups, types)?;
        let codes = self
            .weights
            .take_host(&name("weight"), words, &[Dtype::Uint32])?;
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

    pub(super) fn host_matrix(
        &self,
        name: &str,
        shape: &[usize],
        format: Format,
        [codes, scales, biases]: [Part; 3],
    ) -> Result<Matrix> {
        let (columns, rows) = shape.split_last().unwrap_or((&1, &[]));
        let shape = [rows.iter().product(), *columns];
        let weights = HostWeights::new(shape, format, codes, scales, biases);
        let weights = weights.map_err(|problem| Error::Config {
            path: self.config.to_path_buf(),
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
    pub(super) fn converted(&self, array: Array) -> Result<Array> {
        let half = matches!(array.dtype(), Dtype::Bfloat16 | Dtype::Float16);
        if self.precision == Precision::Stored || !half {
            return Ok(array);
        }
        let converted = array.as_dtype(Dtype::Float32)?;
        eval([&converted])?;
        Ok(converted)
    }
}

/// The kernels' name for a type of floats.
pub(super) fn number_of(dtype: Dtype) -> Option<Number> {
    match dtype {
        Dtype::Float32 => Some(Number::Float32),
        Dtype::Float16 => Some(Number::Float16),
        Dtype::Bfloat16 => Some(Number::Bfloat16),
        _ => None,
    }
}

/// A packing in MLX's terms.
pub(in super::super) fn packing_of(packing: &PackingConfig) -> Packing {
    let mode = match packing.mode {
        PackingMode::Affine => Mode::Affine,
        PackingMode::Mxfp4 => Mode::Mxfp4,
        PackingMode::Mxfp8 => Mode::Mxfp8,
        PackingMode::Nvfp4 => Mode::Nvfp4,
    };
    Packing {
        mode,
        group_size: packing.group_size as i32,
        bits: packing.bits as i32,
    }
}
