//! What is kept on the disk, whether more can be, and how the hub is reached. Asks no network.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mlxr::cache::store::FORM;
use serde::Serialize;

use super::check::{self, Check};
use crate::settings::Settings;
use crate::ui::report::Report;

/// What is kept on the disk, and how more models would be fetched.
#[derive(Debug, Serialize)]
pub(super) struct Caches {
    /// Models of the hub.
    hub: Option<Cache>,
    /// What is computed of prompts.
    prompts: Option<Cache>,
    /// Tables of tokenizers.
    tables: Option<Cache>,
    /// Kernels that were compiled for a GPU.
    kernels: Option<Cache>,
    /// Whether there is a token, in `HF_TOKEN` or a file.
    has_token: bool,
    /// Whether the network must not be used.
    offline: bool,
}

/// A folder.
#[derive(Debug, Serialize)]
struct Cache {
    path: String,
    /// Of all files; 0 where there is none yet.
    bytes: u64,
    writable: bool,
}

impl Caches {
    pub(super) fn look(settings: &Settings, checks: &mut Vec<Check>) -> Self {
        let hub = Settings::hub();
        if let Err(error) = &hub {
            let hint = Report::of(error).hint;
            let hint = hint.unwrap_or("check the permissions of the file with the token");
            checks.push(Check::note("hub", error.to_string(), hint));
        }
        let hub = hub.ok();
        let offline = hub.as_ref().is_some_and(|hub| hub.offline);
        let has_token = hub.as_ref().is_some_and(|hub| hub.token.is_some());
        let folder = hub.map(|hub| hub.cache);
        let known = folder.is_some();
        let hub = folder.map(|path| {
            let advice =
                "let HF_HUB_CACHE name a folder that you may write to: no model can be downloaded";
            Cache::look("hub cache", &path, advice, checks)
        });
        let advice =
            "let XDG_CACHE_HOME name a folder that you may write to: nothing is kept between runs";
        let mut own = |name, folder: Option<PathBuf>| {
            if let Some(path) = folder {
                return Some(Cache::look(name, &path, advice, checks));
            }
            checks.push(Check::note(name, "there is no home folder", advice));
            None
        };
        let prompts = settings.cache.as_ref().map(|folder| folder.join(FORM));
        let prompts = own("prompt cache", prompts);
        let tables = own("tokenizer tables", settings.tables());
        let kernels = own("compiled kernels", settings.compiled());
        if known {
            let said = if has_token { "set" } else { "none" };
            checks.push(Check::ok("token", said));
            let said = if offline {
                "forbidden by HF_HUB_OFFLINE"
            } else {
                "allowed"
            };
            checks.push(Check::ok("downloads", said));
        }
        Self {
            hub,
            prompts,
            tables,
            kernels,
            has_token,
            offline,
        }
    }
}

impl Cache {
    fn look(name: &str, path: &Path, advice: &str, checks: &mut Vec<Check>) -> Self {
        let bytes = size_of(path);
        let written = try_to_write(path);
        let said = format!("{}, {}", path.display(), check::size(bytes));
        checks.push(match &written {
            Ok(()) => Check::ok(name, said),
            Err(error) => Check::note(name, format!("{said}; {error}"), advice),
        });
        Self {
            path: path.display().to_string(),
            bytes,
            writable: written.is_ok(),
        }
    }
}

/// Bytes of all files below a folder; links are not followed, so that what the hub's cache has twice counts once.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) if about.is_file() => about.len(),
        Ok(_) | Err(_) => 0,
    });
    sizes.sum()
}

/// Whether files can be written into a folder, or the folder be made: a file without a name says it, as permissions
/// do not say everything.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.filter(|folder| !folder.as_os_str().is_empty());
    tempfile::tempfile_in(there.unwrap_or(Path::new("."))).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{size_of, try_to_write};

    #[test]
    fn files_count_once_and_folders_that_are_missing_count_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below/file"), [0; 5]).unwrap();
        fs::write(folder.path().join("other"), [0; 2]).unwrap();
        std::os::unix::fs::symlink("below", folder.path().join("link")).unwrap();
        assert_eq!(size_of(folder.path()), 7);
        assert_eq!(size_of(&folder.path().join("missing")), 0);
    }

    #[test]
    fn a_folder_that_could_be_made_can_be_written_and_one_below_a_file_cannot() {
        let folder = tempfile::tempdir().unwrap();
        try_to_write(&folder.path().join("a/b/c")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(try_to_write(&folder.path().join("file/b")).is_err());
    }
}
