//! From a model's files to an engine that answers: where the rooms are put together.

mod budget;

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::cache::store::Store;
use crate::config::default_sampling;
use crate::engine::model_stepper;
use crate::engine::model_stepper::{Budget, ModelStepper};
use crate::engine::sockets::Sockets;
use crate::engine::together::Peers;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::kernels::pool;
use crate::memory;
use crate::mlx::{self, Device, DeviceChoice, Group};
use crate::models::{self, Precision, Source};
use crate::progress::Progress;
use crate::sample::Sampling;
use crate::tokenizer::{Tokenizer, TokenizerOptions};
use crate::weights;

pub use budget::Sharing;

/// How a model is opened.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// What computes.
    pub device: DeviceChoice,
    /// MLX's library: a file or a folder with one; `None` searches the usual places.
    pub library: Option<PathBuf>,
    /// Threads that compute on the CPU; `None` is one for each core.
    pub threads: Option<usize>,
    /// Whether the CPU computes in float32 throughout, instead of rounding to 8 bits what is
    /// multiplied with packed weights.
    pub exact: bool,
    /// Whether GPUs compute every step as a graph, and none by the kernel for a whole model: for comparing.
    pub graphs: bool,
    /// Bytes of memory for everything: weights, the states of all sequences, what is kept of ended ones, and on
    /// the CPU the rest of the process. `None` is
    /// three quarters of what the device has, and no more than it could give now.
    pub memory: Option<usize>,
    /// Others that take of the same memory.
    pub sharing: Sharing,
    /// Where state outlives the process, for prompts that begin alike.
    pub kept: Option<Kept>,
    /// A folder in which tables of tokenizers are kept; `None` builds them each time.
    pub tables: Option<PathBuf>,
    /// A folder in which kernels that were compiled for a GPU are kept; `None` compiles them in each process.
    pub compiled: Option<PathBuf>,
    /// Several processes compute the model together, of which this is one: the file that names their addresses, as
    /// [`Group::join`] says.
    pub hosts: Option<PathBuf>,
}

/// A folder of state that outlives the process.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The folder; it is made where there is none.
    pub folder: PathBuf,
    /// Bytes that it may hold, whichever model they are of.
    pub bytes: u64,
}

/// A model that is loaded and ready.
pub struct Loaded {
    /// Answers requests.
    pub engine: Engine,
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// How the model's makers sample.
    pub sampling: Sampling,
    /// What is worth telling.
    pub description: ModelDescription,
}

/// What is worth telling of a loaded model.
#[derive(Debug, Clone)]
pub struct ModelDescription {
    /// The name that `config.json` gives the architecture.
    pub architecture: String,
    /// Tokens that a sequence may hold.
    pub context: usize,
    /// Rows of the vocabulary that the model gives logits for.
    pub vocabulary: usize,
    /// Size of the weights' files, in bytes.
    pub weights_bytes: usize,
    /// What it may take of the device's memory, for weights and everything else, in bytes.
    pub memory_bytes: usize,
    /// Of the weights, the bytes that are read to compute one token.
    pub read_bytes: usize,
    /// Numbers in the weights, however they are packed.
    pub parameters: usize,
    /// How matrices are packed, `affine4g64`, `mxfp4` …, or the type of dense ones, `bf16` ….
    pub quantization: String,
    /// What computes.
    pub device: Device,
    /// The version of the MLX library.
    pub mlx_version: String,
    /// What opening took, in all.
    pub load_time: Duration,
    /// What its parts took.
    pub load_parts: LoadParts,
}

/// The parts of opening a model. They may have run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadParts {
    /// Reading the vocabulary; `None` where none was read.
    pub tokenizer: Option<Span>,
    /// Loading MLX's library and making the device ready.
    pub library: Span,
    /// Making a model of the weights.
    pub weights: Span,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning, since opening began.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
}

