//! Parts of models from the tensors of a checkpoint: dense or packed, in the type to compute in.

mod absorbed;
mod interleaved;
mod layers;
mod matrices;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(super) use interleaved::{BiasStack, Picked};
pub(super) use matrices::packing_of;

use crate::config::Quantization;
use crate::error::{Error, Result};
use crate::kernels::CacheNumber;
use crate::mlx::{Dtype, Group, computes_on_cpu, has_gpu_kernels};
use crate::progress::{Progress, Unit, Work};
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
    /// Where the configuration is.
    config: &'a Path,
    quantization: Option<Quantization>,
    precision: Precision,
    /// The processes that compute the model together.
    group: Option<Arc<Group>>,
    /// The kernels of the CPU compute.
    host: bool,
    /// The device takes kernels of ours.
    gpu_kernels: bool,
    progress: &'a dyn Progress,
    /// It is told of until all is loaded, or nothing more can be.
    _work: Work<'a>,
    skipped: RefCell<Vec<String>>,
    /// Prefixes of embeddings.
    embeddings: RefCell<Vec<String>>,
    /// There is a head beside the embedding.
    has_head: Cell<bool>,
    /// Bytes of experts that a token does not take.
    spared: Cell<usize>,
    parameters: Cell<usize>,
    /// Numbers of the widest row that a token has on its way, but for logits.
    widest: Cell<usize>,
    /// Whether the GPU's kernels of some layers work.
    kernels: RefCell<BTreeMap<&'static str, bool>>,
}

/// Rows that a token has at a time: what comes in, is normed, gates, is gated, goes out, and what is rounded.
const ROWS_AT_A_TIME: usize = 6;

/// The types that a checkpoint may hold numbers in.
const FLOATS: &[Dtype] = &[Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

/// What the names of the text model's tensors may begin with, and its head: by itself, or beside a tower for images.
const TEXT: [(&str, &str); 4] = [
    ("model.", "lm_head"),
    ("language_model.model.", "language_model.lm_head"),
    ("model.language_model.", "lm_head"),
    // Models for embeddings are the trunk alone.
    ("", "lm_head"),
];

/// Tensors of what sees and hears, which answers to text need not.
const OTHER_SENSES: [&str; 7] = [
    "model.visual.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "visual.",
    "vision_tower.",
    "vision_model.",
    "multi_modal_projector.",
];

const LOADING: &str = "loading weights";

impl<'a> Loader<'a> {
    /// Over the tensors of `weights`, packed as `quantization` says.
    pub fn new(
        weights: &'a Weights,
        config: &'a Path,
        quantization: Option<Quantization>,
        precision: Precision,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            _work: Work::begin(progress, LOADING, None, Unit::Items),
            weights,
            config,
            quantization,
            precision,
            group: None,
            host: computes_on_cpu(),
            gpu_kernels: has_gpu_kernels(),
            progress,
            skipped: RefCell::default(),
            embeddings: RefCell::default(),
            has_head: Cell::default(),
            spared: Cell::default(),
            parameters: Cell::default(),
            widest: Cell::default(),
            kernels: RefCell::default(),
        }
    }

    /// What the names of the text model's tensors begin with, and those of its head.
    pub fn text_prefixes(&self) -> (&'static str, &'static str) {
        text_prefixes(|name| self.has(name))
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    /// Whether a kernel of the GPU computes such layers: `probe` runs it, once. One that does not work is told
    /// of, and graphs compute.
    pub fn has_kernel(&self, layers: &'static str, probe: impl FnOnce() -> Result<()>) -> bool {
        if let Some(&works) = self.kernels.borrow().get(layers) {
            return works;
        }
        let works = self.gpu_kernels
            && match probe() {
                Ok(()) => true,
                Err(error) => {
                    self.progress.notice(&format!(
                        "the kernel of {layers} does not work here ({error}), slower operations take its place"
                    ));
                    false
                }
            };
        self.kernels.borrow_mut().insert(layers, works);
        works
    }

    /// The shape of a tensor, if the checkpoint has it and it is not made up.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weights.shape(name)
    }

    /// Excuses tensors whose names begin so: the architecture does not use them.
    pub fn skip(&self, prefix: &str) {
        self.skipped.borrow_mut().push(prefix.to_owned());
    }

    /// Why a model could not be made: what stands in for a missing tensor fits nowhere, so that where some are
    /// missing, it is that.
    pub fn blame(&self, error: Error) -> Error {
        self.weights.missing().unwrap_or(error)
    }

    /// Whether every tensor of the checkpoint found its place, and every place its tensor.
    ///
    /// # Errors
    /// [`crate::Error::TensorNames`].
    pub fn finish(&self) -> Result<()> {
        let skipped = self.skipped.borrow();
        self.weights.finish(|name| {
            // Old checkpoints carry the rotary frequencies, which follow from the configuration.
            name.ends_with(".rotary_emb.inv_freq")
                || OTHER_SENSES.iter().any(|prefix| name.starts_with(prefix))
                || skipped
                    .iter()
                    .any(|prefix| name.starts_with(prefix.as_str()))
        })
    }

    /// Numbers in all tensors that were asked for, however they are packed.
    pub fn parameters(&self) -> usize {
        self.parameters.get()
    }

    /// Bytes of all tensors that were asked for, without embeddings where there is a head beside, and
    /// without experts that a token does not take.
    pub fn read_bytes(&self) -> usize {
        let embeddings = self.embeddings.borrow();
        let all = self.weights.taken_bytes(|name| {
            let embeds = |prefix: &String| name.starts_with(prefix.as_str());
            !(self.has_head.get() && embeddings.iter().any(embeds))
        });
        all - self.spared.get()
    }

    /// Notes that a token takes `taken` of `count` experts, which are the tensors with this prefix, and has a row of
    /// `width` numbers of each on its way.
    pub fn spare(&self, prefix: &str, [count, taken]: [usize; 2], width: usize) {
        let bytes = self.weights.taken_bytes(|name| name.starts_with(prefix));
        let spared = bytes / count * count.saturating_sub(taken);
        self.spared.set(self.spared.get() + spared);
        self.widen(taken * width);
    }

    /// Notes that a token has a row of so many numbers on its way.
    fn widen(&self, width: usize) {
        self.widest.set(self.widest.get().max(width));
    }

    /// Memory for one token of a step, beside weights and states: a few of the widest rows at a time.
    pub fn work_bytes(&self) -> usize {
        let number = match (self.host, self.precision) {
            (true, _) | (_, Precision::Float32) => size_of::<f32>(),
            (false, Precision::Int8 | Precision::Stored) => size_of::<u16>(),
        };
        ROWS_AT_A_TIME * self.widest.get() * number
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
}

/// Where the tensors of the text model are, and those of its head, in a checkpoint that has these tensors.
pub fn text_prefixes(has: impl Fn(&str) -> bool) -> (&'static str, &'static str) {
    let embeds = |prefix: &str| has(&format!("{prefix}embed_tokens.weight"));
    let found = TEXT.into_iter().find(|(prefix, _)| embeds(prefix));
    let (prefix, head) = found.unwrap_or(TEXT[0]);
    // The nested form comes with the head on either level.
    if has(&format!("{head}.weight")) || !has("lm_head.weight") {
        (prefix, head)
    } else {
        (prefix, "lm_head")
    }
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
