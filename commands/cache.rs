//! `mlxr cache`: what is kept of prompts on the disk. Computes nothing, and loads no MLX.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use indicatif::BinaryBytes;
use jiff::Timestamp;
use mlxr::cache::store::{Entry, ModelPrefixes, Sizes, list};
use mlxr::files::ModelFiles;
use mlxr::tokenizer::{Special, Tokenizer};
use mlxr::{Error, Result};
use serde::Serialize;

use crate::args::{Cache, CacheCommand, CacheInspect, CachePrune};
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// Characters of a text that are shown.
const SHOWN: usize = 60;

/// Does what the arguments ask for.
pub(crate) fn run(args: &Cache, settings: &Settings, printer: Printer) -> Result<Exit> {
    match &args.command {
        CacheCommand::Inspect(args) => inspect(args, settings, printer),
        CacheCommand::Prune(args) => prune(args, settings, printer),
    }
}

/// Where prompts are kept, if nothing else is said.
pub(crate) fn folder(named: Option<&Path>, settings: &Settings) -> Result<PathBuf> {
    let folder = named
        .map(Path::to_path_buf)
        .or_else(|| settings.cache.clone());
    folder.ok_or_else(|| Error::Request {
        field: "cache",
        problem: "there is no home folder with kept prompts: name one".to_owned(),
    })
}

/// A prefix, for programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    model: Option<&'a str>,
    key: &'a str,
    file: &'a Path,
    start: usize,
    end: usize,
    tokens: usize,
    /// The file that it goes on from.
    parent: Option<&'a Path>,
    file_bytes: u64,
    rows_bytes: usize,
    windows_bytes: usize,
    states_bytes: usize,
    used: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn inspect(args: &CacheInspect, settings: &Settings, printer: Printer) -> Result<Exit> {
    let folder = folder(args.folder.as_deref(), settings)?;
    let models = list(&folder)?;
    let mut rows = Vec::new();
    let mut exit = Exit::Success;
    for model in &models {
        for damage in &model.damaged {
            exit = printer.error(damage);
        }
        let texts = texts(model, args, printer);
        let shown = shown(model, args, &texts);
        for (index, entry) in model.entries.iter().enumerate() {
            if args.verify
                && let Err(error) = entry.prefix.verify()
            {
                exit = printer.error(&error);
            }
            if shown[index] {
                rows.push(row(
                    model,
                    entry,
                    texts[index].as_ref().filter(|_| args.text),
                ));
            }
        }
        if settings.terminals.stdout && !args.json {
            printer::data(&tree(model, &shown, &texts, args.text))?;
        }
    }
    if args.json {
        // Rows have string keys and finite numbers only, so they cannot fail.
        printer::data(&format!(
            "{:#}\n",
            serde_json::to_value(&rows).unwrap_or_default()
        ))?;
    } else if !settings.terminals.stdout {
        printer::data(&tabs(&rows))?;
    }
    printer::flush()?;
    if models.iter().all(|model| model.entries.is_empty()) {
        printer.talk(format_args!("no prompts are kept in {}", folder.display()));
    }
    Ok(exit)
}

/// The text that each prefix adds, where it is asked for and the model is where it was.
fn texts(model: &ModelPrefixes, args: &CacheInspect, printer: Printer) -> Vec<Option<String>> {
    let none = || model.entries.iter().map(|_| None).collect();
    if !args.text && args.find.is_none() {
        return none();
    }
    let files = match model.model.as_deref() {
        Some(label) if Path::new(label) == model::BUILT_IN.label() => model::BUILT_IN,
        Some(label) => ModelFiles::Folder(label.into()),
        None => return none(),
    };
    match Tokenizer::load(&files) {
        Ok(tokenizer) => {
            let texts = model.entries.iter().map(|entry| {
                let own = &entry.prefix.tokens[entry.prefix.rows.start()..];
                Some(tokenizer.decode(own, Special::Show))
            });
            texts.collect()
        }
        Err(error) => {
            printer.talk(format_args!(
                "the texts of {} are not known: {error}",
                model.key
            ));
            none()
        }
    }
}

