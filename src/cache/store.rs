//! Prefixes on the disk: one file each in a folder for each model, written whole or not at all, shared by all
//! processes, bounded in size.

mod file;
mod list;
mod read;
mod write;

use std::fs::{self, DirBuilder, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_128;

pub use file::{Prefix, StoredFile};
pub use list::{Entry, ModelPrefixes, Sizes, list};

use super::rows::LayerRows;
use super::{Checkpoint, Rows};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The folder of all prefixes of this form.
pub const FORM: &str = "prefix-v1";

const SUFFIX: &str = "safetensors";

/// The file that says where the model is.
const ABOUT: &str = "model";

/// What an unfinished file ends with.
const UNFINISHED: &str = "tmp";

/// What the file ends with whose lock says that an unfinished one's process lives.
const OWNER: &str = "owner";

/// Who holds this file may change the folders.
const TURN: &str = "lock";

/// Prefixes of one model.
pub struct Store {
    /// Of all models.
    root: PathBuf,
    folder: PathBuf,
    /// Bytes of all models' files at most.
    limit: u64,
    progress: Arc<dyn Progress>,
    /// The last prefix could not be kept.
    is_failing: AtomicBool,
}

impl Store {
    /// Opens the folder of the model that is at `model`, which `key` tells from all others, below `root`, and
    /// makes it where there is none. Nobody else may look into it: tokens tell what was said.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(
        root: &Path,
        (key, model): (&str, &Path),
        limit: u64,
        progress: Arc<dyn Progress>,
    ) -> Result<Self> {
        let root = root.join(FORM);
        let folder = root.join(key);
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&folder)
            .map_err(Error::io("make", &folder))?;
        let about = folder.join(ABOUT);
        let model = format!("{}\n", model.display());
        fs::write(&about, model).map_err(Error::io("write", &about))?;
        Ok(Self {
            root,
            folder,
            limit,
            progress,
            is_failing: AtomicBool::new(false),
        })
    }

    /// Every prefix of the model, those that others go on from first. Files that are no prefixes are told
    /// of and removed.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be listed.
    pub fn load(&self) -> Result<Vec<Prefix>> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        let mut prefixes = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                match read::read(&path) {
                    Ok(prefix) => prefixes.push(prefix),
                    // Another process has made room.
                    Err(Error::Io { source, .. })
                        if source.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => self.discard(&error),
                }
            }
        }
        prefixes.sort_by_key(|prefix| (prefix.rows.range.start, prefix.tokens.len()));
        Ok(prefixes)
    }

    /// Removes a damaged file, and tells of it.
    pub fn discard(&self, error: &Error) {
        if let Error::Kept { path, .. } = error {
            self.progress.notice(&format!("{error}; it is removed"));
            drop(fs::remove_file(path));
        }
    }

    /// Stores a prefix, whose `rows` end with its tokens, and makes room for it; gives it as it is stored. Where
    /// that fails, nothing is stored, which is told once until something is.
    pub fn keep(
        &self,
        tokens: &[u32],
        rows: &Rows,
        checkpoint: Option<&Checkpoint>,
    ) -> Option<Prefix> {
        match self.try_to_keep(tokens, rows, checkpoint) {
            // Another process may have made room of it by now.
            Ok(path) => {
                self.is_failing.store(false, Ordering::Relaxed);
                read::read(&path).ok()
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    self.progress
                        .notice(&format!("a prefix is not kept: {error}"));
                }
                None
            }
        }
    }

    fn try_to_keep(
        &self,
        tokens: &[u32],
        rows: &Rows,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<PathBuf> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let ids = tokens.iter().flat_map(|id| id.to_le_bytes());
        let start = rows.range.start.to_le_bytes();
        let name: Vec<u8> = ids.chain(start).collect();
        let path = self
            .folder
            .join(format!("{:032x}.{SUFFIX}", xxh3_128(&name)));
        if path.exists() {
            return Ok(path);
        }
        // The rest of a file is small: what its rows alone are too large for need not be written to be refused.
        let stored = rows.layers.iter().map(LayerRows::stored_bytes);
        self.check_size(stored.sum::<usize>() as u64)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{}-{number}.{UNFINISHED}", std::process::id());
        let unfinished = self.folder.join(unfinished);
        let kept = self.write_whole(&unfinished, &path, tokens, rows, checkpoint);
        // It has another name then, or is of no use.
        remove_unfinished(&unfinished);
        kept.map(|()| path)
    }

    /// Writes a file under one name, and gives it another once it is on the disk and there is room.
    fn write_whole(
        &self,
        unfinished: &Path,
        path: &Path,
        tokens: &[u32],
        rows: &Rows,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<()> {
        let failed = || Error::io("write", unfinished);
        let turn = self.turn()?;
        // Locked as long as this process lives.
        let owner = File::create(unfinished.with_extension(OWNER)).map_err(failed())?;
        owner.lock().map_err(failed())?;
        drop(turn);
        write::write(unfinished, tokens, rows, checkpoint)?;
        let file = File::options().append(true).open(unfinished);
        let file = file.map_err(failed())?;
        #[cfg(unix)]
        {
            let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            file.set_permissions(own).map_err(failed())?;
        }
        file.sync_all().map_err(failed())?;
        let size = file.metadata().map_err(failed())?.len();
        let _turn = self.turn()?;
        self.make_room(size)?;
        fs::rename(unfinished, path).map_err(Error::io("write", path))
    }

    /// Waits until no other process changes the folders; until the handle is dropped none will.
    fn turn(&self) -> Result<File> {
        let path = self.root.join(TURN);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(Error::io("write", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    /// Whether a file of so many bytes can be among what is kept.
    fn check_size(&self, size: u64) -> Result<()> {
        if size > self.limit {
            let limit = self.limit;
            let problem = format!("it takes {size} bytes, and the folder may hold {limit}");
            return Err(Error::io("write", &self.folder)(std::io::Error::other(
                problem,
            )));
        }
        Ok(())
    }

    /// Removes the files that were used longest ago until there is room for so many bytes more. What processes
    /// that are gone have not finished goes in any case.
    fn make_room(&self, size: u64) -> Result<()> {
        self.check_size(size)?;
        let list = |folder: &Path| -> Result<Vec<fs::DirEntry>> {
            let entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
            Ok(entries.flatten().collect())
        };
        let mut files = Vec::new();
        for folder in list(&self.root)? {
            // What is no folder holds nothing.
            for entry in list(&folder.path()).unwrap_or_default() {
                let path = entry.path();
                let is = |suffix: &str| path.extension().is_some_and(|found| found == suffix);
                if is(OWNER) {
                    if File::open(&path).is_ok_and(|owner| owner.try_lock().is_ok()) {
                        remove_unfinished(&path.with_extension(UNFINISHED));
                    }
                } else if let Some(metadata) = entry.metadata().ok().filter(|_| is(SUFFIX)) {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.push((used, metadata.len(), path));
                }
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, kept, path) in files {
            if bytes + size <= self.limit {
                break;
            }
            // Somebody else may have removed it.
            drop(fs::remove_file(path));
            bytes -= kept;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("folder", &self.folder)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

fn remove_unfinished(path: &Path) {
    drop(fs::remove_file(path));
    drop(fs::remove_file(path.with_extension(OWNER)));
}
