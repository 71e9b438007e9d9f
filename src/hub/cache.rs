//! The Hugging Face cache: blobs, snapshots, refs, locks; knows no network.
//!
//! `hf-hub` says where a repository's folder and snapshots are; it does not write here, because its
//! downloads append a whole answer to a partial file where a server ignores the range asked for,
//! and its refs are not written in one step.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hf_hub::{CacheRepo, Repo};

use crate::error::{Error, Result};
use crate::progress::Progress;

use super::name::{Repository, is_commit};

/// The part of the cache that holds one repository.
///
/// `blobs/<etag>` holds each file once, `snapshots/<commit>/<file>` links to it, and
/// `refs/<revision>` holds the commit that a branch or tag meant when it was fetched.
pub(super) struct Cache {
    layout: CacheRepo,
    repository: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, repository: &Repository) -> Self {
        let repo = Repo::model(repository.id.clone());
        let folder = repo.folder_name();
        Self {
            layout: hf_hub::Cache::new(cache.to_path_buf()).repo(repo),
            locks: cache.join(".locks").join(&folder),
            repository: cache.join(folder),
        }
    }

    /// The commit that a revision means in the cache, `None` where the cache does not know it.
    pub(super) fn commit(&self, revision: &str) -> Result<Option<String>> {
        if is_commit(revision) {
            return Ok(Some(revision.to_owned()));
        }
        let path = self.reference(revision);
        match fs::read_to_string(&path) {
            Ok(commit) => Ok(Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The folder of a commit's files; it need not exist.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// Where the content with this etag is once it is whole.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repository.join("blobs").join(etag)
    }

    /// Where the content with this etag grows.
    ///
    /// Not the name that other tools use: some of them do not write from front to back, and what
    /// they left cannot be continued from its length.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.blob(&format!("{etag}.mlxr.incomplete"))
    }

    /// Waits until no other process works on `subject` (an etag), and keeps them away until the
    /// returned file is dropped. `file` is what messages call it.
    pub(super) fn lock(&self, subject: &str, file: &str, progress: &dyn Progress) -> Result<File> {
        let path = self.locks.join(format!("{subject}.lock"));
        create_parent(&path)?;
        let lock = File::create(&path).map_err(Error::io("write", &path))?;
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {
                progress.notice(&format!(
                    "waiting for another process that downloads {file}"
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
        lock.lock().map_err(Error::io("lock", path))?;
        Ok(lock)
    }

    /// Makes `file` of a commit's snapshot lead to the blob, in one step. The blob's lock is held.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        // From the snapshot's folder, or from one in it.
        let mut target = PathBuf::from("../".repeat(file.matches('/').count()));
        target.extend(["..", "..", "blobs", etag]);
        if fs::read_link(&path).is_ok_and(|current| current == target) {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let fresh = path.with_file_name(format!(".{name}.mlxr"));
        remove(&fresh)?;
        symlink(&target, &fresh).map_err(Error::io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(Error::io("write", path))
    }

    /// Writes down which commit a revision means, in one step.
    pub(super) fn point(
        &self,
        revision: &str,
        commit: &str,
        progress: &dyn Progress,
    ) -> Result<()> {
        if is_commit(revision) || self.commit(revision)?.as_deref() == Some(commit) {
            return Ok(());
        }
        let _lock = self.lock("refs", revision, progress)?;
        let path = self.reference(revision);
        create_parent(&path)?;
        let fresh = self.repository.join(".ref.mlxr");
        fs::write(&fresh, commit).map_err(Error::io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(Error::io("write", path))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.repository.join("refs").join(revision)
    }
}

/// Whether a path is of what a cache of the hub keeps of a repository of models, its locks included.
pub fn is_cached(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().as_encoded_bytes();
        name.starts_with(b"models--")
    })
}

/// Makes the folder that a file will be in.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(Error::io("create", folder)),
        None => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
