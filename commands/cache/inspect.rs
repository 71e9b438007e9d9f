//! `mlxr cache inspect`: what is kept of prompts. Computes nothing, and loads no MLX.

use std::path::Path;
use std::time::Duration;

use indicatif::BinaryBytes;
use jiff::Timestamp;
use mlxr::Result;
use mlxr::cache::store::{Entry, ModelPrefixes, Sizes, list};
use mlxr::files::ModelFiles;
use mlxr::tokenizer::{Special, Tokenizer};
use serde::Serialize;

use super::rows;
use crate::args::CacheInspect;
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

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

/// Shows it.
pub(super) fn inspect(args: &CacheInspect, settings: &Settings, printer: Printer) -> Result<Exit> {
    let folder = model::prompts(args.folder.as_deref(), settings)?;
    let models = list(&folder)?;
    let mut rows = Vec::new();
    let mut exit = Exit::Success;
    for model in &models {
        for damage in &model.damaged {
            exit = printer.error(damage);
        }
        let texts = texts(model, args, printer);
        let parents = model.entries.iter().map(|entry| entry.parent);
        let parents: Vec<Option<usize>> = parents.collect();
        let shown = rows::shown(args.find.as_deref(), &parents, |index| {
            texts[index].as_deref()
        });
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
        printer::data(&rows::json(&rows))?;
    } else if !settings.terminals.stdout {
        printer::data(&rows::tabs(&rows))?;
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
                lines += &rows::beginning(text);
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
