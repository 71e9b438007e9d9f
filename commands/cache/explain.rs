//! `mlxr cache explain`: how far two prompts are the same, and what the second one takes over from the first.

use std::fs;
use std::path::Path;

use mlxr::engine::request::{Miss, Request, Usage};
use mlxr::tokenizer::{Special, Tokenizer};
use mlxr::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::args::{CacheExplain, SamplingArgs};
use crate::ask::prompt::utf8;
use crate::ask::{Ask, Prompt};
use crate::computed::computed;
use crate::interrupt::Interrupt;
use crate::model::{self, Model};
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// Tokens before the first one that differs, whose text is shown.
const BEFORE: usize = 12;

/// What is told of two prompts.
#[derive(Debug, Serialize)]
struct Explanation {
    /// Tokens of each.
    tokens: [usize; 2],
    /// Tokens that are the same from the beginning.
    same: usize,
    difference: Option<Difference>,
    matched: usize,
    restored: usize,
    evaluated: usize,
    reason: Option<&'static str>,
    /// To compute the first prompt, and then the second.
    seconds: [f64; 2],
}

/// The first token that is not the same.
#[derive(Debug, Serialize)]
struct Difference {
    position: usize,
    /// Which message of each it belongs to, counted from 1; behind the last one is what the template adds.
    message: [usize; 2],
    /// The text before it, which is the same.
    before: String,
    /// Each token; none behind the end.
    tokens: [Option<u32>; 2],
    texts: [Option<String>; 2],
}

/// Computes the first prompt, then the second, and tells what became of it.
pub(super) fn explain(args: &CacheExplain, settings: &Settings, printer: Printer) -> Result<Exit> {
    let ask = Ask::new(&args.framing, &SamplingArgs::default())?;
    let paths = [&args.first, &args.second];
    let in_file = |path: &Path| Error::in_part(path.display().to_string());
    let [first, second] = paths.map(|path| prompt(path, &ask));
    let prompts = [first?, second?];
    let interrupt = Interrupt::listen().map_err(Error::io("listen to", "signals"))?;
    let budget = args.budget.bytes();
    let model = model::open(&args.model, budget, None, None, settings, printer)?;
    let [first, second] = prompts;
    let request = |path: &Path, (prompt, ask): (Prompt, Ask)| {
        let request = ask.request(prompt, &model).map_err(in_file(path));
        request.map(|(request, _)| request)
    };
    let requests = [request(&args.first, first)?, request(&args.second, second)?];
    let mut usages = Vec::new();
    for (path, request) in paths.into_iter().zip(&requests) {
        let computed = computed(&model, request.clone(), &interrupt, printer);
        match computed.map_err(in_file(path))? {
            Some(computed) => usages.push(computed),
            None => return Ok(Exit::Interrupted),
        }
    }
    let [first, second] = usages.as_slice() else {
        return Ok(Exit::Interrupted);
    };
    let seconds = [first.time, second.time].map(|time| time.as_secs_f64());
    let explanation = explanation(&model, &requests, &second.usage, seconds);
    if args.json {
        // A struct of strings and finite numbers cannot fail.
        let value = serde_json::to_value(&explanation).unwrap_or_default();
        printer::data(&format!("{value:#}\n"))?;
    } else {
        printer::data(&told(&explanation))?;
    }
    printer::flush()?;
    Ok(Exit::Success)
}

/// What a file asks: an object as `mlxr run --jsonl` takes, or else text.
fn prompt(path: &Path, ask: &Ask) -> Result<(Prompt, Ask)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let text = utf8(path.display().to_string(), bytes)?;
    if let Ok(Value::Object(mut row)) = serde_json::from_str(&text) {
        // A request's name is nothing that is computed.
        row.remove("id");
        let read = ask.read(row);
        return read.map_err(Error::in_part(path.display().to_string()));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok((Prompt::Text(text.to_owned()), ask.clone()))
}

fn explanation(
    model: &Model,
    requests: &[Request; 2],
    usage: &Usage,
    seconds: [f64; 2],
) -> Explanation {
    let [first, second] = requests.each_ref().map(|request| &request.tokens);
    let pairs = first.iter().zip(second);
    let same = pairs.take_while(|(a, b)| a == b).count();
    let is_equal = same == first.len() && same == second.len();
    Explanation {
        tokens: [first.len(), second.len()],
        same,
        difference: (!is_equal).then(|| difference(&model.tokenizer, requests, same)),
        matched: usage.matched,
        restored: usage.cached,
        evaluated: usage.evaluated,
        reason: usage.miss().map(Miss::name),
        seconds,
    }
}

fn difference(tokenizer: &Tokenizer, requests: &[Request; 2], position: usize) -> Difference {
    let before = &requests[0].tokens[position.saturating_sub(BEFORE)..position];
    let tokens = requests
        .each_ref()
        .map(|request| request.tokens.get(position).copied());
    Difference {
        position,
        message: requests.each_ref().map(|request| {
            let ended = request.joints.iter().filter(|&&end| end <= position);
            ended.count() + 1
        }),
        before: tokenizer.decode(before, Special::Show),
        texts: tokens.map(|token| Some(tokenizer.decode(&[token?], Special::Show))),
        tokens,
    }
}

/// For people.
fn told(explanation: &Explanation) -> String {
    let Explanation {
        tokens,
        same,
        difference,
        matched,
        restored,
        evaluated,
        reason,
        seconds,
    } = explanation;
    let mut lines = vec![format!(
        "{} tokens and {}; the first {same} are the same",
        tokens[0], tokens[1]
    )];
    if let Some(difference) = difference {
        let shown = |which: usize| match &difference.texts[which] {
            Some(text) => format!("{text:?} in message {}", difference.message[which]),
            None => "it ends".to_owned(),
        };
        lines.push(format!("after {:?}", difference.before));
        lines.push(format!("  the first:  {}", shown(0)));
        lines.push(format!("  the second: {}", shown(1)));
    }
    lines.push(format!(
        "of the second, {matched} match, {restored} are restored, {evaluated} evaluated: {:.2} s instead of {:.2} s",
        seconds[1], seconds[0]
    ));
    let why = match *reason {
        Some("not_kept") => {
            "the model's layers cannot go back to where the prompts part, and no state is kept there"
        }
        Some("differs") => "the prompts part there",
        Some(_) => "the prompts begin differently",
        None => "only the last token had to be computed",
    };
    lines.push(why.to_owned());
    lines.join("\n") + "\n"
}
