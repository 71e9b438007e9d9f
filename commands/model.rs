//! From the name of a model to an engine that answers. Knows no command.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::BinaryBytes;
use mlxr::engine::Engine;
use mlxr::files::ModelFiles;
use mlxr::mlx::DeviceChoice;
use mlxr::sample::Sampling;
use mlxr::tokenizer::Tokenizer;
use mlxr::{Error, Result, hub};

use crate::args::Device;
use crate::settings::Settings;
use crate::ui::Printer;
use crate::ui::progress::Drawn;

/// The model that needs no name.
const BUILT_IN: ModelFiles = ModelFiles::Embedded("stories", &[]);

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
    let model = load(
        &files,
        device.into(),
        settings.library.as_deref(),
        &progress,
    )?;
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

/// Reads the files and starts the engine. All that computes begins with this call.
#[expect(unused_variables, reason = "nothing computes yet")]
fn load(
    files: &ModelFiles,
    device: DeviceChoice,
    library: Option<&Path>,
    progress: &Drawn,
) -> Result<Model> {
    Err(Error::EngineStopped(
        "this build cannot open a model".to_owned(),
    ))
}
