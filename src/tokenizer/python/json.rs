//! `json.dumps` as a filter: Python's spelling of JSON, to the character.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, State, Value};

use super::{charge, invalid, number};

/// Spaces of one `indent` at most.
const MAX_INDENT: usize = 64;

/// How deep a value is followed; Python gives up at a depth of the same order.
const MAX_DEPTH: usize = 900;

/// The filter: Python's separators, no HTML escapes, and the arguments that transformers allows.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja's signature of a filter"
)]
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    arguments: Kwargs,
) -> Result<String, Error> {
    let indent = match arguments.get::<Option<Value>>("indent")? {
        Some(indent) if !indent.is_none() => Some(margin(&indent)?),
        _ => None,
    };
    let separators = arguments.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson: `separators` are not two")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut json = Json {
        state,
        text: String::new(),
        ascii: arguments
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
        sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item,
        key,
        depth: 0,
    };
    arguments.assert_all_used()?;
    json.write(value)?;
    Ok(json.text)
}

/// The text that `indent` puts before a line at each level: itself, or so many spaces.
fn margin(indent: &Value) -> Result<String, Error> {
    if let Some(text) = indent.as_str() {
        return Ok(text.to_owned());
    }
    let spaces = indent
        .as_i64()
        .ok_or_else(|| invalid("tojson: `indent` is not a number"))?;
    match usize::try_from(spaces) {
        Ok(spaces) if spaces <= MAX_INDENT => Ok(" ".repeat(spaces)),
        Ok(_) => Err(invalid("tojson: `indent` is too large")),
        Err(_) => Ok(String::new()),
    }
}

struct Json<'a> {
    state: &'a State<'a, 'a>,
    text: String,
    ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
    depth: usize,
}

impl Json<'_> {
    /// Adds to the text. A value that contains another one many times is small in memory and long
    /// in JSON, so each piece is paid for before it is written.
    fn push(&mut self, piece: &str) -> Result<(), Error> {
        charge(self.state, piece.len())?;
        self.text.push_str(piece);
        Ok(())
    }

    fn write(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all(["[", "]"], &items, Self::write)
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_all(["{", "}"], &keys, |json, key| {
                    json.write_key(key)?;
                    json.write(&value.get_item(key)?)
                })
            }
            kind => Err(invalid(format!("an {kind} value has no JSON form"))),
        }
    }

    fn write_all(
        &mut self,
        [open, close]: [&str; 2],
        items: &[Value],
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(invalid("the value is nested too deep for JSON"));
        }
        self.push(open)?;
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(&self.item.clone())?;
            }
            self.break_line()?;
            write(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.break_line()?;
        }
        self.push(close)
    }

    fn break_line(&mut self) -> Result<(), Error> {
        let Some(indent) = self.indent.clone() else {
            return Ok(());
        };
        self.push("\n")?;
        (0..self.depth).try_for_each(|_| self.push(&indent))
    }

    /// Keys are texts; Python makes them so.
    fn write_key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.write(key)?,
            ValueKind::Bool | ValueKind::Number | ValueKind::None => {
                self.push("\"")?;
                self.write(key)?;
                self.push("\"")?;
            }
            kind => return Err(invalid(format!("a {kind} cannot be a key in JSON"))),
        }
        self.push(&self.key.clone())
    }

    fn write_text(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ascii {
            return self.push(&quoted);
        }
        let mut escaped = String::with_capacity(quoted.len());
        for character in quoted.chars() {
            if character.is_ascii() {
                escaped.push(character);
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a text cannot fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
        self.push(&escaped)
    }
}
