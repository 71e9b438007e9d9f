//! `mlxr quantize`: a packed model of a dense one, and whether a packed one is whole.

mod explain;
mod reading;
mod report;
mod search;
mod statistics;
mod verify;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use indicatif::BinaryBytes;
use mlxr::config::{PackingConfig, PackingMode};
use mlxr::kernels::pool;
use mlxr::quantize::{Checkpoint, QuantizeSettings, Recipe, WriteOptions, plan, write};
use mlxr::{Error, Result, hub};

use crate::args::Quantize;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::progress::Drawn;
use reading::{Text, place};
use search::Search;

/// How the names of files end that are read instead of a folder.
const GGUF: &str = ".gguf";

/// Does what the arguments ask for.
pub(crate) fn run(args: &Quantize, settings: &Settings, printer: Printer) -> Result<Exit> {
    let progress = Arc::new(Drawn::new(printer));
    if let Some(threads) = args.threads.and_then(NonZero::new) {
        pool::set_threads(threads);
    }
    if let Some(folder) = &args.verify {
        return verify::verify(folder, args.json, settings, &progress);
    }
    let mut asked = asked(args)?;
    let name = args.model.as_deref().unwrap_or_default();
    let checkpoint = if name.ends_with(GGUF) {
        Checkpoint::open_gguf(Path::new(name))?
    } else {
        Checkpoint::open(&hub::resolve(name, &Settings::hub()?, &*progress)?)?
    };
    // Opened before anything is measured or written, which takes long.
    let path = args.report.as_deref().filter(|path| !path.is_empty());
    let measures = args.report.is_some() || args.target_bpw.is_some();
    let text = measures.then(|| Text::read(path.map(Path::new), checkpoint.files()));
    let text = text.transpose()?;
    let memory = args.memory.map(|memory| memory.as_u64() as usize);
    if let (Some(target), Some(folder), Some(text)) = (args.target_bpw, &args.output, &text) {
        let whole = plan(&checkpoint, &asked)?;
        let search = Search {
            checkpoint: &checkpoint,
            target,
            folder,
            text,
            place: place("--target-bpw", &checkpoint, &whole, memory, settings)?,
        };
        search.run(&mut asked, &progress)?;
    }
    let plan = plan(&checkpoint, &asked)?;
    for (name, reason) in &plan.dropped {
        printer.detail(format_args!("{name} is left out: {reason}"));
    }
    let looks = args.explain || args.dry_run;
    if looks {
        explain::show(&plan, args, settings)?;
    }
    let Some(target) = args.output.as_ref().filter(|_| !args.dry_run) else {
        return Ok(Exit::Success);
    };
    let text = text.filter(|_| args.report.is_some());
    let place = text
        .as_ref()
        .map(|_| place("--report", &checkpoint, &plan, memory, settings))
        .transpose()?;
    let options = WriteOptions {
        target: target.clone(),
        memory,
        force: args.force,
    };
    let begin = Instant::now();
    let written = write(&plan, &options, &*progress)?;
    let seconds = begin.elapsed().as_secs_f64();
    if written.resumed > 0 {
        let all = written.resumed + written.tensors;
        printer.talk(format_args!(
            "{} of {all} tensors were there already",
            written.resumed
        ));
    }
    printer.talk(format_args!(
        "{}: {} in {:.3} bits per weight, {seconds:.1} s",
        target.display(),
        BinaryBytes(plan.bytes() as u64),
        plan.bits_per_weight(),
    ));
    let report = text.zip(place).map(|(text, place)| {
        report::report(&plan, checkpoint.files(), target, &text, place, &progress)
    });
    let report = report.transpose()?;
    if args.json && !looks {
        let mut value = explain::summary(&plan, Some(seconds));
        if let Some(report) = &report {
            value["report"] = report.json(&plan);
        }
        printer::json(&value)?;
    } else if let Some(report) = &report {
        report.show(settings)?;
    }
    if let (Some(report), Some(most)) = (&report, args.max_kld)
        && report.divergence.mean > most
    {
        let mean = report.divergence.mean;
        printer::say(format_args!(
            "the mean divergence is {mean}, {most} nats per token are allowed"
        ));
        return Ok(Exit::Gate);
    }
    Ok(Exit::Success)
}

/// What the arguments ask for, if they do not contradict each other.
fn asked(args: &Quantize) -> Result<QuantizeSettings> {
    let mode = args.mode.unwrap_or(PackingMode::Affine);
    let refuse = |problem: String| Error::Quantize {
        what: format!("--mode {mode}"),
        problem,
    };
    let base = PackingConfig::new(mode, args.bits, args.group).map_err(&refuse)?;
    let recipe = args.recipe.unwrap_or(Recipe::Default);
    if matches!(recipe, Recipe::Mixed(..)) && (mode != PackingMode::Affine || args.bits.is_some()) {
        return Err(Error::Quantize {
            what: format!("--recipe {recipe}"),
            problem: "it says the mode, affine, and the bits itself".to_owned(),
        });
    }
    if args.target_bpw.is_some() && mode != PackingMode::Affine {
        return Err(refuse(
            "--target-bpw searches among the bits of affine mode".to_owned(),
        ));
    }
    Ok(QuantizeSettings {
        base,
        recipe,
        embed: args.embed.clone(),
        head: args.head.clone(),
        expert: args.expert.clone(),
        overrides: args.overrides.clone(),
        dtype: args.dtype.map(Into::into),
        searched: BTreeMap::new(),
        keep_codes: args.mode.is_none()
            && args.bits.is_none()
            && args.group.is_none()
            && args.recipe.is_none()
            && args.target_bpw.is_none(),
    })
}
