//! Two tokenizers on the same texts.

use std::collections::BTreeSet;

use mlxr::Result;
use mlxr::tokenizer::{Spanned, Tokenizer};
use serde_json::{Value, json};

use super::{Input, Job};
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// Compares our ids with the reference's and prints the first difference of each text.
pub(super) fn verify(job: &Job<'_>, reference: &Tokenizer, inputs: &[Input]) -> Result<Exit> {
    let mut exit = Exit::Success;
    for input in inputs {
        let ours = job.tokenizer.encode_spanned(&input.text, job.special())?;
        let theirs = reference.encode_spanned(&input.text, job.special())?;
        let first = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at));
        if job.args.json {
            printer::json(&json!({
                "file": input.name, "bytes": input.text.len(), "tokens": theirs.len(), "same": first.is_none(),
                "engine": job.tokenizer.reference_reason().map_or("mlxr", |_| "reference"),
                "first_difference": first.map(|at| difference(at, &ours, &theirs)),
            }))?;
        } else if let Some(at) = first {
            let difference = difference(at, &ours, &theirs);
            printer::data(&format!("{}: differs: {difference}\n", input.name))?;
        } else {
            let (tokens, bytes) = (ours.len(), input.text.len());
            printer::data(&format!(
                "{}: the same {tokens} tokens of {bytes} bytes\n",
                input.name
            ))?;
        }
        if first.is_some() {
            exit = Exit::Gate;
        }
    }
    printer::flush()?;
    Ok(exit)
}

/// Some tokens of both from the first on that differs.
fn difference(at: usize, ours: &[Spanned], theirs: &[Spanned]) -> Value {
    let some = |tokens: &[Spanned]| -> Vec<Value> {
        let tokens = tokens.iter().skip(at).take(5);
        tokens
            .map(|token| json!([token.token, token.begin, token.end]))
            .collect()
    };
    let byte = ours
        .get(at)
        .or_else(|| theirs.get(at))
        .map(|token| token.begin);
    json!({ "token": at, "byte": byte, "ours": some(ours), "reference": some(theirs) })
}

/// Prints the parts of texts that another tokenizer cuts otherwise.
pub(super) fn diff(
    job: &Job<'_>,
    other: &Tokenizer,
    inputs: &[Input],
    printer: Printer,
) -> Result<Exit> {
    let mut exit = Exit::Success;
    for input in inputs {
        let ours = job.tokenizer.encode_spanned(&input.text, job.special())?;
        let theirs = other.encode_spanned(&input.text, job.special())?;
        let ends = |tokens: &[Spanned]| {
            tokens
                .iter()
                .map(|token| token.end)
                .collect::<BTreeSet<_>>()
        };
        let (our_ends, their_ends) = (ends(&ours), ends(&theirs));
        let mut differences = Vec::new();
        let mut begin = 0;
        for end in our_ends.intersection(&their_ends).copied() {
            let inside =
                |ends: &BTreeSet<usize>| ends.range(begin + 1..=end).copied().collect::<Vec<_>>();
            let (a, b) = (inside(&our_ends), inside(&their_ends));
            if a != b {
                differences.push((begin, end, a, b));
            }
            begin = end;
        }
        if !differences.is_empty() {
            exit = Exit::Gate;
        }
        let pieces = |begin: usize, ends: &[usize]| -> Vec<&str> {
            let begins = std::iter::once(&begin).chain(ends);
            begins
                .zip(ends)
                .map(|(begin, end)| input.text.get(*begin..*end).unwrap_or("\u{fffd}"))
                .collect()
        };
        if job.args.json {
            let differences: Vec<Value> = differences
                .iter()
                .map(|(begin, end, a, b)| {
                    json!({"begin": begin, "end": end, "ours": pieces(*begin, a), "other": pieces(*begin, b)})
                })
                .collect();
            printer::json(&json!({
                "file": input.name, "tokens": ours.len(), "other_tokens": theirs.len(), "differences": differences,
            }))?;
            continue;
        }
        for (begin, end, a, b) in &differences {
            let (a, b) = (json!(pieces(*begin, a)), json!(pieces(*begin, b)));
            printer::data(&format!("{begin}\t{end}\t{a}\t{b}\n"))?;
        }
        let (ours, theirs) = (ours.len(), theirs.len());
        printer.talk(format_args!(
            "{}: {ours} tokens, and {theirs} of the other's",
            input.name
        ));
    }
    printer::flush()?;
    Ok(exit)
}
