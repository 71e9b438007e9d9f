//! `mlxr cache warm`: a prompt is computed and kept, so that those that begin alike start behind it.

use std::io;
use std::sync::mpsc::channel;

use mlxr::engine::Engine;
use mlxr::engine::figures::KnownPrefix;
use mlxr::{Error, Kept, Result};

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
        return Err(Error::EmptyPrompt);
    };
    let interrupt = Interrupt::listen().map_err(Error::io("listen to", "signals"))?;
    let kept = match model::kept(&args.kept, settings)? {
        Some(kept) => kept,
        None => Kept {
            folder: model::prompts(None, settings)?,
            bytes: args.kept.cache_size.as_u64(),
        },
    };
    let budget = args.budget.bytes();
    let model = model::open(&args.model, budget, Some(kept), None, settings, printer)?;
    let (request, _) = ask.request(Prompt::Text(text), &model)?;
    let tokens = request.tokens.clone();
    let Some(Computed { usage, time }) = computed(&model, request, &interrupt, printer)? else {
        return Ok(Exit::Interrupted);
    };
    let kept = kept_of(&tokens, &prefixes(&model.engine)?);
    if args.json {
        let row = serde_json::json!({
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "evaluated_tokens": usage.evaluated,
            "kept_tokens": kept,
            "seconds": time.as_secs_f64(),
        });
        printer::data(&rows::json(&[row]))?;
        printer::flush()?;
    }
    if kept == 0 {
        return Err(Error::Request {
            field: "cache",
            problem: format!(
                "nothing of the prompt's {} tokens could be kept",
                usage.prompt
            ),
        });
    }
    let all = match usage.prompt {
        prompt if prompt == kept => String::new(),
        prompt => format!(" of {prompt}"),
    };
    printer.talk(format_args!(
        "{kept}{all} tokens are kept; {} were computed in {:.1} s",
        usage.evaluated,
        time.as_secs_f64()
    ));
    Ok(Exit::Success)
}

/// What the engine knows of prefixes once it has stored what it was to store.
fn prefixes(engine: &Engine) -> Result<Vec<KnownPrefix>> {
    let (sender, receiver) = channel();
    // Who asks listens until there is an answer.
    engine.inspect(move |figures| drop(sender.send(figures.prefixes)))?;
    let fell_silent = |_| Error::EngineStopped("it fell silent".to_owned());
    receiver.recv().map_err(fell_silent)
}

/// How many tokens, from the first on, outlive the process. A prefix comes after the one that it goes on from.
fn kept_of(tokens: &[u32], prefixes: &[KnownPrefix]) -> usize {
    let mut is_kept = vec![false; prefixes.len()];
    let mut kept = 0;
    for (index, prefix) in prefixes.iter().enumerate() {
        let goes_on = prefix.parent.is_none_or(|parent| is_kept[parent]);
        if !goes_on || !prefix.is_stored {
            continue;
        }
        let own = tokens.get(prefix.start..).unwrap_or_default();
        let same = own.iter().zip(&prefix.tokens);
        let same = same.take_while(|(token, stored)| token == stored).count();
        is_kept[index] = same == prefix.tokens.len();
        kept = kept.max(if same > 0 { prefix.start + same } else { 0 });
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{KnownPrefix, kept_of};

    #[test]
    fn what_is_kept_is_followed_as_far_as_the_tokens_are_the_same() {
        let prefix = |parent, start, tokens: &[u32], is_stored| KnownPrefix {
            parent,
            start,
            tokens: tokens.to_vec(),
            is_stored,
            ..KnownPrefix::default()
        };
        let prefixes = [
            prefix(None, 0, &[1, 2], true),
            prefix(Some(0), 2, &[3, 4], true),
            prefix(Some(0), 2, &[5, 6], false),
            prefix(Some(2), 4, &[7], true),
        ];
        assert_eq!(kept_of(&[1, 2, 3, 4], &prefixes), 4);
        assert_eq!(kept_of(&[1, 2, 3], &prefixes), 3);
        assert_eq!(kept_of(&[1, 2, 5, 6, 7], &prefixes), 2);
        assert_eq!(kept_of(&[9], &prefixes), 0);
    }
}
