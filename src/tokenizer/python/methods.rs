//! Methods of Python's texts, lists and mappings: those that minijinja's collection lacks or does
//! not bound, then that collection.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{charge, invalid};

/// Digits that a width in `str.format` may have.
const MAX_WIDTH_DIGITS: usize = 4;

/// Bytes of the longest character in UTF-8.
const MAX_CHARACTER_BYTES: usize = 4;

/// Called for every method that a value does not have by itself.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let result = match (value.kind(), value.as_str()) {
        (_, Some(text)) => text_method(state, text, name, arguments),
        (ValueKind::Seq, _) if name == "index" => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let position = value.try_iter()?.position(|item| item == *wanted);
            position
                .map(Value::from)
                .ok_or_else(|| invalid(format!("{wanted} is not in the list")))
        }
        (ValueKind::Map, _) if name == "copy" => {
            let () = from_args(arguments)?;
            Ok(value.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    };
    match result {
        Err(error) if error.kind() == ErrorKind::UnknownMethod => {
            unknown_method_callback(state, value, name, arguments)
        }
        result => result,
    }
}

fn text_method(
    state: &State<'_, '_>,
    text: &str,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match name {
        "casefold" | "swapcase" => {
            let () = from_args(arguments)?;
            let swapped = || text.chars().flat_map(swap_case).collect();
            Ok(Value::from(if name == "casefold" {
                text.to_lowercase()
            } else {
                swapped()
            }))
        }
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            let at = if name == "index" {
                text.find(wanted)
            } else {
                text.rfind(wanted)
            };
            let at = at.ok_or_else(|| invalid("substring not found"))?;
            Ok(Value::from(text[..at].chars().count()))
        }
        "ljust" | "rjust" | "center" | "zfill" => padded(state, text, name, arguments),
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let parts = if name == "partition" {
                text.split_once(separator)
                    .map_or([text, "", ""], |(a, b)| [a, separator, b])
            } else {
                text.rsplit_once(separator)
                    .map_or(["", "", text], |(a, b)| [a, separator, b])
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "split" | "rsplit" => split(text, name, arguments),
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(arguments)?;
            let keep = keep.or(named.get("keepends")?);
            named.assert_all_used()?;
            let lines = text.split_inclusive('\n').map(|line| match keep {
                Some(true) => line,
                _ => line
                    .strip_suffix('\n')
                    .map_or(line, |line| line.trim_end_matches('\r')),
            });
            Ok(lines.map(Value::from).collect())
        }
        // The collection does these; their result is paid for before it is made.
        "replace" => {
            let (old, new, _): (&str, &str, Option<i64>) = from_args(arguments)?;
            charge(state, text.matches(old).count().saturating_mul(new.len()))?;
            Err(Error::from(ErrorKind::UnknownMethod))
        }
        "join" => {
            let (values,): (&Value,) = from_args(arguments)?;
            charge(state, values.len().unwrap_or(0).saturating_mul(text.len()))?;
            Err(Error::from(ErrorKind::UnknownMethod))
        }
        "format" => {
            let mut numbers = text.split(|character: char| !character.is_ascii_digit());
            if numbers.any(|digits| digits.len() > MAX_WIDTH_DIGITS) {
                return Err(invalid("format: a width is too large"));
            }
            Err(Error::from(ErrorKind::UnknownMethod))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn swap_case(character: char) -> Vec<char> {
    if character.is_uppercase() {
        character.to_lowercase().collect()
    } else {
        character.to_uppercase().collect()
    }
}

fn padded(
    state: &State<'_, '_>,
    text: &str,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let (width, fill): (i64, Option<char>) = from_args(arguments)?;
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    charge(state, missing.saturating_mul(MAX_CHARACTER_BYTES))?;
    if name == "zfill" {
        let digits = text.trim_start_matches(['-', '+']);
        let sign = &text[..text.len() - digits.len()];
        return Ok(Value::from(format!(
            "{sign}{}{digits}",
            "0".repeat(missing)
        )));
    }
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // Where it cannot be even, Python puts the odd one left in odd widths.
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| fill.unwrap_or(' ').to_string().repeat(count);
    Ok(Value::from(format!(
        "{}{text}{}",
        fill(left),
        fill(missing - left)
    )))
}

/// `str.split` and `str.rsplit`: at most `maxsplit` splits, from either end.
fn split(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (given, named): (Rest<Value>, Kwargs) = from_args(arguments)?;
    let argument = |index: usize, name: &str| match given.get(index) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let separator = argument(0, "sep")?.filter(|value| !value.is_none());
    let most = argument(1, "maxsplit")?;
    named.assert_all_used()?;
    if given.len() > 2 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let most = most
        .map(i64::try_from)
        .transpose()?
        .and_then(|most| usize::try_from(most).ok());
    let parts = most.map_or(usize::MAX, |most| most.saturating_add(1));

    let from_end = name == "rsplit";
    let Some(separator) = separator else {
        return Ok(split_at_spaces(text, parts, from_end)
            .into_iter()
            .map(Value::from)
            .collect());
    };
    let separator = separator
        .as_str()
        .ok_or_else(|| invalid("the separator is not a text"))?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    if from_end {
        let mut parts: Vec<&str> = text.rsplitn(parts, separator).collect();
        parts.reverse();
        return Ok(parts.into_iter().map(Value::from).collect());
    }
    Ok(text.splitn(parts, separator).map(Value::from).collect())
}

/// Splits at runs of white space, of which those at the ends separate nothing.
fn split_at_spaces(text: &str, parts: usize, from_end: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = if from_end {
        text.trim_end()
    } else {
        text.trim_start()
    };
    while !rest.trim().is_empty() {
        if words.len() + 1 >= parts {
            words.push(rest);
            break;
        }
        let (word, remaining) = if from_end {
            let end = rest.trim_end_matches(|character: char| !character.is_whitespace());
            (&rest[end.len()..], end.trim_end())
        } else {
            let start = rest.trim_start_matches(|character: char| !character.is_whitespace());
            (&rest[..rest.len() - start.len()], start.trim_start())
        };
        words.push(word);
        rest = remaining;
    }
    if from_end {
        words.reverse();
    }
    words
}
