//! What chat templates find in Python's renderer and not in minijinja. Knows nothing of chats.

mod json;
mod methods;

use std::borrow::Cow;
use std::fmt;

use jiff::civil::DateTime;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::globals;

/// An error that a template raised on purpose; its words are meant for the user.
#[derive(Debug)]
pub(super) struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Filters, tests, functions and methods for templates written for Python.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    minijinja_contrib::add_to_environment(&mut environment);
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", json::to_json);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(write);
    // Neither is Python's, and their work is not counted as steps.
    environment.remove_global("debug");
    environment.remove_filter("pprint");
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

/// Unlike minijinja's test: nothing comes out of `None`.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Unlike minijinja's test: in Python, texts and mappings have a length and items too.
fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Bytes, Map, Seq, String, Undefined};
    matches!(value.kind(), Bytes | Map | Seq | String | Undefined)
}

/// What `{{ value }}` writes.
fn write(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number => Ok(output.write_str(&number(value))?),
        _ => escape_formatter(output, state, value),
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
    if float == 0.0 || (1e-4..1e16).contains(&float.abs()) {
        return format!("{float:?}");
    }
    // Rust writes 1e-5 and 1e16 where Python writes 1e-05 and 1e+16.
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Pays for `bytes` of data that are about to be made, at the rate at which minijinja charges.
fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    const BYTES_PER_STEP: u64 = 64;
    state.consume_fuel(1 + bytes as u64 / BYTES_PER_STEP)
}

fn invalid(problem: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}
