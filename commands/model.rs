//! From the name of a model to an engine that answers. Knows no command.

use std::sync::Arc;
use std::time::Duration;

use indicatif::BinaryBytes;
use mlxr::engine::Engine;
use mlxr::files::ModelFiles;
use mlxr::sample::Sampling;
use mlxr::tokenizer::Tokenizer;
use mlxr::{LoadOptions, Loaded, Result, hub};

use crate::args::Device;
use crate::settings::Settings;
use crate::ui::Printer;
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
const BUILT_IN: ModelFiles = ModelFiles::Embedded(
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
}

/// Finds, fetches and loads the model called `name`, or the built-in one.
pub(crate) fn open(
    name: Option<&str>,
    device: Device,
    settings: &Settings,
    printer: Printer,
) -> Result<Model> {
    let progress = Drawn::new(printer);
    let files = match name {
        Some(name) => hub::resolve(name, &Settings::hub()?, &progress)?,
        None => BUILT_IN,
    };
    let options = LoadOptions {
        device: device.into(),
        library: settings.library.clone(),
    };
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
            name: name.unwrap_or("stories").to_owned(),
            architecture: description.architecture,
            context: description.context,
            weights_bytes: description.weights_bytes as u64,
            device: description.device.to_string(),
            mlx_version: description.mlx_version,
            load: description.load_time,
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
    } = &model.description;
    printer.detail(format_args!(
        "model {name} ({architecture}, {context} tokens of context, {} of weights), loaded in {:.2} s",
        BinaryBytes(*weights_bytes),
        load.as_secs_f64(),
    ));
    printer.detail(format_args!("MLX {mlx_version} on {device}"));
    Ok(model)
}
