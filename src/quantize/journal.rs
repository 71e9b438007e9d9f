//! What of a folder that is being written is whole: a line for each tensor, so that a process that was killed can be
//! gone on from.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The journal's name in the folder.
const NAME: &str = "journal.jsonl";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// What is being written: the digest of its plan.
    Plan(String),
    /// A tensor that was written as a whole, and the digest of its bytes.
    Tensor(String, String),
}

/// The journal of one folder, which nobody else writes as long as it is open.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    /// Digests of the tensors that are whole.
    pub(super) whole: BTreeMap<String, String>,
}

impl Journal {
    /// Goes on in `folder`, or begins anew where there is nothing, or something of another plan.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Quantize`] where another process is at it.
    pub(super) fn open(folder: &Path, plan: &str) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let path = folder.join(NAME);
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Quantize {
                    what: folder.display().to_string(),
                    problem: "another process is writing it".to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .map_err(Error::io("read", &path))?;
        // A line without an end was being written when the process died.
        let end = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines = text[..end]
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        let lines: Option<Vec<Line>> = lines
            .map(|line| serde_json::from_slice(line).ok())
            .collect();
        let mut lines = lines.unwrap_or_default().into_iter();
        let mut journal = Self {
            folder: folder.to_path_buf(),
            path,
            file,
            whole: BTreeMap::new(),
        };
        let goes_on = matches!(lines.next(), Some(Line::Plan(found)) if found == plan);
        let end = if goes_on { end as u64 } else { 0 };
        journal.io(|file| {
            file.set_len(end)?;
            file.seek(std::io::SeekFrom::Start(end)).map(drop)
        })?;
        if goes_on {
            for line in lines {
                if let Line::Tensor(name, digest) = line {
                    journal.whole.insert(name, digest);
                }
            }
        } else {
            journal.clear()?;
            journal.add(&Line::Plan(plan.to_owned()))?;
        }
        Ok(journal)
    }

    /// Notes that a tensor is whole.
    pub(super) fn note(&mut self, name: &str, digest: String) -> Result<()> {
        self.add(&Line::Tensor(name.to_owned(), digest.clone()))?;
        self.whole.insert(name.to_owned(), digest);
        Ok(())
    }

    /// Removes the journal: the folder is complete.
    pub(super) fn end(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))
    }

    /// Removes what another plan has left.
    fn clear(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        for entry in entries.flatten() {
            if entry.file_name() != NAME {
                let path = entry.path();
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Writes a line, as a whole or not at all.
    fn add(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        self.io(|file| file.write_all(&text))
    }

    fn io(&mut self, work: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
        work(&mut self.file).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_goes_on_where_the_last_whole_line_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), "a").unwrap();
        journal.note("x", "1".to_owned()).unwrap();
        assert!(
            Journal::open(folder.path(), "a")
                .unwrap_err()
                .to_string()
                .contains("another process")
        );
        drop(journal);
        let path = folder.path().join(NAME);
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"tensor\":[\"y\",");
        fs::write(&path, text).unwrap();
        let mut journal = Journal::open(folder.path(), "a").unwrap();
        assert_eq!(journal.whole.keys().collect::<Vec<_>>(), ["x"]);
        journal.note("z", "2".to_owned()).unwrap();
        drop(journal);
        let journal = Journal::open(folder.path(), "a").unwrap();
        assert_eq!(journal.whole.keys().collect::<Vec<_>>(), ["x", "z"]);
    }

    #[test]
    fn another_plan_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        Journal::open(folder.path(), "a")
            .unwrap()
            .note("x", "1".to_owned())
            .unwrap();
        fs::write(folder.path().join("model.safetensors"), "half").unwrap();
        let journal = Journal::open(folder.path(), "b").unwrap();
        assert!(journal.whole.is_empty() && !folder.path().join("model.safetensors").exists());
        drop(journal);
        assert!(Journal::open(folder.path(), "b").unwrap().whole.is_empty());
    }
}