/// Opens a model: its tokenizer here, its weights on the engine's thread.
///
/// # Errors
/// Whatever is wrong with the files, the device or MLX's library.
pub fn open(
    files: &ModelFiles,
    options: &LoadOptions,
    progress: Arc<dyn Progress>,
) -> Result<Loaded> {
    let begin = Instant::now();
    // What is cheap to check is checked before anything is loaded.
    let sampling = default_sampling(files)?;
    let (tokenizer, tokenizer_span) = timed(begin, || {
        let options = TokenizerOptions {
            tables: options.tables.clone(),
            ..TokenizerOptions::default()
        };
        Tokenizer::load_with(files, &options).map(Arc::new)
    })?;
    let source = Source::Files(files.clone());
    let (engine, mut description) = engine(source, &tokenizer, options, progress, begin)?;
    description.load_time = begin.elapsed();
    description.load_parts.tokenizer = Some(tokenizer_span);
    Ok(Loaded {
        engine,
        tokenizer,
        sampling,
        description,
    })
}

/// Opens a model whose answers are written by the tokenizer of another one, or of none: for measuring.
///
/// # Errors
/// As [`open`].
pub fn open_engine(
    source: Source,
    tokenizer: &Arc<Tokenizer>,
    options: &LoadOptions,
    progress: Arc<dyn Progress>,
) -> Result<(Engine, ModelDescription)> {
    engine(source, tokenizer, options, progress, Instant::now())
}

fn engine(
    source: Source,
    tokenizer: &Arc<Tokenizer>,
    options: &LoadOptions,
    progress: Arc<dyn Progress>,
    begin: Instant,
) -> Result<(Engine, ModelDescription)> {
    let told = Arc::new(OnceLock::new());
    let tell = Arc::clone(&told);
    let options = options.clone();
    let engine = Engine::start(Arc::clone(tokenizer), move || {
        let (stepper, description) = stepper(&source, &options, progress, begin)?;
        drop(tell.set(description));
        Ok(stepper)
    })?;
    let description = Arc::try_unwrap(told).ok().and_then(OnceLock::into_inner);
    let description = description
        .ok_or_else(|| crate::Error::EngineStopped("it did not say what it loaded".to_owned()))?;
    Ok((engine, description))
}

/// Computes a part of a model for the engine of another process, until that has ended.
///
/// # Errors
/// Whatever is wrong with the files, the device or MLX's library, or [`Error::Ranks`].
pub fn follow(
    files: &ModelFiles,
    options: &LoadOptions,
    progress: Arc<dyn Progress>,
) -> Result<()> {
    let tokenizer = Arc::new(Tokenizer::load(files)?);
    let source = Source::Files(files.clone());
    let (stepper, _) = stepper(&source, options, progress, Instant::now())?;
    engine::follow(tokenizer, stepper)
}

/// Opens a model without an engine around it: for measuring. It computes on the calling thread.
///
/// # Errors
/// Whatever is wrong with the files, the device or MLX's library.
pub fn open_stepper(
    source: &Source,
    options: &LoadOptions,
    progress: Arc<dyn Progress>,
) -> Result<(Box<ModelStepper>, ModelDescription)> {
    stepper(source, options, progress, Instant::now())
}

