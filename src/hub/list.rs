//! What the hub's cache holds, and taking it away.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::settings::HubSettings;
use crate::error::{Error, Result};

/// How the folder of a model's repository begins.
const MODELS: &str = "models--";

/// A model in the hub's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// `org/name`.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of all files; each counts once, however many revisions have it.
    pub bytes: u64,
    /// Of these, those of downloads that did not end.
    pub unfinished_bytes: u64,
    /// When one of its files was last read, as far as the file system says.
    pub accessed: Option<SystemTime>,
    /// When one of its files was last written.
    pub modified: Option<SystemTime>,
    /// The commits that are there, each with the branches and tags that mean it.
    pub revisions: BTreeMap<String, Vec<String>>,
}

/// All models in the hub's cache, by name; none where there is no cache.
///
/// # Errors
/// [`Error::Io`] where a folder cannot be listed.
pub fn list(settings: &HubSettings) -> Result<Vec<CachedModel>> {
    let mut models = Vec::new();
    for entry in entries(&settings.cache)? {
        let name = entry.file_name();
        // The organization has no two hyphens in a row, and old models have none.
        let id = name.to_str().and_then(|name| name.strip_prefix(MODELS));
        if let Some(id) = id.filter(|_| entry.path().is_dir()) {
            models.push(model(id.replacen("--", "/", 1), entry.path())?);
        }
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(models)
}

/// Takes a model out of the cache, so that nobody finds half of it.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(model: &CachedModel) -> Result<()> {
    let gone = model.path.with_file_name(format!(
        ".removed-{}-{}",
        std::process::id(),
        model.id.replace('/', "--")
    ));
    fs::rename(&model.path, &gone).map_err(Error::io("remove", &model.path))?;
    fs::remove_dir_all(&gone).map_err(Error::io("remove", gone))
}

fn model(id: String, path: PathBuf) -> Result<CachedModel> {
    let mut model = CachedModel {
        id,
        bytes: 0,
        unfinished_bytes: 0,
        accessed: None,
        modified: None,
        revisions: BTreeMap::new(),
        path,
    };
    for entry in entries(&model.path.join("blobs"))? {
        let is_unfinished = entry
            .path()
            .extension()
            .is_some_and(|end| end == "incomplete");
        model.count(&entry, is_unfinished);
    }
    for snapshot in entries(&model.path.join("snapshots"))? {
        if let Ok(commit) = snapshot.file_name().into_string() {
            model.revisions.insert(commit, Vec::new());
        }
        // Where a system has no links, files are here.
        for entry in below(&snapshot.path())? {
            model.count(&entry, false);
        }
    }
    let refs = model.path.join("refs");
    for entry in below(&refs)? {
        let path = entry.path();
        let name = path.strip_prefix(&refs).unwrap_or(&path);
        let commit = fs::read_to_string(&path).unwrap_or_default();
        if let Some(names) = model.revisions.get_mut(commit.trim()) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    model.revisions.values_mut().for_each(|names| names.sort());
    Ok(model)
}

impl CachedModel {
    /// Adds a file; a link to one that is elsewhere counts there.
    fn count(&mut self, entry: &DirEntry, is_unfinished: bool) {
        // It may just have gone.
        let Ok(metadata) = entry.metadata() else {
            return;
        };
        if !metadata.is_file() {
            return;
        }
        self.bytes += metadata.len();
        if is_unfinished {
            self.unfinished_bytes += metadata.len();
        }
        self.accessed = self.accessed.max(metadata.accessed().ok());
        self.modified = self.modified.max(metadata.modified().ok());
    }
}

/// What a folder holds; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", folder)(error)),
    }
}

/// All files and links of a folder and those below.
fn below(folder: &Path) -> Result<Vec<DirEntry>> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(below(&entry.path())?);
        } else {
            files.push(entry);
        }
    }
    Ok(files)
}
