//! The architectures: one file each, one row each in [`ARCHITECTURES`].
//!
//! To add one: a file with `SPEC`, `Config` and, where it differs from `layers::block`, `Block`, in that
//! order and under those names, and its `SPEC` in the table. What many share is in `layers`, what computes
//! is in `ops`.

mod gemma3;
mod glm4_moe_lite;
mod gpt_oss;
mod layers;
mod llama;
mod load;
mod mistral;
mod qwen2;
mod qwen3;
mod qwen3_next;
pub mod roles;
mod shapes;
mod smollm3;

use std::fmt;
use std::sync::Arc;

use load::{BiasStack, Picked, packing_of};
pub use load::{Loader, Precision, text_prefixes};
pub use shapes::{SHAPES, Shape};

use crate::cache::SequenceCache;
use crate::config::{self, PackingConfig};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mlx::Group;
use crate::ops::batch::Batch;
use crate::ops::decode::Program;
use crate::ops::tensor::Tensor;
use crate::progress::Progress;
use crate::weights::Weights;

/// One architecture: the names that checkpoints give it, and how it is loaded.
#[derive(Clone, Copy)]
pub struct Spec {
    /// What `architectures` in `config.json` may say.
    pub names: &'static [&'static str],
    /// What its tensors are for.
    pub tensors: roles::Tensors,
    /// Makes the model from its configuration and weights.
    pub load: fn(&config::Config, &Loader<'_>) -> Result<Box<dyn Model>>,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Every architecture.
pub const ARCHITECTURES: &[Spec] = &[
    gemma3::SPEC,
    glm4_moe_lite::SPEC,
    gpt_oss::SPEC,
    llama::SPEC,
    mistral::SPEC,
    qwen2::SPEC,
    qwen3::SPEC,
    qwen3::EXPERTS,
    qwen3_next::SPEC,
    qwen3_next::QWEN3_5,
    smollm3::SPEC,
];

/// A loaded model: weights and the way through them. Sequences live in caches outside of it.
pub trait Model {
    /// Tokens that a sequence may hold.
    fn context(&self) -> usize;

    /// Rows of the vocabulary that logits are given for.
    fn vocabulary(&self) -> usize;

    /// An empty cache.
    fn new_cache(&self) -> SequenceCache;

    /// Runs a batch through all layers: hidden states before the last norm, `[T, hidden]`. Each
    /// segment's cache grows by its tokens.
    ///
    /// # Errors
    /// What MLX says; the caches of the batch are then not usable any more.
    fn forward(&self, batch: &Batch, caches: &mut [&mut SequenceCache]) -> Result<Tensor>;

    /// The last norm: what chosen rows `[R, hidden]` of the hidden states stand for, `[R, hidden]`.
    ///
    /// # Errors
    /// What MLX says.
    fn states(&self, hidden: &Tensor) -> Result<Tensor>;

    /// The last norm and the head: logits `[R, vocabulary]` of chosen rows `[R, hidden]` of the
    /// hidden states.
    ///
    /// # Errors
    /// What MLX says.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;

    /// All of it as a program for the kernel that decodes; `None` where the kernel cannot compute it, or none can be
    /// compiled.
    ///
    /// # Errors
    /// What MLX, or the compiler, says.
    fn decode_program(&self) -> Result<Option<Program>>;
}

/// How the kernel that decodes computes a model, if it can; of a group, on all of it or on none.
///
/// # Errors
/// What MLX, or the compiler, says.
pub fn decode_program(model: &dyn Model, group: Option<&Group>) -> Result<Option<Program>> {
    let own = model.decode_program();
    let Some(group) = group else {
        return own;
    };
    match own {
        Ok(program) => Program::together(program, group),
        // The others ask.
        Err(error) => Program::together(None, group).and(Err(error)),
    }
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A checkpoint.
    Files(ModelFiles),
    /// Weights that mean nothing, in the shape of a real model, dense (bfloat16) or packed.
    Random(Shape, Option<PackingConfig>),
}

/// A model and what is worth telling of it.
pub struct LoadedModel {
    /// The model.
    pub model: Box<dyn Model>,
    /// The name that `config.json` gives the architecture.
    pub architecture: String,
    /// Size of the weights' files, in bytes.
    pub weights_bytes: usize,
    /// Of the weights, the bytes that are read to compute one token: of an embedding that is not
    /// the head as well, one row is read, which is not worth counting.
    pub read_bytes: usize,
    /// Memory for one token of a step, beside weights and states.
    pub work_bytes: usize,
    /// Numbers in the weights, however they are packed.
    pub parameters: usize,
    /// How matrices are packed, `affine4g64`, `mxfp4` …, or the type of dense ones, `bf16` ….
    pub quantization: String,
}

/// The architecture that a configuration names.
///
/// # Errors
/// [`Error::UnknownArchitecture`] with what is known.
pub fn spec(config: &config::Config) -> Result<&'static Spec> {
    let architecture = config.architecture()?;
    let mut specs = ARCHITECTURES.iter();
    let spec = specs.find(|spec| spec.names.contains(&architecture));
    spec.ok_or_else(|| Error::UnknownArchitecture {
        path: config.path().to_path_buf(),
        name: architecture.to_owned(),
        known: ARCHITECTURES
            .iter()
            .flat_map(|spec| spec.names.iter().copied())
            .collect(),
    })
}

/// Loads a model: configuration, weights, and the architecture that it names. There are `room` bytes for it.
///
/// # Errors
/// [`Error::UnknownArchitecture`] with what is known, [`Error::WeightsMemory`], or whatever is wrong with the files.
pub fn load(
    source: &Source,
    precision: Precision,
    room: usize,
    group: Option<&Arc<Group>>,
    progress: &dyn Progress,
) -> Result<LoadedModel> {
    match source {
        Source::Files(files) => {
            let config = config::Config::read(files)?;
            // What is wrong with it is told before weights are opened.
            spec(&config)?;
            config.quantization()?;
            let weights = Weights::open(files)?;
            load_from(&config, &weights, precision, room, group, progress)
        }
        Source::Random(shape, packing) => {
            let config = shape.config(packing.as_ref());
            let weights = Weights::random(packing.as_ref().map(packing_of));
            load_from(&config, &weights, precision, room, group, progress)
        }
    }
}

/// Loads a model whose configuration and tensors are found: what says how they are packed is in the configuration.
///
/// # Errors
/// As [`load()`].
pub fn load_from(
    config: &config::Config,
    weights: &Weights,
    precision: Precision,
    room: usize,
    group: Option<&Arc<Group>>,
    progress: &dyn Progress,
) -> Result<LoadedModel> {
    let architecture = config.architecture()?.to_owned();
    let spec = spec(config)?;
    let quantization = config.quantization()?;
    if weights.bytes() > room {
        return Err(Error::WeightsMemory {
            weights: weights.bytes(),
            room,
        });
    }
    let mut loader = Loader::new(weights, config.path(), quantization, precision, progress);
    loader.share(group);
    let model = (spec.load)(config, &loader).map_err(|error| loader.blame(error))?;
    loader.finish()?;
    Ok(LoadedModel {
        model,
        architecture,
        weights_bytes: weights.bytes(),
        read_bytes: loader.read_bytes(),
        work_bytes: loader.work_bytes(),
        parameters: loader.parameters(),
        quantization: loader.quantization(),
    })
}
