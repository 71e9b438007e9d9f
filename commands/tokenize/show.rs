//! Tokens in the form that is asked for.

use std::fmt::Write as _;

use mlxr::Result;
use serde_json::{Value, json};

use super::{Input, Job};
use crate::ui::printer;

/// Prints the tokens of texts.
pub(super) fn show(job: &Job<'_>, inputs: &[Input]) -> Result<()> {
    let mut sum = 0;
    for input in inputs {
        if job.args.json {
            let mut object = object(job, &input.text)?;
            if inputs.len() > 1 {
                object["file"] = input.name.as_str().into();
            }
            printer::json(&object)?;
            continue;
        }
        let mut lines = String::new();
        if job.args.count {
            let count = job.tokens(&input.text)?.len();
            sum += count;
            if inputs.len() == 1 {
                line(&mut lines, format_args!("{count}"));
            } else {
                line(&mut lines, format_args!("{count}\t{}", input.name));
            }
            printer::data(&lines)?;
            continue;
        }
        let tokens = job.tokens(&input.text)?;
        if job.args.ids {
            let ids: Vec<String> = tokens.iter().map(|token| token.token.to_string()).collect();
            line(&mut lines, format_args!("{}", ids.join(" ")));
        } else {
            for token in &tokens {
                let piece = Value::from(job.piece(token.token));
                match job.args {
                    args if args.pieces => line(&mut lines, format_args!("{piece}")),
                    args if args.offsets => {
                        let (begin, end) = (token.begin, token.end);
                        line(
                            &mut lines,
                            format_args!("{begin}\t{end}\t{}\t{piece}", token.token),
                        );
                    }
                    _ => line(&mut lines, format_args!("{}\t{piece}", token.token)),
                }
            }
        }
        printer::data(&lines)?;
    }
    if job.args.count && inputs.len() > 1 {
        printer::data(&format!("{sum}\ttotal\n"))?;
    }
    Ok(())
}

fn line(lines: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(lines, "{words}");
}

/// All that there is to say of a text's tokens; with `--count`, how many they are.
pub(super) fn object(job: &Job<'_>, text: &str) -> Result<Value> {
    let tokens = job.tokens(text)?;
    let mut object = json!({ "tokens": tokens.len(), "bytes": text.len() });
    if !job.args.count {
        object["ids"] = tokens.iter().map(|token| token.token).collect();
    }
    if job.args.json || job.args.pieces {
        object["pieces"] = tokens.iter().map(|token| job.piece(token.token)).collect();
    }
    if job.args.json || job.args.offsets {
        object["offsets"] = tokens
            .iter()
            .map(|token| json!([token.begin, token.end]))
            .collect();
    }
    if job.args.json {
        object["engine"] = match job.tokenizer.reference_reason() {
            None => "mlxr".into(),
            Some(_) => "reference".into(),
        };
    }
    Ok(object)
}
