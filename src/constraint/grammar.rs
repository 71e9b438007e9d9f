//! Constraints as grammars, within bounds. Knows nothing of tokens.

use llguidance::JsonCompileOptions;
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use super::Constraint;

/// What may stand between two tokens of JSON. An answer cannot go on for ever with spaces.
const WHITESPACE: &str = r" |\r?\n(?: {0,32}|\t{0,8})";

/// Values in a schema, all levels counted.
const LARGEST_SCHEMA: usize = 10_000;

/// Levels of a schema.
const DEEPEST_SCHEMA: usize = 100;

/// Bytes of a regular expression, a grammar, all choices, or all texts in a schema.
const LONGEST_TEXT: usize = 256 << 10;

/// Digits after the point that a `multipleOf` may have.
const DECIMALS: i32 = 6;

/// The largest common multiple of all `multipleOf` in a schema, in units of the last digit that one of them has:
/// with it the compiler reckons, in 32 bits.
const LARGEST_MULTIPLE: u64 = 100_000_000;

/// Parts of one `allOf` that may have patterns: a text that matches several is found by trying all ways in which it
/// matches each.
const MOST_PATTERNS: usize = 3;

/// Signs of "and" in a grammar, for the same reason. Those in its texts are counted too.
const MOST_INTERSECTIONS: usize = 8;

/// Options that `llguidance` reads out of a schema.
const OPTIONS: &str = "x-guidance";

/// The grammar of the answers that a constraint allows.
pub(super) fn of(constraint: &Constraint) -> Result<TopLevelGrammar, String> {
    match constraint {
        Constraint::JsonObject => {
            let schema = json(json!({ "type": "object" }))?;
            Ok(TopLevelGrammar::from_json_schema(schema))
        }
        Constraint::JsonSchema(schema) => {
            check_size(schema)?;
            Ok(TopLevelGrammar::from_json_schema(json(schema.clone())?))
        }
        Constraint::Framed {
            before,
            schema,
            after,
        } => {
            check_size(schema)?;
            check_length(before.len() + after.len())?;
            // The form of Lark has no empty texts.
            let literal = |text: &str| match text {
                "" => String::new(),
                text => json!(text).to_string(),
            };
            let schema = json(schema.clone())?;
            Ok(TopLevelGrammar::from_lark(format!(
                "start: {} value {}\nvalue: %json {schema}\n",
                literal(before),
                literal(after),
            )))
        }
        Constraint::Regex(regex) => {
            check_length(regex.len())?;
            let slashes = regex.bytes().rev().take_while(|byte| *byte == b'\\');
            if regex.is_empty() || slashes.count() % 2 == 1 {
                return Err("it is not complete".to_owned());
            }
            Ok(TopLevelGrammar::from_regex(regex))
        }
        Constraint::Lark(grammar) => {
            check_length(grammar.len())?;
            if grammar.matches('&').count() > MOST_INTERSECTIONS {
                return Err(format!("it holds `&` more than {MOST_INTERSECTIONS} times"));
            }
            Ok(TopLevelGrammar::from_lark(grammar.clone()))
        }
        Constraint::Choices(choices) => {
            check_length(choices.iter().map(String::len).sum())?;
            if choices.is_empty() || choices.iter().any(String::is_empty) {
                return Err("it is empty, or one of them is".to_owned());
            }
            let quoted = choices.iter().map(|choice| json!(choice).to_string());
            let quoted: Vec<String> = quoted.collect();
            Ok(TopLevelGrammar::from_lark(format!(
                "start: CHOICE\nCHOICE: {}\n",
                quoted.join(" | ")
            )))
        }
    }
}

/// A schema with what may stand between tokens.
fn json(schema: Value) -> Result<Value, String> {
    let mut schema = match schema {
        Value::Object(schema) if schema.contains_key(OPTIONS) => {
            return Err(format!("`{OPTIONS}` is not a part of JSON Schema"));
        }
        Value::Object(_) => schema,
        Value::Bool(true) => Value::Object(Map::new()),
        Value::Bool(false) => return Err("`false` allows nothing".to_owned()),
        _ => return Err("it is not an object".to_owned()),
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITESPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(schema)
}

fn check_size(schema: &Value) -> Result<(), String> {
    let (mut values, mut bytes, mut factors) = (0, 0, Vec::new());
    let mut left = vec![(schema, 1)];
    while let Some((value, depth)) = left.pop() {
        values += 1;
        if depth > DEEPEST_SCHEMA {
            return Err(format!("it is more than {DEEPEST_SCHEMA} levels deep"));
        }
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                factors.extend(fields.get("multipleOf").and_then(Value::as_f64));
                bytes += fields.keys().map(String::len).sum::<usize>();
                left.extend(fields.values().map(|value| (value, depth + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    if values > LARGEST_SCHEMA {
        return Err(format!(
            "it holds {values} values, more than {LARGEST_SCHEMA}"
        ));
    }
    check_length(bytes)?;
    check_multiples(&factors)?;
    check_patterns(schema, has_patterns(schema))
}

fn check_multiples(factors: &[f64]) -> Result<(), String> {
    // Whole numbers of units of 10 to the minus `decimals`, if they are.
    let scaled = |decimals: i32| {
        let whole = |factor: &f64| {
            let scaled = factor * 10f64.powi(decimals);
            let whole = scaled.round();
            let is_whole = (scaled - whole).abs() <= 1e-9 * whole && (1.0..1e15).contains(&whole);
            is_whole.then_some(whole as u64)
        };
        factors.iter().map(whole).collect::<Option<Vec<u64>>>()
    };
    let Some(factors) = (0..=DECIMALS).find_map(scaled) else {
        return Err(format!(
            "a `multipleOf` is too large or has more than {DECIMALS} decimals"
        ));
    };
    let common = factors.iter().fold(1, |common: u64, &factor| {
        common.saturating_mul(factor / common_divisor(common, factor))
    });
    if common > LARGEST_MULTIPLE {
        return Err("its `multipleOf` are too large".to_owned());
    }
    Ok(())
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Refuses what asks for texts that match many patterns. `everywhere` says whether there are any, to which a
/// reference may lead.
fn check_patterns(schema: &Value, everywhere: bool) -> Result<(), String> {
    let inner: Box<dyn Iterator<Item = &Value>> = match schema {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => {
            let parts = fields.get("allOf").and_then(Value::as_array);
            let parts = parts.map_or(&[][..], Vec::as_slice).iter();
            let matching =
                parts.filter(|part| has_patterns(part) || everywhere && part.get("$ref").is_some());
            if matching.count() > MOST_PATTERNS {
                return Err(format!(
                    "more than {MOST_PATTERNS} parts of an `allOf` have patterns"
                ));
            }
            Box::new(fields.values())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Ok(()),
    };
    for value in inner {
        check_patterns(value, everywhere)?;
    }
    Ok(())
}

/// Whether there is a pattern anywhere in a schema.
fn has_patterns(schema: &Value) -> bool {
    match schema {
        Value::Array(items) => items.iter().any(has_patterns),
        Value::Object(fields) => {
            let is_pattern = |key: &str| ["pattern", "format", "patternProperties"].contains(&key);
            let mut fields = fields.iter();
            fields.any(|(key, value)| is_pattern(key) || has_patterns(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn check_length(bytes: usize) -> Result<(), String> {
    if bytes > LONGEST_TEXT {
        return Err(format!(
            "it is {bytes} bytes long, more than {LONGEST_TEXT}"
        ));
    }
    Ok(())
}
