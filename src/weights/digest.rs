//! What tells one model's files from all others without reading all of them.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3;

use super::header::SINGLE;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mlx::{Bytes, MappedFile};

/// The beginning of a file that is read as a whole: headers, and small models.
const BEGINNING: usize = 16 << 20;

/// Of what follows, the beginning of each stretch is read.
const STRETCH: usize = 1 << 20;
const SAMPLE: usize = 4096;

/// A digest of `what` and a model's configuration, vocabulary and weights: of these their sizes, the time of their
/// last change, and samples all over them.
///
/// # Errors
/// [`Error::Io`] where a file cannot be read.
pub fn digest(files: &ModelFiles, what: &str) -> Result<String> {
    let mut hasher = Xxh3::new();
    let mut add = |name: &str, bytes: &[u8], release: &dyn Fn(Range<usize>)| {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        let (beginning, rest) = bytes.split_at(bytes.len().min(BEGINNING));
        hasher.update(beginning);
        for (index, stretch) in rest.chunks(STRETCH).enumerate() {
            hasher.update(&stretch[..stretch.len().min(SAMPLE)]);
            let start = beginning.len() + index * STRETCH;
            release(start..start + stretch.len());
        }
    };
    let nothing = |_: Range<usize>| ();
    add("what", what.as_bytes(), &nothing);
    for name in ["config.json", "tokenizer.json"] {
        add(name, &files.read(name)?.unwrap_or_default(), &nothing);
    }
    // A sample may bring its whole stretch into memory.
    let mut add_file = |path: &Path| -> Result<()> {
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
        let changed = changed.map_err(Error::io("read", path))?;
        let changed = changed.duration_since(SystemTime::UNIX_EPOCH);
        let changed = changed.unwrap_or_default().as_nanos();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = Bytes::Mapped(Arc::new(MappedFile::open(path)?));
        let release = |range| bytes.release(range);
        add(&format!("{name} {changed}"), &bytes, &release);
        Ok(())
    };
    match files {
        ModelFiles::Folder(folder) => {
            let entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.retain(|path| {
                path.extension()
                    .is_some_and(|suffix| suffix == "safetensors")
            });
            paths.sort();
            paths.iter().try_for_each(|path| add_file(path))?;
        }
        ModelFiles::Derived(path, _) => add_file(path)?,
        ModelFiles::Embedded(..) => add(SINGLE, &files.read(SINGLE)?.unwrap_or_default(), &nothing),
    }
    Ok(format!("{:032x}", hasher.digest128()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_anywhere_and_another_purpose_give_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::Folder(folder.path().to_path_buf());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("config.json", "{}");
        write("model.safetensors", "weights");
        let mut seen = vec![digest(&files, "a").unwrap()];
        assert_eq!(digest(&files, "a").unwrap(), seen[0]);
        seen.push(digest(&files, "b").unwrap());
        write("config.json", "{ }");
        seen.push(digest(&files, "a").unwrap());
        write("tokenizer.json", "{}");
        seen.push(digest(&files, "a").unwrap());
        write("model.safetensors", "weighty");
        seen.push(digest(&files, "a").unwrap());
        write("other.safetensors", "");
        seen.push(digest(&files, "a").unwrap());
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
