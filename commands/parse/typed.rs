//! Gives the text of an argument the type that the tool's JSON schema wants; knows no model.

use serde_json::Value;

/// How many schemas are looked at for one argument; a schema may name itself.
const SCHEMAS: usize = 64;

/// The argument `name` of a tool that takes `parameters`, written as `text`.
///
/// A string stays what it is, whatever it looks like. Everything else is read as JSON, or as the
/// literals of Python, which some templates write. Of several types the first that is no string and
/// fits is taken. What cannot be read stays a string.
pub(super) fn argument(text: &str, parameters: &Value, name: &str) -> Value {
    let mut kinds = Vec::new();
    if let Some(schema) = parameters.get("properties").and_then(|all| all.get(name)) {
        let mut left = SCHEMAS;
        collect(schema, parameters, &mut left, &mut kinds);
    }
    let mut read = serde_json::from_str(text).ok();
    // Without a type it is not known whether `None` is a word.
    if read.is_none() && !kinds.is_empty() {
        read = from_python(text);
    }
    let is_string = kinds.contains(&"string");
    let fits = |value: &Value| kinds.iter().any(|kind| is(value, kind));
    match read {
        Some(Value::String(_)) if kinds.is_empty() || is_string => text.into(),
        Some(value) if !is_string || fits(&value) => value,
        _ => text.into(),
    }
}

/// Adds the names of the types that a schema allows.
fn collect<'a>(schema: &'a Value, root: &'a Value, left: &mut usize, kinds: &mut Vec<&'a str>) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    match schema.get("type") {
        Some(Value::String(kind)) => kinds.push(kind),
        Some(Value::Array(several)) => kinds.extend(several.iter().filter_map(Value::as_str)),
        _ if schema.get("properties").is_some() => kinds.push("object"),
        _ if schema.get("items").is_some() => kinds.push("array"),
        _ => {
            let listed = schema.get("enum").and_then(Value::as_array);
            let values = listed.into_iter().flatten().chain(schema.get("const"));
            for value in values {
                kinds.push(kind(value));
            }
        }
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        kinds.push("null");
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        let several = schema.get(several).and_then(Value::as_array);
        for schema in several.into_iter().flatten() {
            collect(schema, root, left, kinds);
        }
    }
    let path = schema.get("$ref").and_then(Value::as_str);
    let path = path.and_then(|path| path.strip_prefix('#'));
    if let Some(schema) = path.and_then(|path| root.pointer(path)) {
        collect(schema, root, left, kinds);
    }
}

/// The name of a value's type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match wanted {
        "string" => false,
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => kind(value) == wanted,
    }
}

/// Reads what Python prints for lists, dictionaries and constants.
fn from_python(text: &str) -> Option<Value> {
    let mut json = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next == '\'' || next == '"' {
            rest = string(&rest[1..], next, &mut json)?;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphabetic());
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() {
            json.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            json += match word {
                "True" => "true",
                "False" => "false",
                "None" => "null",
                _ => word,
            };
            rest = after;
        }
    }
    serde_json::from_str(&json).ok()
}

/// Adds a string of Python as one of JSON and hands back what follows the closing quote.
fn string<'a>(text: &'a str, quote: char, json: &mut String) -> Option<&'a str> {
    json.push('"');
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => {
                json.push('"');
                return Some(&text[at + 1..]);
            }
            '"' => *json += "\\\"",
            '\\' => match letters.next()?.1 {
                '\'' => json.push('\''),
                escaped => json.extend(['\\', escaped]),
            },
            _ => json.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::argument;
    use serde_json::{Value, json};

    fn check(schema: &Value, text: &str, wanted: &Value) {
        let parameters = json!({
            "properties": {"x": schema},
            "$defs": {
                "Colour": {"enum": ["red", "green"]},
                "Count": {"type": "integer"},
                "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "boolean"}]},
            },
        });
        assert_eq!(
            &argument(text, &parameters, "x"),
            wanted,
            "{schema} {text:?}"
        );
    }

    #[test]
    fn a_string_stays_a_string() {
        let string = json!({"type": "string"});
        for text in [
            "5", "true", "null", "None", "{}", "\"q\"", "", " a\nb ", "é",
        ] {
            check(&string, text, &json!(text));
        }
        check(&json!({"$ref": "#/$defs/Colour"}), "5", &json!("5"));
    }

    #[test]
    fn what_has_a_type_is_read_and_what_cannot_be_read_is_a_string() {
        let of = |kind: &str| json!({"type": kind});
        check(&of("integer"), "5", &json!(5));
        check(&of("integer"), "five", &json!("five"));
        check(&of("number"), "-1.5e3", &json!(-1500.0));
        check(&of("boolean"), "true", &json!(true));
        check(&of("boolean"), "False", &json!(false));
        check(&of("null"), "null", &json!(null));
        check(&of("array"), " [1, \"a\"]\n", &json!([1, "a"]));
        check(&of("object"), "{\"a\": {", &json!("{\"a\": {"));
        let deep = "[".repeat(100_000);
        check(&of("array"), &deep, &json!(deep));
        check(&json!({"items": {}}), "[1]", &json!([1]));
        check(&json!({"properties": {}}), "{}", &json!({}));
        check(&json!({"$ref": "#/$defs/Count"}), "5", &json!(5));
        check(&json!({"$ref": "#/$defs/Loop"}), "true", &json!(true));
        check(&json!({"const": 1}), "1", &json!(1));
    }

    #[test]
    fn of_several_types_the_one_that_fits_is_taken() {
        let either = json!({"type": ["string", "null"]});
        check(&either, "null", &json!(null));
        check(&either, "5", &json!("5"));
        let either = json!({"anyOf": [{"type": "integer"}, {"type": "string"}]});
        check(&either, "5", &json!(5));
        check(&either, "5.5", &json!("5.5"));
        check(&either, "\"5\"", &json!("\"5\""));
        let nullable = json!({"type": "string", "nullable": true});
        check(&nullable, "null", &json!(null));
    }

    #[test]
    fn without_a_type_everything_but_a_string_is_read() {
        for (text, wanted) in [
            ("5", json!(5)),
            ("[1]", json!([1])),
            ("\"a\"", json!("\"a\"")),
            ("Paris", json!("Paris")),
            ("None", json!("None")),
        ] {
            check(&json!({}), text, &wanted);
            assert_eq!(argument(text, &Value::Null, "x"), wanted);
        }
    }

    #[test]
    fn python_is_read() {
        let object = json!({"type": "object"});
        check(
            &object,
            "{'round': True, 'tags': ['x', 'é', '\"q\"', \"it's\", 'it\\'s'], 'n': None}",
            &json!({"round": true, "tags": ["x", "é", "\"q\"", "it's", "it's"], "n": null}),
        );
        check(&object, "{'a", &json!("{'a"));
        check(&object, "{'a\\", &json!("{'a\\"));
    }
}
