//! Random schemas: whatever is chosen among the tokens that may come, the answer ends, is JSON, and is valid.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

/// Tokens in which any answer to a schema below ends.
const LIMIT: usize = 3000;

/// Whether a text is one that a pattern describes.
type Judge = fn(&str) -> bool;

/// Patterns, and what they describe as code.
const PATTERNS: [(&str, Judge); 4] = [
    ("^[A-Z]{2}-[0-9]{3}$", |text| {
        let bytes = text.as_bytes();
        let [a, b, b'-', digits @ ..] = bytes else {
            return false;
        };
        let is_upper = a.is_ascii_uppercase() && b.is_ascii_uppercase();
        is_upper && digits.len() == 3 && digits.iter().all(u8::is_ascii_digit)
    }),
    ("^(yes|no|é+)$", |text| {
        ["yes", "no"].contains(&text) || !text.is_empty() && text.chars().all(|c| c == 'é')
    }),
    // Anywhere in a text: one that a walk comes upon soon, since what it may choose beside it has no end.
    ("[a-z]{2}", |text| {
        let is_lower = |pair: &[u8]| pair.iter().all(u8::is_ascii_lowercase);
        text.as_bytes().windows(2).any(is_lower)
    }),
    ("^\\d\\w?$", |text| {
        let mut chars = text.chars();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        chars.next().is_some_and(|c| c.is_ascii_digit())
            && chars.next().is_none_or(is_word)
            && chars.next().is_none()
    }),
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        (-1000i64..1000).prop_map(|n| json!(n as f64 / 8.0)),
        "[a-zA-Zé\"\\\\/\n€ ]{0,8}".prop_map(Value::from),
    ]
}

fn constant() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => scalar(),
        1 => prop::collection::vec(scalar(), 0..3).prop_map(Value::from),
        1 => prop::collection::btree_map("[a-c]", scalar(), 0..3).prop_map(|map| json!(map)),
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    let bounds = || (-200i64..200, 0i64..300);
    prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "integer"})),
        Just(json!({"type": ["string", "null"], "maxLength": 3})),
        bounds().prop_map(|(low, width)| json!({"type": "integer", "minimum": low, "maximum": low + width})),
        bounds().prop_map(|(low, width)| {
            json!({"type": "number", "minimum": low as f64 / 4.0, "maximum": (low + width) as f64 / 4.0})
        }),
        (0usize..4, 0usize..9).prop_map(|(least, more)| {
            json!({"type": "string", "minLength": least, "maxLength": least + more})
        }),
        (0..PATTERNS.len()).prop_map(|index| json!({"type": "string", "pattern": PATTERNS[index].0})),
        prop::collection::vec(constant(), 1..6).prop_map(|values| json!({"enum": values})),
        constant().prop_map(|value| json!({"const": value})),
    ]
}

fn schemas() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let names = subsequence(vec!["a", "b", "long name", "é\"", "e"], 0..5);
        let object = names.prop_flat_map({
            let inner = inner.clone();
            move |names| {
                let count = names.len();
                let required = subsequence(names.clone(), 0..=count);
                let more = prop_oneof![3 => Just(json!(false)), 1 => inner.clone()];
                (
                    Just(names),
                    prop::collection::vec(inner.clone(), count),
                    required,
                    more,
                )
            }
        });
        let object = object.prop_map(|(names, schemas, required, more)| {
            let properties: serde_json::Map<String, Value> =
                names.into_iter().map(str::to_owned).zip(schemas).collect();
            json!({
                "type": "object", "properties": properties, "required": required,
                "additionalProperties": more,
            })
        });
        let array = (inner.clone(), 0usize..3, 0usize..4).prop_map(|(items, least, more)| {
            json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
        });
        let any_of =
            prop::collection::vec(inner, 1..4).prop_map(|options| json!({"anyOf": options}));
        prop_oneof![3 => object, 2 => array, 1 => any_of]
    })
}

