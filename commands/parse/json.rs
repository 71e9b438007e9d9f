//! Calls written as JSON, and where JSON ends; knows nothing of the tags around it.

use super::Call;
use super::tool::Tools;
use serde_json::{Deserializer, Map, Value};

/// Looks for the end of a JSON value that begins at the first bracket, as its text comes in.
#[derive(Debug)]
pub(super) struct End {
    place: Place,
    depth: usize,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Nothing but white space was seen.
    Start,
    /// Before the value, after something else.
    Head,
    Inside,
    String {
        is_escaped: bool,
    },
    /// There is no JSON; the end is that of the text.
    Nowhere,
}

/// What stands before the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// A name, unless it begins with `[`.
    Name,
    /// White space; with anything else the text is no JSON at all.
    Nothing,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// The character is the last one.
    Whole,
    /// It can never become JSON with this character.
    Broken,
}

impl End {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            depth: 0,
        }
    }

    pub(super) fn step(&mut self, next: char, before: Before) -> Step {
        match self.place {
            Place::Start | Place::Head => self.begin(next, before),
            Place::Inside => self.inside(next),
            Place::String { is_escaped: true } => {
                self.place = Place::String { is_escaped: false };
                Step::More
            }
            // JSON wants these escaped, so the closing quote is missing.
            Place::String { .. } if next < ' ' => Step::Broken,
            Place::String { .. } => {
                self.place = match next {
                    '"' => Place::Inside,
                    _ => Place::String {
                        is_escaped: next == '\\',
                    },
                };
                Step::More
            }
            Place::Nowhere => Step::More,
        }
    }

    fn begin(&mut self, next: char, before: Before) -> Step {
        let is_first = matches!(self.place, Place::Start);
        match next {
            '{' => return self.inside(next),
            '[' if is_first => return self.inside(next),
            _ if is_first && next.is_whitespace() => {}
            _ if before == Before::Nothing => self.place = Place::Nowhere,
            '\n' => return Step::Broken,
            _ => self.place = Place::Head,
        }
        Step::More
    }

    fn inside(&mut self, next: char) -> Step {
        self.place = Place::Inside;
        match next {
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Step::Whole;
                }
            }
            '"' => self.place = Place::String { is_escaped: false },
            ' ' | '\t' | '\r' | '\n' | ',' | ':' | '+' | '-' | '.' => {}
            _ if next.is_ascii_alphanumeric() => {}
            _ => return Step::Broken,
        }
        Step::More
    }
}

/// The calls in a text of JSON alone: objects and lists of them, one after the other.
pub(super) fn calls(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    for value in Deserializer::from_str(text).into_iter() {
        match value.ok()? {
            Value::Array(values) => {
                for value in values {
                    calls.push(call(value, tools)?);
                }
            }
            value => calls.push(call(value, tools)?),
        }
    }
    Some(calls)
}

/// A call from `{"name": …, "arguments": {…}}`, with the other names that models use.
fn call(value: Value, tools: &Tools) -> Option<Call> {
    let Value::Object(mut object) = value else {
        return None;
    };
    if let Some(Value::Object(function)) = object.get_mut("function") {
        object = std::mem::take(function);
    }
    let mut names = ["name", "tool_name", "function"].iter();
    let name = names.find_map(|name| object.get(*name)?.as_str())?;
    let name = tools.find(name)?.name.clone();
    let mut names = ["arguments", "parameters"].iter();
    let given = names.find_map(|name| object.remove(*name));
    Some(Call {
        name,
        arguments: arguments(given.unwrap_or_default())?,
    })
}

/// The arguments of a call: an object, one in a string, or nothing.
pub(super) fn arguments(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Null => Some(Map::new()),
        Value::Object(arguments) => Some(arguments),
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

/// The JSON value that a text begins with, and what follows it.
pub(super) fn first(text: &str) -> Option<(Value, &str)> {
    let mut values = Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::{Before, End, Step, arguments, first};
    use serde_json::json;

    /// How many bytes of `text` are JSON with what stands before it; none where it has no end.
    fn end(text: &str, before: Before) -> Option<usize> {
        let mut end = End::new();
        for (at, next) in text.char_indices() {
            match end.step(next, before) {
                Step::More => {}
                Step::Whole => return Some(at + next.len_utf8()),
                Step::Broken => return None,
            }
        }
        None
    }

    #[test]
    fn json_ends_with_its_last_bracket() {
        for whole in [
            "{}",
            " [1, {\"a\": [\"]}\\\"\"]}]",
            "f[ARGS]{\"é\": \"[/x]\", \"b\": -1.5e+3}",
        ] {
            let text = format!("{whole}}} more");
            assert_eq!(end(&text, Before::Name), Some(whole.len()), "{whole}");
        }
        for broken in ["{<", "{\"a\nb\"}", "name\n{}", "{}"] {
            assert_eq!(end(broken, Before::Name).is_some(), broken == "{}");
        }
        assert_eq!(end("print({})", Before::Nothing), None);
        assert_eq!(end("\n{}", Before::Nothing), Some(3));
    }

    #[test]
    fn arguments_may_be_in_a_string() {
        let object = json!({"a": 1});
        for value in [object.clone(), json!(object.to_string())] {
            assert_eq!(arguments(value).map(Into::into), Some(object.clone()));
        }
        for nothing in [json!(null), json!(""), json!({}), json!("{}")] {
            assert_eq!(arguments(nothing).map(|all| all.len()), Some(0));
        }
        for wrong in [json!([]), json!(1), json!("x")] {
            assert_eq!(arguments(wrong), None);
        }
    }

    #[test]
    fn json_in_front_is_told_from_the_rest() {
        assert_eq!(first(" {\"a\": 1}\n```"), Some((json!({"a": 1}), "\n```")));
        assert_eq!(first("\"a\":1"), Some((json!("a"), ":1")));
        assert_eq!(first(&"[".repeat(100_000)), None);
        assert_eq!(first(""), None);
    }
}
