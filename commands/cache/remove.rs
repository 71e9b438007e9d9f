//! `mlxr cache rm`: models and prompts go, by name.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead};
use std::path::PathBuf;

use indicatif::BinaryBytes;
use mlxr::cache::store::ModelPrefixes;
use mlxr::hub::{self, CachedModel};
use mlxr::{Error, Result};

use super::list::Caches;
use super::rows::counted;
use crate::args::CacheRm;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// What is to go.
enum Doomed<'a> {
    Model(&'a CachedModel),
    /// A prompt's file, and its size.
    Prompt(PathBuf, u64),
}

/// Removes what has these names, and prints where it was.
pub(super) fn remove(args: &CacheRm, settings: &Settings, printer: Printer) -> Result<Exit> {
    let caches = Caches::read(args.cache.as_deref(), settings)?;
    let doomed = doomed(&args.ids, &caches)?;
    let bytes = doomed.iter().map(|doomed| match doomed {
        Doomed::Model(model) => model.bytes,
        Doomed::Prompt(_, bytes) => *bytes,
    });
    let bytes = BinaryBytes(bytes.sum());
    if !args.dry_run && !args.yes {
        if !settings.terminals.stdin {
            return Err(Error::Request {
                field: "rm",
                problem: "nobody is there to be asked: give --yes, or --dry-run to only look"
                    .to_owned(),
            });
        }
        printer::say(format_args!("remove {}, {bytes}? [y/N]", what(&doomed)));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.map_err(Error::io("read", "standard input"))?;
        if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            printer.talk("nothing is removed");
            return Ok(Exit::Success);
        }
    }
    for doomed in &doomed {
        let path = match doomed {
            Doomed::Model(model) => &model.path,
            Doomed::Prompt(path, _) => path,
        };
        if !args.dry_run {
            match doomed {
                Doomed::Model(model) => hub::remove(model)?,
                Doomed::Prompt(path, _) => {
                    fs::remove_file(path).map_err(Error::io("remove", path))?;
                }
            }
        }
        printer::data(&format!("{}\n", path.display()))?;
    }
    printer::flush()?;
    let would = if args.dry_run { "would be " } else { "" };
    printer.talk(format_args!("{} {would}removed, {bytes}", what(&doomed)));
    Ok(Exit::Success)
}

fn what(doomed: &[Doomed<'_>]) -> String {
    let models = doomed
        .iter()
        .filter(|doomed| matches!(doomed, Doomed::Model(_)));
    let models = models.count();
    let prompts = doomed.len() - models;
    match (counted(models, "model"), counted(prompts, "prompt")) {
        (models, _) if prompts == 0 => models,
        (_, prompts) if models == 0 => prompts,
        (models, prompts) => format!("{models} and {prompts}"),
    }
}

/// What these names mean: a model of the hub, all prompts of a model, or one prompt with those that go on from it.
fn doomed<'a>(ids: &[String], caches: &'a Caches) -> Result<Vec<Doomed<'a>>> {
    let mut models = BTreeSet::new();
    let mut prompts = BTreeSet::new();
    for id in ids {
        let mut is_known = false;
        for (index, model) in caches.models.iter().enumerate() {
            if model.id == *id {
                is_known = true;
                models.insert(index);
            }
        }
        for (place, kept) in caches.prompts.iter().enumerate() {
            for index in meant(kept, id) {
                is_known = true;
                prompts.insert((place, index));
            }
        }
        if !is_known {
            return Err(Error::NotCached(id.clone()));
        }
    }
    let models = models
        .into_iter()
        .map(|index| Doomed::Model(&caches.models[index]));
    let prompts = prompts.into_iter().map(|(place, index)| {
        let entry = &caches.prompts[place].entries[index];
        Doomed::Prompt(entry.path.clone(), entry.bytes)
    });
    Ok(models.chain(prompts).collect())
}

/// The entries that go with a name.
fn meant(kept: &ModelPrefixes, id: &str) -> Vec<usize> {
    let mut gone = vec![false; kept.entries.len()];
    for (index, entry) in kept.entries.iter().enumerate() {
        let is_named = kept.key == id || entry.path.file_stem().is_some_and(|stem| stem == id);
        // Each comes after the one that it goes on from.
        gone[index] = is_named || entry.parent.is_some_and(|parent| gone[parent]);
    }
    (0..gone.len()).filter(|&index| gone[index]).collect()
}
