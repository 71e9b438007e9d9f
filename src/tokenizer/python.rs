//! What chat templates find in Python's renderer and not in minijinja. Knows nothing of chats.

use std::fmt;

use jiff::civil::DateTime;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// An error that a template raised on purpose; its words are meant for the user.
#[derive(Debug)]
pub(super) struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Filters, functions and methods for templates written for Python.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", raise_exception);
    environment
}

/// `datetime.strftime` of a time without a zone. Unknown directives stay as they are.
pub(super) fn strftime(time: DateTime, format: &str) -> Result<String, Error> {
    let mut text = String::new();
    BrokenDownTime::from(time)
        .format_with_config(&Config::new().lenient(true), format, &mut text)
        .map_err(|error| invalid(error.to_string()))?;
    Ok(text)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(invalid("raised by the template").with_source(Raised(message)))
}

fn invalid(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// `json.dumps`, with Python's separators and without HTML escapes.
fn to_json(state: &State<'_, '_>, value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = arguments.get("indent")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match (indent.as_str(), indent.as_i64()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(count)) => " ".repeat(usize::try_from(count).unwrap_or(0).min(MAX_INDENT)),
            (None, None) => return Err(invalid("tojson: `indent` is neither number nor text")),
        }),
    };
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

/// Spaces of one `indent` at most.
const MAX_INDENT: usize = 64;

/// How deep `tojson` follows a value; Python gives up at a depth of the same order.
const MAX_DEPTH: usize = 900;

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
    fn write(&mut self, value: &Value) -> Result<(), Error> {
        // A value that contains another one many times is small in memory and long in JSON.
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all('[', ']', items, |json, item| json.write(&item))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_all('{', '}', keys, |json, key| {
                    json.write_key(&key)?;
                    json.write(&value.get_item(&key)?)
                })?;
            }
            kind => return Err(invalid(format!("an {kind} value has no JSON form"))),
        }
        Ok(())
    }

    fn write_all(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(invalid("the value is nested too deep for JSON"));
        }
        self.text.push(open);
        self.depth += 1;
        let empty = items.is_empty();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(&self.item);
            }
            self.break_line()?;
            write(self, item)?;
        }
        self.depth -= 1;
        if !empty {
            self.break_line()?;
        }
        self.text.push(close);
        Ok(())
    }

    fn break_line(&mut self) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            let margin = indent.repeat(self.depth);
            self.state.consume_fuel(margin.len() as u64 / 64)?;
            self.text.push('\n');
            self.text.push_str(&margin);
        }
        Ok(())
    }

    /// Keys are texts; Python makes them so.
    fn write_key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.write(key)?,
            ValueKind::Bool | ValueKind::Number | ValueKind::None => {
                self.text.push('"');
                self.write(key)?;
                self.text.push('"');
            }
            kind => return Err(invalid(format!("a {kind} cannot be a key in JSON"))),
        }
        self.text.push_str(&self.key);
        Ok(())
    }

    fn write_text(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 64)?;
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ascii {
            self.text.push_str(&quoted);
            return Ok(());
        }
        for character in quoted.chars() {
            if character.is_ascii() {
                self.text.push(character);
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    self.text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        Ok(())
    }
}

/// A number as Python writes it: a float always shows that it is one.
fn number(value: &Value) -> String {
    let Some(float) = f64::try_from(value.clone())
        .ok()
        .filter(|_| !value.is_integer())
    else {
        return value.to_string();
    };
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes 1e-5 and 1e16 where Python writes 1e-05 and 1e+16.
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{float:?}")
}

/// Methods of Python's values: those that minijinja's own collection lacks, then the collection.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, arguments);
    };
    let triple = |parts: [&str; 3]| Ok(parts.into_iter().map(Value::from).collect());
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            triple(match text.split_once(separator) {
                Some((before, after)) => [before, separator, after],
                None => [text, "", ""],
            })
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            triple(match text.rsplit_once(separator) {
                Some((before, after)) => [before, separator, after],
                None => ["", "", text],
            })
        }
        "rsplit" => {
            let (separator, count): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            Ok(split_from_end(text, separator, count)
                .into_iter()
                .map(Value::from)
                .collect())
        }
        _ => unknown_method_callback(state, value, name, arguments),
    }
}

/// `str.rsplit`: `count` splits at most, counted from the end.
fn split_from_end<'a>(
    text: &'a str,
    separator: Option<&str>,
    count: Option<usize>,
) -> Vec<&'a str> {
    let limit = count.map_or(usize::MAX, |count| count.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(limit, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim();
            while !rest.is_empty() && parts.len() + 1 < limit {
                let Some(space) = rest.rfind(char::is_whitespace) else {
                    break;
                };
                let (before, word) = rest.split_at(space);
                parts.push(word.trim_start());
                rest = before.trim_end();
            }
            parts.extend((!rest.is_empty()).then_some(rest));
            parts
        }
    };
    parts.reverse();
    parts
}
