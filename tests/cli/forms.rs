//! Answers that must look like something, from the built-in model, which knows stories and no JSON.

use serde_json::{Value, json};

use crate::support::{Sealed, ended, mlxr, mlxr_with};

const QUESTION: &str = "Tell me about a whale";

/// The answer along a schema, read.
fn along(schema: &Value, seed: u64) -> Value {
    let (schema, seed) = (schema.to_string(), seed.to_string());
    let flags = ["run", "-q", "-t", "1", "--seed", &seed, "--schema", &schema];
    let text = mlxr(&[&flags[..], &[QUESTION]].concat()).check(0, "");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn an_answer_is_json_of_its_schema() {
    let whale = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 1, "maximum": 99},
            "color": {"enum": ["blue", "gray", null]},
        },
        "required": ["name", "age", "color"],
        "additionalProperties": false,
    });
    let list = json!({
        "type": "array", "minItems": 2, "maxItems": 3,
        "items": {"anyOf": [{"const": "a \"quoted\" word"}, {"type": "boolean"}, {"$ref": "#/$defs/code"}]},
        "$defs": {"code": {"type": "string", "pattern": "^[A-Z]{3}$"}},
    });
    for seed in 1..=4 {
        let value = along(&whale, seed);
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "age", "color"]);
        let name = value["name"].as_str().unwrap().chars().count();
        assert!((1..=12).contains(&name), "{value}");
        assert!(
            (1..=99).contains(&value["age"].as_u64().unwrap()),
            "{value}"
        );
        assert!(
            ["blue", "gray"].map(Value::from).contains(&value["color"]) || value["color"].is_null()
        );

        let value = along(&list, seed);
        let items = value.as_array().unwrap();
        assert!((2..=3).contains(&items.len()), "{value}");
        for item in items {
            let is_code =
                |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
            let is_text = |text| text == "a \"quoted\" word" || is_code(text);
            assert!(
                item.is_boolean() || item.as_str().is_some_and(is_text),
                "{value}"
            );
        }
    }
}

#[test]
fn a_schema_may_be_in_a_file() {
    let home = Sealed::new();
    std::fs::write(home.path("form.json"), r#"{"const": {"a": [1, "b"]}}"#).unwrap();
    let flags = ["run", "-q", "--schema", "form.json", QUESTION];
    let text = ended(&mut home.command(&flags)).check(0, "");
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({"a": [1, "b"]})
    );
}

#[test]
fn an_answer_is_one_of_its_choices() {
    for seed in ["1", "2", "3"] {
        let flags = [
            "run",
            "-q",
            "-t",
            "2",
            "--seed",
            seed,
            "--choices",
            "red, green,very blue",
        ];
        let text = mlxr(&[&flags[..], &["What color is it?"]].concat()).check(0, "");
        assert!(
            ["red\n", "green\n", "very blue\n"].contains(&text.as_str()),
            "{text:?}"
        );
    }
    // The words of the prompt are nothing to choose among.
    let raw = mlxr(&["run", "-q", "--raw", "--choices", "only this", QUESTION]).check(0, "");
    assert_eq!(raw, "only this\n");
}

#[test]
fn requests_say_what_their_answers_look_like() {
    let input = [
        json!({"prompt": QUESTION, "choices": ["yes, or no", "maybe"]}),
        json!({"prompt": QUESTION, "schema": {"type": "boolean"}}),
        json!({"prompt": QUESTION, "choices": ["a"], "schema": true}),
        json!({"prompt": QUESTION, "schema": {"type": "string", "not": {"const": "a"}}}),
        json!({"prompt": QUESTION}),
        json!({"prompt": QUESTION, "max_tokens": 2, "schema": {"type": "string", "minLength": 100}}),
    ];
    let input = input.map(|row| row.to_string()).join("\n");
    let ended = mlxr_with(input, &["run", "--jsonl", "--choices", "of the flags"]);
    let rows = ended.rows();
    let text = |row: usize| rows[row]["text"].as_str().unwrap_or_default();
    let message = |row: usize| rows[row]["error"]["message"].as_str().unwrap_or_default();
    assert!(["yes, or no", "maybe"].contains(&text(0)), "{ended:?}");
    assert_eq!(rows[0]["finish"], "complete");
    assert!(["true", "false"].contains(&text(1)), "{ended:?}");
    assert_eq!(message(2), "choices: given together with `schema`");
    assert!(message(3).contains("\"not\""), "{ended:?}");
    assert_eq!(text(4), "of the flags");
    assert_eq!(
        (&rows[5]["finish"], text(5).starts_with('"')),
        (&json!("length"), true)
    );
    assert_eq!(ended.code, Some(2));
}

#[test]
fn what_cannot_be_followed_is_refused_before_anything_is_answered() {
    let refused = |flags: &[&str]| mlxr(&[&["run"], flags, &[QUESTION]].concat());
    refused(&["--schema", "{\"uniqueItems\": true}"]).fails(2, "uniqueItems");
    refused(&["--schema", "{\"type\": "]).fails(2, "schema: not JSON");
    refused(&["--schema", "no/such/file"]).fails(6, "no/such/file");
    let both = refused(&["--schema", "{}", "--choices", "a,b"]);
    assert_eq!((both.code, both.stdout.as_str()), (Some(2), ""), "{both:?}");
    assert!(both.stderr.contains("cannot be used with"), "{both:?}");
    let empty = refused(&["--choices", "a,,b"]);
    assert!(
        empty.code == Some(2) && empty.stderr.contains("empty"),
        "{empty:?}"
    );
}
