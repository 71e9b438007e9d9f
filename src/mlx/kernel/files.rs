//! Compiled kernels in files, so that the next process need not compile them. A file is named by all that its code
//! depends on, and is the code behind a checksum; one that is not whole counts as none.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::compiler;
use crate::error::Result;
use crate::files::make_room;

/// Files that a folder holds at most: each is for a shape of a model, and a few hundred kilobytes.
const MOST_FILES: usize = 256;

static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// From now on, keeps what is compiled in this folder, which is made where there is none; with `None`, nowhere.
pub fn keep_kernels(folder: Option<&Path>) {
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = folder.map(Path::to_path_buf);
}

/// Where the code of this source is kept; `None` where none is.
pub(super) fn place(name: &CStr, source: &CStr, architecture: &CStr) -> Result<Option<PathBuf>> {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(folder) = &*folder else {
        return Ok(None);
    };
    let mut hasher = Xxh3::new();
    for text in [source, architecture] {
        hasher.update(text.to_bytes_with_nul());
    }
    for number in compiler::version()? {
        hasher.update(&number.to_le_bytes());
    }
    let file = format!(
        "{}-{:032x}.cubin",
        name.to_string_lossy(),
        hasher.digest128()
    );
    Ok(Some(folder.join(file)))
}

pub(super) fn read(place: &Path) -> Option<Vec<u8>> {
    let mut file = fs::read(place).ok()?;
    let code = file.split_off(size_of::<u64>().min(file.len()));
    (file == xxh3_64(&code).to_le_bytes()).then_some(code)
}

/// A failure leaves things as they were: nothing depends on it.
pub(super) fn write(place: &Path, code: &[u8]) {
    // Whoever could not keep code compiles it again.
    let _ = try_write(place, code);
}

fn try_write(place: &Path, code: &[u8]) -> Option<()> {
    let folder = place.parent()?;
    fs::create_dir_all(folder).ok()?;
    let partial = place.with_extension(format!("{}.partial", std::process::id()));
    let file = [&xxh3_64(code).to_le_bytes(), code].concat();
    if fs::write(&partial, file).is_err() || fs::rename(&partial, place).is_err() {
        fs::remove_file(&partial).ok()?;
        return None;
    }
    make_room(folder, MOST_FILES)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{read, write};

    #[test]
    fn what_was_written_is_read_and_what_is_not_whole_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("made/kernel.cubin");
        assert_eq!(read(&place), None);
        write(&place, b"code");
        assert_eq!(read(&place).as_deref(), Some(&b"code"[..]));
        let whole = fs::read(&place).unwrap();
        for length in 0..whole.len() {
            fs::write(&place, &whole[..length]).unwrap();
            assert_eq!(read(&place), None, "{length} bytes");
        }
        let mut other = whole;
        other[9] ^= 1;
        fs::write(&place, other).unwrap();
        assert_eq!(read(&place), None);
    }
}
