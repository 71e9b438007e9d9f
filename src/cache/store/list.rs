//! What a folder of prefixes holds, for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::checkpoint::LayerCheckpoint;
use super::super::rows::LayerRows;
use super::file::Prefix;
use super::read::read;
use super::{ABOUT, FORM, SUFFIX};
use crate::error::{Error, Result};

/// The prefixes of one model.
#[derive(Debug)]
pub struct ModelPrefixes {
    /// What tells the model from all others.
    pub key: String,
    /// Where the model was when the folder was made, if that is known.
    pub model: Option<String>,
    /// Each prefix after the one that it goes on from.
    pub entries: Vec<Entry>,
    /// What is no prefix.
    pub damaged: Vec<Error>,
}

/// A stored prefix.
#[derive(Debug)]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// The size of the file.
    pub bytes: u64,
    /// When somebody went on from it, or it was written.
    pub used: SystemTime,
    /// What is in it.
    pub prefix: Prefix,
    /// Which of the entries it goes on from, at its first position; none at the beginning.
    pub parent: Option<usize>,
}

/// Bytes by kind of layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Keys and values of layers that keep every position.
    pub rows: usize,
    /// Keys and values of layers that look back on a window.
    pub windows: usize,
    /// Recurrent states.
    pub states: usize,
}

impl Prefix {
    /// Bytes by kind of layer.
    pub fn sizes(&self) -> Sizes {
        let rows = self.rows.layers.iter().map(LayerRows::stored_bytes);
        let mut sizes = Sizes {
            rows: rows.sum(),
            ..Sizes::default()
        };
        for layer in self.checkpoint.iter().flat_map(|saved| &saved.layers) {
            match layer {
                LayerCheckpoint::Window { rows, .. } => sizes.windows += rows.stored_bytes(),
                LayerCheckpoint::State(state) => sizes.states += state.stored_bytes(),
            }
        }
        sizes
    }

    /// Whether the bytes are those that were written.
    ///
    /// # Errors
    /// [`Error::Kept`] if they are not.
    pub fn verify(&self) -> Result<()> {
        self.rows.sources.iter().try_for_each(|file| file.verify())
    }
}

/// Everything below the folder that `--cache` names; nothing where there is none.
///
/// # Errors
/// [`Error::Io`] where it cannot be listed.
pub fn list(root: &Path) -> Result<Vec<ModelPrefixes>> {
    let root = root.join(FORM);
    let folders = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", root)(error)),
    };
    let mut folders: Vec<PathBuf> = folders.flatten().map(|entry| entry.path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.iter().map(|folder| of_model(folder)).collect()
}

fn of_model(folder: &Path) -> Result<ModelPrefixes> {
    let mut model = ModelPrefixes {
        key: folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        model: fs::read_to_string(folder.join(ABOUT))
            .ok()
            .map(|text| text.trim_end().to_owned()),
        entries: Vec::new(),
        damaged: Vec::new(),
    };
    for entry in fs::read_dir(folder)
        .map_err(Error::io("list", folder))?
        .flatten()
    {
        let path = entry.path();
        let is_prefix = path.extension().is_some_and(|suffix| suffix == SUFFIX);
        // Another process may just have removed it.
        let Some(metadata) = entry.metadata().ok().filter(|_| is_prefix) else {
            continue;
        };
        match read(&path) {
            Ok(prefix) => model.entries.push(Entry {
                path,
                bytes: metadata.len(),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                prefix,
                parent: None,
            }),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => model.damaged.push(error),
        }
    }
    in_order(&mut model.entries);
    Ok(model)
}

/// Sorts prefixes so that each comes after its parent, and names that.
fn in_order(entries: &mut [Entry]) {
    let place = |entry: &Entry| entry.prefix.rows.range.start;
    entries.sort_by(|a, b| (place(a), &a.prefix.tokens).cmp(&(place(b), &b.prefix.tokens)));
    for index in 0..entries.len() {
        let own = &entries[index].prefix;
        let start = own.rows.range.start;
        let holds = |other: &Prefix| {
            let range = &other.rows.range;
            range.start < start
                && start <= range.end
                && other.tokens[..start] == own.tokens[..start]
        };
        // The one that ends soonest behind it: that ends there, if there is one.
        let parents = (0..entries.len()).filter(|&other| holds(&entries[other].prefix));
        let parent = parents.min_by_key(|&other| entries[other].prefix.rows.range.end);
        entries[index].parent = parent.filter(|_| start > 0);
    }
}
