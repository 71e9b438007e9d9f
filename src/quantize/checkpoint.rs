//! What is read: a model's folder or a GGUF file, each tensor with what says how its numbers lie.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::settings::DType;
use super::source::{Encoding, SourceTensor};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::gguf::Gguf;
use crate::kernels::quantize::Ggml;
use crate::models::spec;
use crate::weights::{StoredTensor, Weights};

mod pair;

/// A model that can be packed.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(super) files: ModelFiles,
    pub(super) config: Config,
    pub(super) sources: Arc<BTreeMap<String, SourceTensor>>,
    /// What is in its files and not needed, and why.
    pub(super) dropped: Vec<(String, String)>,
}

impl Checkpoint {
    /// Opens a model's folder.
    ///
    /// # Errors
    /// [`Error::UnknownArchitecture`], whatever is wrong with the files, and [`Error::Quantize`] where it is packed
    /// already.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        let config = Config::read(files)?;
        spec(&config)?;
        if config.is_packed()? {
            return Err(Error::Quantize {
                what: config.path().display().to_string(),
                problem: "the model is packed already, and packing it again would lose more: take the checkpoint that it was made from".to_owned(),
            });
        }
        let (sources, dropped) = pair::pair(Weights::open(files)?.stored(), &config)?;
        Ok(Self {
            files: files.clone(),
            config,
            sources: Arc::new(sources),
            dropped,
        })
    }

    /// Opens a GGUF file.
    ///
    /// # Errors
    /// [`Error::Gguf`], [`Error::Io`], and where a `config.json` lies beside it [`Error::UnknownArchitecture`].
    pub fn open_gguf(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let config = Config::read(&gguf.files)?;
        spec(&config)?;
        let sources = gguf.tensors.into_iter().map(|tensor| {
            let encoding = match tensor.stored.dtype.as_str() {
                "Q4_0" => Encoding::Ggml(Ggml::Q4_0),
                "Q4_1" => Encoding::Ggml(Ggml::Q4_1),
                "Q8_0" => Encoding::Ggml(Ggml::Q8_0),
                "Q6_K" => Encoding::Ggml(Ggml::Q6K),
                dtype => DType::of(dtype).map_or(Encoding::Other, Encoding::Numbers),
            };
            let source = SourceTensor {
                change: tensor.change,
                ..SourceTensor::new(tensor.stored, encoding)
            };
            (source.stored.name.clone(), source)
        });
        Ok(Self {
            config,
            sources: Arc::new(sources.collect()),
            files: gguf.files,
            dropped: gguf.dropped,
        })
    }

    /// The model's files; what lies beside the weights is in them.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Whether models are loaded from it as it is: a folder, of numbers that are not packed.
    pub fn is_dense(&self) -> bool {
        let is_dense = |source: &SourceTensor| source.format().is_none();
        !matches!(self.files, ModelFiles::Derived(..)) && self.sources.values().all(is_dense)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.sources
            .values()
            .map(|tensor| tensor.bytes().len())
            .sum()
    }
}

/// Whether MLX can have codes of it as they are.
pub(super) fn has_codes(sources: &BTreeMap<String, SourceTensor>) -> bool {
    sources.values().any(|source| source.kept().is_some())
}

/// What is wrong with a tensor of the files.
fn refused(tensor: &StoredTensor, problem: &str) -> Error {
    Error::Weights {
        path: tensor.path.clone(),
        problem: format!("tensor {} {problem}", tensor.name),
    }
}

#[cfg(test)]
mod tests;
