//! `mlxr cache inspect URL`: what a server holds. Knows no file.

use std::time::Duration;

use indicatif::BinaryBytes;
use mlxr::{Error, Result};
use serde::Serialize;

use super::rows;
use crate::args::CacheInspect;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::wire::{Held, HeldModel, HeldPrefix, LoadedModel};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A prefix, for programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    model: &'a str,
    #[serde(flatten)]
    prefix: &'a HeldPrefix,
}

/// Whether what is to be looked into is a server.
pub(super) fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

/// Shows what a server holds.
pub(super) fn inspect(
    url: &str,
    args: &CacheInspect,
    settings: &Settings,
    printer: Printer,
) -> Result<Exit> {
    if args.verify {
        return Err(Error::Request {
            field: "verify",
            problem: "what a server holds has no digests".to_owned(),
        });
    }
    let with_text = args.text || args.find.is_some();
    let held = ask(
        &format!("{}/cache?text={with_text}", url.trim_end_matches('/')),
        url,
        settings,
    )?;
    let loaded = held.models.iter().filter_map(|model| match model {
        HeldModel::Loaded(model) => Some(&**model),
        HeldModel::Loading { .. } => None,
    });
    let loaded: Vec<&LoadedModel> = loaded.collect();
    let mut prefixes = Vec::new();
    for model in &loaded {
        let parents = model.prefixes.iter().map(|prefix| prefix.parent);
        let parents: Vec<Option<usize>> = parents.collect();
        let shown = rows::shown(args.find.as_deref(), &parents, |index| {
            model.prefixes[index].text.as_deref()
        });
        let shown = || {
            model
                .prefixes
                .iter()
                .zip(&shown)
                .filter(|(_, shown)| **shown)
        };
        if settings.terminals.stdout && !args.json {
            printer::data(&head(model))?;
            for (prefix, _) in shown() {
                printer::data(&line(model, prefix, args.text))?;
            }
        }
        prefixes.extend(shown().map(|(prefix, _)| Row {
            model: &model.model,
            prefix,
        }));
    }
    if args.json {
        printer::data(&rows::json(&prefixes))?;
    } else if !settings.terminals.stdout {
        printer::data(&rows::tabs(&prefixes))?;
    }
    printer::flush()?;
    if loaded.is_empty() {
        printer.talk(format_args!("no model is loaded at {url}"));
    }
    Ok(Exit::Success)
}

fn ask(address: &str, url: &str, settings: &Settings) -> Result<Held> {
    let failed = |problem: String| Error::Server {
        url: url.to_owned(),
        problem,
    };
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build();
    let mut request = ureq::Agent::from(agent).get(address);
    if let Some(key) = &settings.api_key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let mut response = request.call().map_err(|error| failed(error.to_string()))?;
    if !response.status().is_success() {
        return Err(failed(format!("it answered {}", response.status())));
    }
    let read = response.body_mut().read_json();
    read.map_err(|error| failed(format!("it is no server of mlxr: {error}")))
}

fn head(model: &LoadedModel) -> String {
    format!(
        "{} ({} on {}): weights {}, state {} of {}, {} live, {} waiting, {} prefixes\n",
        model.model,
        model.architecture,
        model.device,
        BinaryBytes(model.weights_bytes as u64),
        BinaryBytes(model.state_bytes as u64),
        BinaryBytes(model.state_bytes_limit as u64),
        model.live.len(),
        model.waiting,
        model.prefixes.len(),
    )
}

fn line(model: &LoadedModel, prefix: &HeldPrefix, with_text: bool) -> String {
    let mut depth = 1;
    let mut above = prefix.parent;
    // What it goes on from stands before it.
    while let Some(parent) = above.and_then(|index| model.prefixes.get(index)) {
        depth += 1;
        above = parent.parent.filter(|_| depth <= model.prefixes.len());
    }
    let age = humantime::format_duration(Duration::from_secs(prefix.unused_seconds as u64));
    let places = [
        (prefix.sequences > 0, "in a sequence"),
        (prefix.bytes > 0, "copied"),
        (prefix.offloaded_bytes > 0, "with the host"),
        (prefix.is_stored, "on the disk"),
        (prefix.has_checkpoint, "with states"),
    ];
    let places = places.iter().filter(|(is_there, _)| *is_there);
    let places: Vec<&str> = places.map(|(_, place)| *place).collect();
    let mut line = format!(
        "{}[{},{})  {} tokens  {}  {age} ago, {}",
        "  ".repeat(depth),
        prefix.start,
        prefix.end,
        prefix.end.saturating_sub(prefix.start),
        BinaryBytes((prefix.bytes + prefix.offloaded_bytes) as u64),
        if places.is_empty() {
            "not kept".to_owned()
        } else {
            places.join(", ")
        },
    );
    if let Some(text) = prefix.text.as_ref().filter(|_| with_text) {
        line += &rows::beginning(text);
    }
    line + "\n"
}
