//! From a model's files to an engine that answers: where the rooms are put together.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::config::default_sampling;
use crate::engine::Engine;
use crate::engine::model_stepper::ModelStepper;
use crate::error::Result;
use crate::files::ModelFiles;
use crate::mlx::{self, Device, DeviceChoice};
use crate::models::{self, Precision};
use crate::progress::Progress;
use crate::sample::Sampling;
use crate::tokenizer::Tokenizer;

/// How a model is opened.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// What computes.
    pub device: DeviceChoice,
    /// MLX's library: a file or a folder with one; `None` searches the usual places.
    pub library: Option<PathBuf>,
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
    /// Size of the weights' files, in bytes.
    pub weights_bytes: usize,
    /// What computes.
    pub device: Device,
    /// The version of the MLX library.
    pub mlx_version: String,
    /// What opening took, in all.
    pub load_time: Duration,
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
    let start = Instant::now();
    // What is cheap to check is checked before anything is loaded.
    let sampling = default_sampling(files)?;
    let tokenizer = Arc::new(Tokenizer::load(files)?);
    let told = Arc::new(OnceLock::new());
    let (tell, files, options) = (Arc::clone(&told), files.clone(), options.clone());
    let engine = Engine::start(Arc::clone(&tokenizer), move || {
        let device = mlx::open(options.device, options.library.as_deref())?;
        let precision = match device {
            Device::Cpu => Precision::Float32,
            Device::Gpu => Precision::Stored,
        };
        let loaded = models::load(&files, precision, &*progress)?;
        let description = ModelDescription {
            architecture: loaded.architecture,
            context: loaded.model.context(),
            weights_bytes: loaded.weights_bytes,
            device,
            mlx_version: mlx::library_version().unwrap_or_default().to_owned(),
            load_time: Duration::ZERO,
        };
        drop(tell.set(description));
        Ok(ModelStepper::new(loaded.model, device))
    })?;
    let description = Arc::try_unwrap(told).ok().and_then(OnceLock::into_inner);
    let description = description
        .ok_or_else(|| crate::Error::EngineStopped("it did not say what it loaded".to_owned()))?;
    let description = ModelDescription {
        load_time: start.elapsed(),
        ..description
    };
    Ok(Loaded {
        engine,
        tokenizer,
        sampling,
        description,
    })
}
