//! From the name of a model to an engine that answers. Knows no command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use indicatif::BinaryBytes;
use mlxr::engine::Engine;
use mlxr::files::ModelFiles;
use mlxr::sample::Sampling;
use mlxr::tokenizer::Tokenizer;
use mlxr::{Error, Kept, LoadOptions, LoadParts, Loaded, Result, Sharing, hub};

use crate::args::{KeptArgs, ModelArgs};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::ui::printer::Verbosity;
use crate::ui::progress::Drawn;

/// A file of the model that needs no name, compiled in.
macro_rules! story_file {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../vendor/stories/", $name)).as_slice(),
        )
    };
}

/// The model that needs no name.
pub(crate) const BUILT_IN: ModelFiles = ModelFiles::Embedded(
    "stories",
    &[
        story_file!("config.json"),
        story_file!("generation_config.json"),
        story_file!("tokenizer.json"),
        story_file!("tokenizer_config.json"),
        story_file!("model.safetensors"),
    ],
);

/// A model that is loaded and ready.
pub(crate) struct Model {
    pub(crate) engine: Engine,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) description: Description,
    /// What the model's makers recommend.
    pub(crate) sampling: Sampling,
}

/// What is told about a loaded model.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) architecture: String,
    /// Tokens that it can hold.
    pub(crate) context: usize,
    pub(crate) weights_bytes: u64,
    pub(crate) device: String,
    pub(crate) mlx_version: String,
    /// How long it took to load.
    pub(crate) load: Duration,
    /// When the program began, by the clock on the wall.
    pub(crate) started_at: SystemTime,
    /// When loading began, since the program did.
    pub(crate) load_begin: Duration,
    /// What the parts of it took.
    pub(crate) load_parts: LoadParts,
}

/// Finds and fetches the model that is asked for, or takes the built-in one; and its name.
pub(crate) fn files(
    args: &ModelArgs,
    settings: &Settings,
    progress: &Drawn,
) -> Result<(String, ModelFiles)> {
    named(args.model.as_deref(), settings, progress)
}

/// The same for what is named, if anything is.
pub(crate) fn named(
    name: Option<&str>,
    settings: &Settings,
    progress: &Drawn,
) -> Result<(String, ModelFiles)> {
    match name.or(settings.model.as_deref()) {
        Some(name) => {
            let files = hub::resolve(name, &Settings::hub()?, progress)?;
            Ok((name.to_owned(), files))
        }
        None => Ok(("stories".to_owned(), BUILT_IN)),
    }
}

/// How the arguments say that a model is to be opened.
pub(crate) fn options(args: &ModelArgs, settings: &Settings) -> LoadOptions {
    LoadOptions {
        device: args.device.into(),
        library: settings.library.clone(),
        threads: args.threads.or(settings.threads),
        exact: args.cpu_exact,
        graphs: settings.graphs,
        memory: None,
        sharing: Sharing::default(),
        kept: None,
        tables: settings.tables(),
        compiled: settings.compiled(),
        hosts: None,
    }
}

/// Where what is computed of prompts is kept, if it is.
///
/// # Errors
/// [`Error::Request`] where no folder is named and there is no home folder.
pub(crate) fn kept(args: &KeptArgs, settings: &Settings) -> Result<Option<Kept>> {
    let Some(folder) = &args.cache else {
        return Ok(None);
    };
    let named = Some(Path::new(folder)).filter(|_| !folder.is_empty());
    Ok(Some(Kept {
        folder: prompts(named, settings)?,
        bytes: args.cache_size.as_u64(),
    }))
}

/// The folder of kept prompts, if nothing else is said.
///
/// # Errors
/// [`Error::Request`] where there is no home folder.
pub(crate) fn prompts(named: Option<&Path>, settings: &Settings) -> Result<PathBuf> {
    let folder = named
        .map(Path::to_path_buf)
        .or_else(|| settings.cache.clone());
    folder.ok_or_else(|| Error::Request {
        field: "cache",
        problem: "there is no home folder with kept prompts: name one".to_owned(),
    })
}

/// Computes a part of the model for the first of several processes, until that has ended.
///
/// # Errors
/// Whatever is wrong with the files, the device or MLX's library.
pub(crate) fn follow(
    args: &ModelArgs,
    memory: Option<usize>,
    hosts: PathBuf,
    settings: &Settings,
    printer: Printer,
) -> Result<()> {
    // The first one says all that there is to say.
    let progress = Drawn::new(Printer {
        verbosity: Verbosity::Quiet,
        ..printer
    });
    let (_, files) = files(args, settings, &progress)?;
    let options = LoadOptions {
        memory,
        hosts: Some(hosts),
        ..options(args, settings)
    };
    mlxr::follow(&files, &options, Arc::new(progress))
}

/// Finds, fetches and loads the model that is asked for, or the built-in one.
/// It takes no more than `memory` bytes; what is computed of prompts outlives the process where it is `kept`.
pub(crate) fn open(
    args: &ModelArgs,
    memory: Option<usize>,
    kept: Option<Kept>,
    hosts: Option<PathBuf>,
    settings: &Settings,
    printer: Printer,
) -> Result<Model> {
    let progress = Drawn::new(printer);
    let (name, files) = files(args, settings, &progress)?;
    let options = LoadOptions {
        memory,
        kept,
        hosts,
        ..options(args, settings)
    };
    let begin = settings.started.elapsed();
    let Loaded {
        engine,
        tokenizer,
        sampling,
        description,
    } = mlxr::open(&files, &options, Arc::new(progress))?;
    let model = Model {
        engine,
        tokenizer,
        sampling,
        description: Description {
            name,
            architecture: description.architecture,
            context: description.context,
            weights_bytes: description.weights_bytes as u64,
            device: description.device.to_string(),
            mlx_version: description.mlx_version,
            load: description.load_time,
            started_at: settings.started_at,
            load_begin: begin,
            load_parts: description.load_parts,
        },
    };
    let Description {
        name,
        architecture,
        context,
        weights_bytes,
        device,
        mlx_version,
        load,
        ..
    } = &model.description;
    printer.detail(format_args!(
        "model {name} ({architecture}, {context} tokens of context, {} of weights), loaded in {:.2} s",
        BinaryBytes(*weights_bytes),
        load.as_secs_f64(),
    ));
    printer.detail(format_args!("MLX {mlx_version} on {device}"));
    Ok(model)
}
