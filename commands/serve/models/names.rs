//! The names by which models may be asked for: those that were named at the start, or all that were downloaded.
//! No request can name a file.

use std::path::Path;
use std::time::SystemTime;

use mlxr::files::ModelFiles;
use mlxr::hub;
use mlxr::progress::{Progress, Silent};

use crate::model::BUILT_IN;
use crate::settings::Settings;
use crate::wire::{Failure, Fault};

/// A model that may be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// As clients call it.
    pub(crate) name: String,
    /// What the hub or the file system calls it; `None` is the built-in one.
    argument: Option<String>,
    /// Bytes of its files, as far as is known.
    pub(crate) bytes: u64,
    /// When its files were last written.
    pub(crate) modified: Option<SystemTime>,
}

impl Known {
    /// Its files, downloaded first where some lack.
    pub(crate) fn files(&self) -> Result<ModelFiles, Failure> {
        let Some(argument) = &self.argument else {
            return Ok(BUILT_IN);
        };
        let files = Settings::hub().and_then(|hub| hub::resolve(argument, &hub, &Silent));
        files.map_err(|error| Failure::of_server(&error))
    }
}

/// Which models there are.
pub(crate) enum Names {
    /// Those of the command line, the first being the one that is meant where none is named.
    Named(Vec<Known>),
    /// The built-in one, and all in the hub's cache.
    Cached,
}

impl Names {
    /// As the arguments say. What the hub's cache lacks of them is downloaded.
    ///
    /// # Errors
    /// Where one is no model, or two have the same name.
    pub(crate) fn new(arguments: &[String], progress: &dyn Progress) -> mlxr::Result<Self> {
        if arguments.is_empty() {
            return Ok(Self::Cached);
        }
        let mut known: Vec<Known> = Vec::new();
        for argument in arguments {
            let name = name_of(argument);
            if known.iter().any(|known| known.name == name) {
                return Err(mlxr::Error::Request {
                    field: "model",
                    problem: format!("two models would be called `{name}`"),
                });
            }
            let files = hub::resolve(argument, &Settings::hub()?, progress)?;
            let metadata = files.label().metadata().ok();
            known.push(Known {
                name,
                argument: Some(argument.clone()),
                bytes: bytes_of(files.label()),
                modified: metadata.and_then(|metadata| metadata.modified().ok()),
            });
        }
        Ok(Self::Named(known))
    }

    /// All of them.
    ///
    /// # Errors
    /// Where the hub's cache cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Known>, Failure> {
        let known = match self {
            Self::Named(known) => return Ok(known.clone()),
            Self::Cached => Settings::hub().and_then(|hub| hub::list(&hub)),
        };
        let cached = known.map_err(|error| Failure::of_server(&error))?;
        let cached = cached
            .into_iter()
            .filter(|model| model.unfinished_bytes == 0);
        let cached = cached.map(|model| Known {
            argument: Some(model.id.clone()),
            name: model.id,
            bytes: model.bytes,
            modified: model.modified,
        });
        Ok([built_in()].into_iter().chain(cached).collect())
    }

    /// The model of that name; where none is given, the first.
    ///
    /// # Errors
    /// [`Fault::NotFound`] with the names that there are.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Known, Failure> {
        let all = self.list()?;
        let asked = name.unwrap_or_default();
        // Clients of Ollama's put a tag behind each name.
        let plain = asked.strip_suffix(":latest").unwrap_or(asked);
        // Those of others' servers ask by what the server was started with.
        let found = all.iter().find(|known| {
            [asked, plain].contains(&known.name.as_str())
                || known.argument.as_deref() == Some(asked)
        });
        let first = || {
            all.first()
                .filter(|_| asked.is_empty() || asked == "default")
        };
        if let Some(known) = found.or_else(first) {
            return Ok(known.clone());
        }
        let names: Vec<&str> = all.iter().map(|known| known.name.as_str()).collect();
        Err(Failure {
            fault: Fault::NotFound,
            field: Some("model".to_owned()),
            message: format!("model `{asked}` not found; there are: {}", names.join(", ")),
        })
    }
}

fn built_in() -> Known {
    let ModelFiles::Embedded(name, files) = BUILT_IN else {
        unreachable!("the built-in model is compiled in")
    };
    Known {
        name: name.to_owned(),
        argument: None,
        bytes: files.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        modified: None,
    }
}

/// What clients call a model: its name on the hub, or that of its folder.
fn name_of(argument: &str) -> String {
    let path = Path::new(argument);
    let folder = path.is_dir().then(|| path.file_name()).flatten();
    folder.map_or_else(
        || argument.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Bytes of the files in a folder.
fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.path().metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}
