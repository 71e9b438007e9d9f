//! `mlxr cache`: what is kept on the disk, of models and of prompts.

mod explain;
mod inspect;
mod list;
mod prune;
mod remove;
mod rows;
mod served;
mod warm;

use std::path::Path;

use mlxr::Result;

use crate::args::{Cache, CacheCommand};
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Printer;

/// Does what the arguments ask for.
pub(crate) fn run(args: &Cache, settings: &Settings, printer: Printer) -> Result<Exit> {
    match &args.command {
        CacheCommand::Ls(args) => list::list(args, settings, printer),
        CacheCommand::Inspect(args) => match args.folder.as_deref().and_then(Path::to_str) {
            Some(url) if served::is_url(url) => served::inspect(url, args, settings, printer),
            _ => inspect::inspect(args, settings, printer),
        },
        CacheCommand::Warm(args) => warm::warm(args, settings, printer),
        CacheCommand::Explain(args) => explain::explain(args, settings, printer),
        CacheCommand::Rm(args) => remove::remove(args, settings, printer),
        CacheCommand::Prune(args) => prune::prune(args, settings, printer),
    }
}
