//! `mlxr quantize --verify`: whether a packed model is what it says.

use std::path::Path;

use indicatif::BinaryBytes;
use mlxr::files::ModelFiles;
use mlxr::quantize;
use mlxr::{Error, Result};
use serde_json::json;

use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer;
use crate::ui::progress::Drawn;
use crate::ui::table::Table;

/// Reads a model, and prints what was found.
pub(super) fn verify(
    folder: &Path,
    as_json: bool,
    settings: &Settings,
    progress: &Drawn,
) -> Result<Exit> {
    if !folder.is_dir() {
        return Err(Error::ModelNotFound {
            name: folder.display().to_string(),
            reason: "there is no such folder".to_owned(),
        });
    }
    let found = quantize::verify(&ModelFiles::Folder(folder.to_path_buf()), progress)?;
    if as_json {
        printer::json(&json!({
            "tensors": found.tensors,
            "packed": found.packed,
            "digests": found.digests,
            "bytes": found.bytes,
            "problems": found.problems,
        }))?;
    } else {
        let rows = [
            ("tensors", found.tensors.to_string()),
            ("packed matrices", found.packed.to_string()),
            ("digests", found.digests.to_string()),
            ("size", BinaryBytes(found.bytes as u64).to_string()),
            ("problems", found.problems.len().to_string()),
        ];
        let table = Table::of_pairs(["of the model", "found"], &rows);
        printer::data(&table.shown(settings.terminals.stdout))?;
    }
    for problem in &found.problems {
        printer::say(problem);
    }
    Ok(if found.problems.is_empty() {
        Exit::Success
    } else {
        Exit::Corrupt
    })
}
