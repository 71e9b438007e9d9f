//! `mlxr cache ls`: which models and which prompts are kept, and what they take.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indicatif::BinaryBytes;
use jiff::Timestamp;
use mlxr::cache::store::{ModelPrefixes, list as prompts};
use mlxr::hub::{self, CachedModel};
use mlxr::{Error, Result};
use serde::Serialize;

use super::rows;
use crate::args::CacheLs;
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::table::{Align, Table};

/// What is kept under one name.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What `cache rm` takes.
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    /// Prompts, or revisions of a model.
    pub(super) count: usize,
    pub(super) accessed: Option<Timestamp>,
    pub(super) modified: Option<Timestamp>,
    /// Branches and tags of a model; the model of prompts.
    pub(super) of: String,
    pub(super) path: PathBuf,
}

/// What kind of thing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Model,
    Prompts,
}

/// Everything that is kept.
pub(super) struct Caches {
    pub(super) models: Vec<CachedModel>,
    pub(super) prompts: Vec<ModelPrefixes>,
}

impl Caches {
    /// Of models in the hub's cache, and of prompts in a folder, or in that where they are if nothing is said.
    pub(super) fn read(folder: Option<&Path>, settings: &Settings) -> Result<Self> {
        let folder = match model::prompts(folder, settings) {
            Ok(folder) => Some(folder),
            // Without a home there is nothing by default.
            Err(Error::Request { .. }) => None,
            Err(error) => return Err(error),
        };
        let prompts = folder.map(|folder| prompts(&folder)).transpose()?;
        Ok(Self {
            models: hub::list(&Settings::hub()?)?,
            prompts: prompts.unwrap_or_default(),
        })
    }

    /// Models first.
    pub(super) fn rows(&self) -> Vec<Row> {
        let models = self.models.iter().map(of_model);
        let kept = self.prompts.iter().filter(|kept| !kept.entries.is_empty());
        models.chain(kept.map(of_prompts)).collect()
    }
}

fn of_model(model: &CachedModel) -> Row {
    let names: Vec<&str> = model
        .revisions
        .values()
        .flatten()
        .map(String::as_str)
        .collect();
    Row {
        id: model.id.clone(),
        kind: Kind::Model,
        bytes: model.bytes,
        count: model.revisions.len(),
        accessed: moment(model.accessed),
        modified: moment(model.modified),
        of: if model.unfinished_bytes > 0 {
            let unfinished = BinaryBytes(model.unfinished_bytes);
            format!("{} ({unfinished} unfinished)", names.join(" "))
        } else {
            names.join(" ")
        },
        path: model.path.clone(),
    }
}

fn of_prompts(kept: &ModelPrefixes) -> Row {
    let used = kept.entries.iter().map(|entry| entry.used).max();
    let folder = kept.entries.first().and_then(|entry| entry.path.parent());
    Row {
        id: kept.key.clone(),
        kind: Kind::Prompts,
        bytes: kept.entries.iter().map(|entry| entry.bytes).sum(),
        count: kept.entries.len(),
        accessed: moment(used),
        modified: moment(used),
        of: kept.model.clone().unwrap_or_default(),
        path: folder.unwrap_or(Path::new("")).to_path_buf(),
    }
}

fn moment(time: Option<SystemTime>) -> Option<Timestamp> {
    Timestamp::try_from(time?).ok()
}

/// Shows it.
pub(super) fn list(args: &CacheLs, settings: &Settings, printer: Printer) -> Result<Exit> {
    let caches = Caches::read(args.folder.as_deref(), settings)?;
    let rows = caches.rows();
    printer::data(&if args.json {
        rows::json(&rows)
    } else if !settings.terminals.stdout {
        rows::tabs(&rows)
    } else if rows.is_empty() {
        String::new()
    } else {
        drawn(&rows)
    })?;
    printer::flush()?;
    let total = |kind: Kind| {
        let of_kind = rows.iter().filter(|row| row.kind == kind);
        of_kind.fold((0, 0), |(count, bytes), row| {
            let more = if kind == Kind::Model { 1 } else { row.count };
            (count + more, bytes + row.bytes)
        })
    };
    let [(models, models_bytes), (prompts, prompts_bytes)] =
        [Kind::Model, Kind::Prompts].map(total);
    printer.talk(format_args!(
        "{}, {}; {}, {}",
        rows::counted(models, "model"),
        BinaryBytes(models_bytes),
        rows::counted(prompts, "prompt"),
        BinaryBytes(prompts_bytes)
    ));
    Ok(Exit::Success)
}

fn drawn(rows: &[Row]) -> String {
    let now = Timestamp::now();
    let age = |row: &Row| {
        let age = row.accessed.map(|then| now.duration_since(then));
        let seconds = age.and_then(|age| u64::try_from(age.as_secs()).ok());
        seconds.map_or(String::new(), ago)
    };
    let mut table = Table::default();
    table.column("id", Align::Left, rows.iter().map(|row| row.id.clone()));
    let kinds = rows.iter().map(|row| match row.kind {
        Kind::Model => "model".to_owned(),
        Kind::Prompts => rows::counted(row.count, "prompt"),
    });
    table.column("kind", Align::Left, kinds);
    let sizes = rows.iter().map(|row| BinaryBytes(row.bytes).to_string());
    table.column("size", Align::Right, sizes);
    table.column("used", Align::Right, rows.iter().map(age));
    table.column("of", Align::Left, rows.iter().map(|row| row.of.clone()));
    table.shown(true)
}

/// A stretch of time to its largest unit.
fn ago(seconds: u64) -> String {
    let units = [(86_400, "days"), (3_600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    match unit {
        Some((length, name)) => format!("{} {name} ago", seconds / length),
        None => "now".to_owned(),
    }
}
