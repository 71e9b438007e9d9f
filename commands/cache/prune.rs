//! `mlxr cache prune`: prompts that are not worth their place go.

use std::fs;
use std::time::SystemTime;

use indicatif::BinaryBytes;
use mlxr::cache::store::{Entry, list};
use mlxr::{Error, Result};

use crate::args::CachePrune;
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// Removes them, and prints which.
pub(super) fn prune(args: &CachePrune, settings: &Settings, printer: Printer) -> Result<Exit> {
    let folder = model::prompts(args.folder.as_deref(), settings)?;
    let models = list(&folder)?;
    let mut entries: Vec<&Entry> = models.iter().flat_map(|model| &model.entries).collect();
    // What others go on from was used no earlier than they were; of as old, the longest go first.
    entries.sort_by_key(|entry| (entry.used, std::cmp::Reverse(entry.prefix.tokens.len())));
    let mut left: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let before = args
        .unused
        .and_then(|age| SystemTime::now().checked_sub(age));
    let (mut count, mut freed) = (0, 0);
    for entry in entries {
        let is_old = before.is_some_and(|before| entry.used <= before);
        let is_too_much = args.to.is_some_and(|limit| left > limit.as_u64());
        if !is_old && !is_too_much {
            continue;
        }
        if !args.dry_run {
            fs::remove_file(&entry.path).map_err(Error::io("remove", &entry.path))?;
        }
        printer::data(&format!("{}\n", entry.path.display()))?;
        (count, freed, left) = (count + 1, freed + entry.bytes, left - entry.bytes);
    }
    printer::flush()?;
    let would = if args.dry_run { "would be " } else { "" };
    printer.talk(format_args!(
        "{count} prefixes {would}removed, {}",
        BinaryBytes(freed)
    ));
    Ok(Exit::Success)
}
