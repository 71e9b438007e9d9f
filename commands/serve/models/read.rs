//! What the server itself reads of a model, beside what its runner does.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::sync::Arc;
use std::time::SystemTime;

use mlxr::config::{EmbeddingConfig, default_sampling};
use mlxr::files::ModelFiles;
use mlxr::sample::Sampling;
use mlxr::tokenizer::{Tokenizer, TokenizerOptions};

use crate::wire::Failure;

/// What was read of a model's files.
pub(in crate::serve) struct Read {
    files: ModelFiles,
    state: Vec<FileState>,
    pub(in crate::serve) tokenizer: Tokenizer,
    /// How the model's makers sample.
    pub(in crate::serve) sampling: Sampling,
    /// How it makes embeddings, if it does.
    pub(in crate::serve) embedding: Result<Option<EmbeddingConfig>, Failure>,
}

/// Name and size of a file, and when it was last written.
type FileState = (OsString, u64, Option<SystemTime>);

impl Read {
    /// Of these files, or what was read `before` where they are the same and have not changed since.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub(super) fn new(
        files: ModelFiles,
        options: &TokenizerOptions,
        before: Option<Arc<Self>>,
    ) -> mlxr::Result<Arc<Self>> {
        let state = state(&files);
        if let Some(before) = before
            && before.files == files
            && before.state == state
        {
            return Ok(before);
        }
        let embedding = EmbeddingConfig::read(&files);
        Ok(Arc::new(Self {
            tokenizer: Tokenizer::load_with(&files, options)?,
            sampling: default_sampling(&files)?,
            embedding: embedding.map_err(|error| Failure::of_server(&error)),
            files,
            state,
        }))
    }
}

/// Where a model's files stand; compiled in ones never change.
fn state(files: &ModelFiles) -> Vec<FileState> {
    let of = |name: OsString, metadata: Option<Metadata>| {
        let size = metadata.as_ref().map_or(0, Metadata::len);
        (name, size, metadata.and_then(|found| found.modified().ok()))
    };
    match files {
        ModelFiles::Folder(folder) => {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut found: Vec<FileState> = entries
                .map(|entry| of(entry.file_name(), fs::metadata(entry.path()).ok()))
                .collect();
            found.sort();
            found
        }
        ModelFiles::Derived(path, _) => vec![of(path.into(), fs::metadata(path).ok())],
        ModelFiles::Embedded(..) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BUILT_IN;

    #[test]
    fn files_are_read_again_once_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["config.json", "tokenizer.json", "tokenizer_config.json"];
        for name in names {
            let content = BUILT_IN.read(name).unwrap().unwrap_or_default();
            fs::write(folder.path().join(name), content).unwrap();
        }
        let files = ModelFiles::Folder(folder.path().to_owned());
        let read = |before: &Arc<Read>| {
            let before = Some(Arc::clone(before));
            Read::new(files.clone(), &TokenizerOptions::default(), before).unwrap()
        };
        let first = Read::new(files.clone(), &TokenizerOptions::default(), None).unwrap();
        assert!(Arc::ptr_eq(&read(&first), &first));
        let weights = folder.path().join("model.safetensors");
        fs::write(&weights, "new").unwrap();
        let second = read(&first);
        assert!(!Arc::ptr_eq(&second, &first));
        fs::write(&weights, "newer").unwrap();
        assert!(!Arc::ptr_eq(&read(&second), &second));
    }
}
