//! `mlxr cache warm`: a prompt is computed and kept, so that those that begin alike start behind it.

use std::io;

use mlxr::{Kept, Result};

use super::rows;
use crate::args::{CacheWarm, SamplingArgs};
use crate::ask::Ask;
use crate::ask::Prompt;
use crate::ask::prompt::{self, Situation, Source};
use crate::computed::{Computed, computed};
use crate::interrupt::Interrupt;
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// Computes it.
pub(super) fn warm(args: &CacheWarm, settings: &Settings, printer: Printer) -> Result<Exit> {
    let ask = Ask::new(&args.framing, &SamplingArgs::default())?;
    let situation = Situation {
        stdin_terminal: settings.terminals.stdin,
        may_chat: false,
        lines: false,
    };
    let Source::Text(text) = prompt::source(&args.prompt, situation, io::stdin().lock())? else {
        return Err(mlxr::Error::EmptyPrompt);
    };
    let interrupt = Interrupt::listen().map_err(mlxr::Error::io("listen to", "signals"))?;
    let kept = match model::kept(&args.kept, settings)? {
        Some(kept) => kept,
        None => Kept {
            folder: model::prompts(None, settings)?,
            bytes: args.kept.cache_size.as_u64(),
        },
    };
    let budget = args.budget.bytes();
    let model = model::open(&args.model, budget, Some(kept), settings, printer)?;
    let (request, _) = ask.request(Prompt::Text(text), &model)?;
    let Some(Computed { usage, time }) = computed(&model, request, &interrupt, printer)? else {
        return Ok(Exit::Interrupted);
    };
    if args.json {
        let row = serde_json::json!({
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "evaluated_tokens": usage.evaluated,
            "seconds": time.as_secs_f64(),
        });
        printer::data(&rows::json(&[row]))?;
        printer::flush()?;
    }
    printer.talk(format_args!(
        "{} tokens are kept, of which {} were computed in {:.1} s",
        usage.prompt,
        usage.evaluated,
        time.as_secs_f64()
    ));
    Ok(Exit::Success)
}
