//! Parts of a text that have a number of tokens.

use mlxr::tokenizer::Spanned;
use mlxr::{Error, Result};
use serde_json::{Value, json};

use super::Job;
use crate::ui::printer;

/// Prints the parts of a text, a line each.
pub(super) fn show(job: &Job<'_>, text: &str, size: usize) -> Result<()> {
    parts(job, text, size)?.iter().try_for_each(printer::json)
}

/// The parts of a text: each ends where a token ends, and no character is cut.
///
/// # Errors
/// [`Error::Request`] where a character has more tokens than a part.
pub(super) fn parts(job: &Job<'_>, text: &str, size: usize) -> Result<Vec<Value>> {
    let tokens = job.tokens(text)?;
    let part_end = |begin: usize| border(&tokens, tokens.len().min(begin + size));
    let (mut begin, mut parts) = (0, Vec::new());
    while begin < tokens.len() {
        let end = part_end(begin);
        let Some((first, last)) = tokens[begin..end.max(begin)]
            .first()
            .zip(tokens[..end].last())
        else {
            return Err(Error::Request {
                field: "split",
                problem: format!(
                    "the character at byte {} has more than {size} tokens",
                    tokens[begin].begin
                ),
            });
        };
        parts.push(json!({
            "index": parts.len(), "begin": first.begin, "end": last.end, "tokens": end - begin,
            "text": &text[first.begin..last.end],
        }));
        if end == tokens.len() {
            break;
        }
        let shared = border(&tokens, end.saturating_sub(job.args.overlap));
        // A character of several tokens may leave no room for what parts have in common.
        begin = if part_end(shared) > end { shared } else { end };
    }
    Ok(parts)
}

/// The last place up to `at` where a token ends and its last character too.
fn border(tokens: &[Spanned], mut at: usize) -> usize {
    while at > 0 && at < tokens.len() && tokens[at].begin < tokens[at - 1].end {
        at -= 1;
    }
    at
}