fn stepper(
    source: &Source,
    options: &LoadOptions,
    progress: Arc<dyn Progress>,
    begin: Instant,
) -> Result<(Box<ModelStepper>, ModelDescription)> {
    let notices = Arc::clone(&progress);
    let (device, library) = timed(begin, || {
        mlx::keep_kernels(options.compiled.as_deref());
        mlx::open(options.device, options.library.as_deref())
    })?;
    let precision = match device {
        Device::Cpu if options.exact => Precision::Float32,
        Device::Cpu => Precision::Int8,
        Device::Gpu => Precision::Stored,
    };
    if let Some(threads) = options.threads.and_then(NonZero::new) {
        pool::set_threads(threads);
    }
    let (group, peers) = match &options.hosts {
        Some(hosts) => {
            let group = Group::join(device)?;
            let (rank, size) = (group.rank(), group.size());
            let sockets = Sockets::join(rank, size, hosts, |words| group.sum_words(words))?;
            (Some(Arc::new(group)), Some(Arc::new(sockets)))
        }
        None => (None, None),
    };
    let room = options.sharing.room(options.memory, device)?;
    let (loaded, weights) = timed(begin, || {
        models::load(source, precision, room, group.as_ref(), &*progress)
    })?;
    let memory = options.sharing.part(room, loaded.weights_bytes);
    let description = ModelDescription {
        architecture: loaded.architecture,
        context: loaded.model.context(),
        vocabulary: loaded.model.vocabulary(),
        weights_bytes: loaded.weights_bytes,
        memory_bytes: memory,
        read_bytes: loaded.read_bytes,
        parameters: loaded.parameters,
        quantization: loaded.quantization,
        device,
        mlx_version: mlx::library_version().unwrap_or_default().to_owned(),
        load_time: begin.elapsed(),
        load_parts: LoadParts {
            tokenizer: None,
            library,
            weights,
        },
    };
    let store = match &options.kept {
        Some(kept) => {
            let what = format!("{} {precision:?}", env!("CARGO_PKG_VERSION"));
            match source {
                Source::Files(files) => {
                    let key = weights::digest(files, &what)?;
                    let model = std::path::absolute(files.label());
                    let model = match files {
                        ModelFiles::Folder(_) => model.unwrap_or_else(|_| files.label().into()),
                        ModelFiles::Derived(..) | ModelFiles::Embedded(..) => files.label().into(),
                    };
                    let key = (key.as_str(), model.as_path());
                    Some(Store::open(&kept.folder, key, kept.bytes, progress)?)
                }
                // Its weights are others each time.
                Source::Random(..) => None,
            }
        }
        None => None,
    };
    // All decide alike what there is room for.
    let memory = match &peers {
        Some(peers) => shared_size(&**peers, memory)?,
        None => memory,
    };
    let budget = Budget {
        memory,
        weights: description.weights_bytes,
        rest: match (device, &peers) {
            (Device::Cpu, Some(peers)) => shared_size(&**peers, memory::resident())?,
            (Device::Cpu, None) => memory::resident(),
            (Device::Gpu, _) => 0,
        },
        work: loaded.work_bytes,
        offload: match device {
            Device::Cpu => 0,
            Device::Gpu => options.sharing.offload(memory)?,
        },
    };
    if device == Device::Gpu {
        // What held weights on their way to the GPU's own memory.
        mlx::memory::clear_pool()?;
        mlx::memory::limit_total(memory)?;
    }
    let program = match device {
        Device::Gpu if !options.graphs => models::decode_program(&*loaded.model, group.as_deref()),
        Device::Cpu | Device::Gpu => Ok(None),
    };
    let program = program.unwrap_or_else(|error| {
        notices.notice(&format!(
            "the kernel that decodes does not work here ({error}), slower operations take its place"
        ));
        None
    });
    let peers = peers.map(|peers| peers as Arc<dyn Peers>);
    let stepper = model_stepper::new(loaded.model, program, device, store, budget, peers);
    Ok((stepper, description))
}

/// What the first process says of a size.
fn shared_size(peers: &dyn Peers, size: usize) -> Result<usize> {
    let told = peers.share(size.to_le_bytes().to_vec())?;
    let told = told
        .try_into()
        .map_err(|_| Error::Apart("they do not understand each other".to_owned()))?;
    Ok(usize::from_le_bytes(told))
}

fn timed<T>(begin: Instant, work: impl FnOnce() -> Result<T>) -> Result<(T, Span)> {
    let start = begin.elapsed();
    let done = work()?;
    let length = begin.elapsed().saturating_sub(start);
    Ok((done, Span { start, length }))
}