/// Whether two values are the same: 1 and 1.0 are.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let has = |(key, value): (&String, &Value)| {
                b.get(key).is_some_and(|other| is_same(value, other))
            };
            a.len() == b.len() && a.iter().all(has)
        }
        _ => a == b,
    }
}

/// Whether a value is one that a schema describes, of those made above.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema == &json!(true);
    };
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let within = |size: f64, least: &str, most: &str| {
        number(least).is_none_or(|bound| size >= bound)
            && number(most).is_none_or(|bound| size <= bound)
    };
    let is_type = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    };
    let holds = match value {
        Value::Number(number) => within(number.as_f64().unwrap(), "minimum", "maximum"),
        Value::String(text) => {
            let pattern = schema.get("pattern").and_then(Value::as_str);
            let pattern = PATTERNS.iter().find(|(source, _)| Some(*source) == pattern);
            let length = text.chars().count() as f64;
            within(length, "minLength", "maxLength")
                && pattern.is_none_or(|(_, matches)| matches(text))
        }
        Value::Array(items) => {
            let item = schema.get("items");
            within(items.len() as f64, "minItems", "maxItems")
                && items
                    .iter()
                    .all(|value| item.is_none_or(|schema| is_valid(schema, value)))
        }
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array);
            let has = |name: &Value| fields.contains_key(name.as_str().unwrap());
            let field = |(name, value): (&String, &Value)| {
                let own = schema
                    .get("properties")
                    .and_then(|properties| properties.get(name));
                let own = own.or(schema.get("additionalProperties"));
                own.is_none_or(|schema| is_valid(schema, value))
            };
            required.is_none_or(|names| names.iter().all(has)) && fields.iter().all(field)
        }
        Value::Null | Value::Bool(_) => true,
    };
    let same = |other: &Value| is_same(other, value);
    holds
        && match schema.get("type") {
            Some(Value::String(name)) => is_type(name),
            Some(Value::Array(names)) => names.iter().any(|name| is_type(name.as_str().unwrap())),
            _ => true,
        }
        && schema.get("const").is_none_or(same)
        && schema
            .get("enum")
            .is_none_or(|values| values.as_array().unwrap().iter().any(same))
        && schema.get("anyOf").is_none_or(|options| {
            options
                .as_array()
                .unwrap()
                .iter()
                .any(|schema| is_valid(schema, value))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn every_answer_ends_and_is_valid(schema in schemas(), seed: u64) {
        let mut guide = GRAMMARS.guide(&Constraint::JsonSchema(schema.clone()), None).unwrap();
        let answer = Walk { state: seed }.answer(&mut guide, LIMIT);
        let answer = String::from_utf8(answer.expect("the answer ends")).unwrap();
        let value: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        prop_assert!(is_valid(&schema, &value), "{answer} for {schema}");
    }
}

#[test]
fn the_judge_knows_wrong_from_right() {
    let schema = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": {"type": "array", "items": {"type": "integer", "maximum": 3}, "maxItems": 2},
            "b": {"anyOf": [{"const": 1}, {"type": "string", "pattern": PATTERNS[2].0, "maxLength": 3}]},
        },
    });
    for value in [
        json!({"a": []}),
        json!({"a": [3, -1], "b": 1}),
        json!({"a": [], "b": "abb"}),
    ] {
        assert!(is_valid(&schema, &value), "{value}");
    }
    for value in [
        json!({}),
        json!([]),
        json!({"a": [4]}),
        json!({"a": [0.5]}),
        json!({"a": [1, 1, 1]}),
        json!({"a": null}),
        json!({"a": [], "b": 2}),
        json!({"a": [], "b": "a1b"}),
        json!({"a": [], "b": "bbbb"}),
        json!({"a": [], "c": 1}),
    ] {
        assert!(!is_valid(&schema, &value), "{value}");
    }
}
