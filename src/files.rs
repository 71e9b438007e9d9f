//! The files of one model, in a folder or compiled in; knows nothing of what they mean.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Where one model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// A folder with `config.json`, `tokenizer.json`, `*.safetensors` …
    Folder(PathBuf),
    /// Files that were made of another one: its path, then each by its name.
    Derived(PathBuf, Arc<BTreeMap<String, Vec<u8>>>),
    /// Files compiled into the program: a label for messages, then name and content of each.
    Embedded(&'static str, &'static [(&'static str, &'static [u8])]),
}

impl ModelFiles {
    /// The folder, or the label of embedded files, for messages.
    pub fn label(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Derived(path, _) => path,
            Self::Embedded(label, _) => Path::new(label),
        }
    }

    /// The path of a file for messages; it need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.label().join(name)
    }

    /// The content of a small file, `None` where there is none of that name.
    ///
    /// # Errors
    /// [`Error::Io`] where the file exists and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::io("read", path)(error)),
                }
            }
            Self::Derived(_, files) => Ok(files.get(name).cloned().map(Cow::Owned)),
            Self::Embedded(_, files) => Ok(files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))),
        }
    }

    /// The content of a file that must be there.
    ///
    /// # Errors
    /// [`Error::MissingFile`], or [`Error::Io`] where it cannot be read.
    pub fn require(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        self.read(name)?.ok_or_else(|| Error::MissingFile {
            folder: self.label().to_path_buf(),
            file: name.to_owned(),
        })
    }
}

/// Removes the files of a folder that were written longest ago where there are more than `most`; `None` where that
/// fails.
pub(crate) fn make_room(folder: &Path, most: usize) -> Option<()> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(most);
    for (_, path) in files.into_iter().take(surplus) {
        fs::remove_file(path).ok()?;
    }
    Some(())
}
