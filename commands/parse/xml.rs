//! Calls written as elements with a name and values; knows nothing of where such a text ends.

use super::Call;
use super::tool::{Tool, Tools};
use super::typed;
use serde_json::Map;

/// How a family writes its elements.
#[derive(Debug)]
pub(super) struct Dialect {
    pub(super) call: Element,
    pub(super) value: Element,
    /// A value stands on lines of its own.
    pub(super) has_lines: bool,
    /// The tool that a name means.
    pub(super) find: for<'a> fn(&'a Tools, &str) -> Option<&'a Tool>,
}

/// An element `<open NAME named> … <close>`.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) open: &'static str,
    pub(super) named: &'static str,
    pub(super) close: &'static str,
}

/// The calls in a text of such elements alone.
pub(super) fn calls(text: &str, tools: &Tools, dialect: &Dialect) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (call, after) = call(rest, tools, dialect)?;
        calls.push(call);
        rest = after;
    }
    Some(calls)
}

fn call<'a>(text: &'a str, tools: &Tools, dialect: &Dialect) -> Option<(Call, &'a str)> {
    let Dialect { call, value, .. } = dialect;
    let (name, rest) = text.strip_prefix(call.open)?.split_once(call.named)?;
    let tool = (dialect.find)(tools, name.trim())?;
    let mut arguments = Map::new();
    let mut rest = rest.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix(call.close) {
            let name = tool.name.clone();
            return Some((Call { name, arguments }, after.trim_start()));
        }
        let (name, after) = rest.strip_prefix(value.open)?.split_once(value.named)?;
        let may_follow = |next: &str| next.starts_with(value.open) || next.starts_with(call.close);
        let (text, after) = until(after, value.close, may_follow)?;
        let text = if dialect.has_lines { line(text) } else { text };
        let name = name.trim();
        let argument = typed::argument(text, &tool.parameters, name);
        arguments.insert(name.to_owned(), argument);
        rest = after;
    }
}

/// What stands before the tag `close`, and what follows it after white space. A tag that is
/// followed by something else is text: values are not escaped.
pub(super) fn until<'a>(
    text: &'a str,
    close: &str,
    may_follow: impl Fn(&str) -> bool,
) -> Option<(&'a str, &'a str)> {
    text.match_indices(close).find_map(|(at, _)| {
        let next = text[at + close.len()..].trim_start();
        may_follow(next).then(|| (&text[..at], next))
    })
}

/// Without the line ends that a template puts around a value.
fn line(text: &str) -> &str {
    let text = text.strip_prefix('\n').unwrap_or(text);
    text.strip_suffix('\n').unwrap_or(text)
}
