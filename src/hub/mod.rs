//! Model name or folder to local files; knows nothing of what is in them.
//!
//! A model is a folder, or `org/name[@revision]` on the hub. The second is looked for in the
//! standard Hugging Face cache, which is shared with the other programs that use it. A copy in
//! the cache that is complete is used as it is, without one network request: a start does not
//! depend on the network, and a branch that has moved on the hub is not followed by itself. A copy
//! that is absent or incomplete is fetched, each file from the byte where it was left.

mod cache;
mod client;
mod download;
mod list;
mod name;
mod settings;
mod snapshot;

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::progress::Progress;

pub use cache::is_cached;
pub use list::{CachedModel, list, remove};
pub use settings::{HubSettings, is_true};

use cache::Cache;
use name::Repository;

/// The local files of a model: an existing folder, or `org/name[@revision]` from the cache of the
/// hub, downloaded first where the cache lacks something.
///
/// # Errors
/// - [`Error::ModelNotFound`]: neither an existing folder nor a name that the hub could know, or a
///   repository without the files that a model needs.
/// - [`Error::MissingFile`]: a folder without `config.json`.
/// - [`Error::Offline`]: the cache lacks a file and the network must not be used.
/// - [`Error::HubRefused`], [`Error::Hub`]: the hub does not give it, or cannot be reached.
/// - [`Error::Weights`]: the index or a safetensors file on the hub contradicts itself.
/// - [`Error::Io`]: the cache cannot be read or written.
pub fn resolve(name: &str, settings: &HubSettings, progress: &dyn Progress) -> Result<ModelFiles> {
    resolve_some(name, Wanted::Model, settings, progress)
}

/// Likewise, of which only the tokenizer and the chat template are wanted: weights are neither asked for nor fetched.
///
/// # Errors
/// As [`resolve`], but for what concerns weights.
pub fn resolve_tokenizer(
    name: &str,
    settings: &HubSettings,
    progress: &dyn Progress,
) -> Result<ModelFiles> {
    resolve_some(name, Wanted::Tokenizer, settings, progress)
}

/// Which files of a repository are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Model,
    /// All but weights.
    Tokenizer,
}

fn resolve_some(
    name: &str,
    wanted: Wanted,
    settings: &HubSettings,
    progress: &dyn Progress,
) -> Result<ModelFiles> {
    let path = Path::new(name);
    if path.is_dir() {
        return local_folder(path, wanted);
    }
    let not_found = |reason: &str| Error::ModelNotFound {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    if path.exists() {
        return Err(not_found("it is a file, and a model is a folder"));
    }
    if ["/", "./", "../", "~"]
        .iter()
        .any(|start| name.starts_with(start))
    {
        return Err(not_found("there is no such folder"));
    }
    let repository = Repository::parse(name)?;
    from_cache_or_hub(&repository, wanted, settings, progress)
}

fn local_folder(folder: &Path, wanted: Wanted) -> Result<ModelFiles> {
    let file = match wanted {
        Wanted::Model => snapshot::CONFIG,
        Wanted::Tokenizer => snapshot::TOKENIZER,
    };
    if !folder.join(file).is_file() {
        return Err(Error::MissingFile {
            folder: folder.to_path_buf(),
            file: file.to_owned(),
        });
    }
    Ok(ModelFiles::Folder(folder.to_path_buf()))
}

fn from_cache_or_hub(
    repository: &Repository,
    wanted: Wanted,
    settings: &HubSettings,
    progress: &dyn Progress,
) -> Result<ModelFiles> {
    let cache = Cache::new(&settings.cache, repository);
    let mut missing = snapshot::CONFIG.to_owned();
    if let Some(commit) = cache.commit(&repository.revision)? {
        let folder = cache.snapshot(&commit);
        let Some(gap) = snapshot::first_gap(&folder, wanted)? else {
            return Ok(ModelFiles::Folder(folder));
        };
        if !settings.offline {
            progress.notice(&format!(
                "the copy of {repository} in the cache is incomplete: {gap}; fetching what is missing"
            ));
        }
        missing = gap.file;
    }
    if settings.offline {
        return Err(Error::Offline {
            repo: repository.to_string(),
            missing,
        });
    }
    download::download(repository, wanted, &cache, settings, progress).map(ModelFiles::Folder)
}