/// Which prefixes have the text that is looked for, or lead to one that has.
fn shown(model: &ModelPrefixes, args: &CacheInspect, texts: &[Option<String>]) -> Vec<bool> {
    let Some(wanted) = &args.find else {
        return vec![true; model.entries.len()];
    };
    let mut shown = vec![false; model.entries.len()];
    for (index, text) in texts.iter().enumerate() {
        if !text.as_ref().is_some_and(|text| text.contains(wanted)) {
            continue;
        }
        let mut next = Some(index);
        while let Some(index) = next.filter(|&index| !shown[index]) {
            shown[index] = true;
            next = model.entries[index].parent;
        }
    }
    shown
}

fn row<'a>(model: &'a ModelPrefixes, entry: &'a Entry, text: Option<&String>) -> Row<'a> {
    let Sizes {
        rows,
        windows,
        states,
    } = entry.prefix.sizes();
    let (start, end) = (entry.prefix.rows.start(), entry.prefix.tokens.len());
    Row {
        model: model.model.as_deref(),
        key: &model.key,
        file: &entry.path,
        start,
        end,
        tokens: end - start,
        parent: entry
            .parent
            .map(|parent| model.entries[parent].path.as_path()),
        file_bytes: entry.bytes,
        rows_bytes: rows,
        windows_bytes: windows,
        states_bytes: states,
        used: Timestamp::try_from(entry.used).ok(),
        text: text.cloned(),
    }
}

/// One line for each, under a line of names.
fn tabs(rows: &[Row<'_>]) -> String {
    let mut lines = String::new();
    for row in rows {
        let value = serde_json::to_value(row).unwrap_or_default();
        let fields = value.as_object().cloned().unwrap_or_default();
        if lines.is_empty() {
            lines = fields.keys().cloned().collect::<Vec<_>>().join("\t") + "\n";
        }
        let cells = fields.values().map(|value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.escape_debug().to_string(),
            other => other.to_string(),
        });
        lines += &(cells.collect::<Vec<_>>().join("\t") + "\n");
    }
    lines
}

/// A model's prefixes, each below the one that it goes on from.
fn tree(
    model: &ModelPrefixes,
    shown: &[bool],
    texts: &[Option<String>],
    with_text: bool,
) -> String {
    let entries = || model.entries.iter().zip(shown).filter(|(_, shown)| **shown);
    if entries().next().is_none() {
        return String::new();
    }
    let tokens: usize = entries()
        .map(|(entry, _)| entry.prefix.tokens.len() - entry.prefix.rows.start())
        .sum();
    let bytes: u64 = entries().map(|(entry, _)| entry.bytes).sum();
    let mut lines = format!(
        "{} ({}): {} prefixes, {tokens} tokens, {}\n",
        model
            .model
            .as_deref()
            .unwrap_or("a model that is not known"),
        model.key,
        entries().count(),
        BinaryBytes(bytes),
    );
    let roots = (0..shown.len()).filter(|&index| model.entries[index].parent.is_none());
    for root in roots.filter(|&index| shown[index]) {
        branch(model, root, 1, shown, &mut |index, depth| {
            lines += &"  ".repeat(depth);
            lines += &line(&model.entries[index]);
            if let Some(text) = texts[index].as_ref().filter(|_| with_text) {
                let start: String = text.chars().take(SHOWN).collect();
                lines.extend(["  ", &format!("{start:?}")]);
            }
            lines.push('\n');
        });
    }
    lines
}

fn branch(
    model: &ModelPrefixes,
    index: usize,
    depth: usize,
    shown: &[bool],
    draw: &mut impl FnMut(usize, usize),
) {
    draw(index, depth);
    for (child, entry) in model.entries.iter().enumerate() {
        if entry.parent == Some(index) && shown[child] {
            branch(model, child, depth + 1, shown, draw);
        }
    }
}

fn line(entry: &Entry) -> String {
    let (start, end) = (entry.prefix.rows.start(), entry.prefix.tokens.len());
    let Sizes {
        windows, states, ..
    } = entry.prefix.sizes();
    let age = entry.used.elapsed().unwrap_or_default();
    let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
    let kinds: Vec<&str> = [(windows, "windows"), (states, "states")]
        .into_iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(_, kind)| kind)
        .collect();
    let kinds = match kinds.as_slice() {
        [] => String::new(),
        kinds => format!(", with {}", kinds.join(" and ")),
    };
    format!(
        "[{start},{end})  {} tokens  {}  {age} ago{kinds}",
        end - start,
        BinaryBytes(entry.bytes),
    )
}

fn prune(args: &CachePrune, settings: &Settings, printer: Printer) -> Result<Exit> {
    let folder = folder(args.folder.as_deref(), settings)?;
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
