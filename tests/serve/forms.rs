//! Answers that must look like something, and tools that must be called.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, copy_of_stories};

/// A template that tells of tools, as a family does that calls with JSON between tags.
const TEMPLATE: &str = "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\n' + message.content }}\
    {% for call in message.tool_calls %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The built-in model with that template.
fn caller() -> (TempDir, Server) {
    let (folder, model) = copy_of_stories("caller");
    fs::write(model.join("chat_template.jinja"), TEMPLATE).unwrap();
    let server = Server::new(&["-m", model.to_str().unwrap()]);
    (folder, server)
}

fn chat(fields: &Value) -> Value {
    let mut asked = json!({
        "messages": [{"role": "user", "content": "Say something"}],
        "max_tokens": 200,
        "seed": 3,
    });
    for (name, value) in fields.as_object().unwrap() {
        asked[name] = value.clone();
    }
    asked
}

/// What an animal is.
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "legs": {"type": "integer", "minimum": 0, "maximum": 8},
            "kind": {"enum": ["cat", "dog"]},
        },
        "required": ["name", "legs", "kind"],
        "additionalProperties": false,
    })
}

#[track_caller]
fn check_animal(text: &Value) {
    let animal: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert!(animal["legs"].as_u64().unwrap() <= 8, "{animal}");
    assert!(
        ["cat", "dog"].contains(&animal["kind"].as_str().unwrap()),
        "{animal}"
    );
    assert!(
        animal["name"].as_str().unwrap().chars().count() <= 12,
        "{animal}"
    );
}

#[test]
fn every_dialect_gets_the_form_that_it_asks_for() {
    let server = Server::new(&[]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "animal", "strict": true, "schema": schema()}});
    let told = server
        .post(
            "/v1/chat/completions",
            &chat(&json!({"response_format": format})),
        )
        .json();
    assert_eq!(told["choices"][0]["finish_reason"], "stop");
    check_animal(&told["choices"][0]["message"]["content"]);

    let format = json!({"format": {"type": "json_schema", "name": "animal", "schema": schema()}});
    let asked = json!({"model": "stories", "input": "An animal", "text": format});
    let told = server.post("/v1/responses", &asked).json();
    assert_eq!(told["status"], "completed");
    check_animal(&told["output"][0]["content"][0]["text"]);
    assert_eq!(told["text"], format);

    let asked = json!({"max_tokens": 200, "messages": [{"role": "user", "content": "An animal"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema()}}});
    let told = server.post("/v1/messages", &asked).json();
    assert_eq!(told["stop_reason"], "end_turn");
    check_animal(&told["content"][0]["text"]);

    let asked = json!({"model": "stories", "stream": false, "format": schema(),
        "messages": [{"role": "user", "content": "An animal"}]});
    let told = server.post("/api/chat", &asked).json();
    assert_eq!(told["done_reason"], "stop");
    check_animal(&told["message"]["content"]);
}

#[test]
fn words_expressions_and_grammars_are_followed() {
    let server = Server::new(&[]);
    let ask = |outputs: Value| {
        let asked = chat(&json!({"structured_outputs": outputs}));
        let told = server.post("/v1/chat/completions", &asked).json();
        told["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(["red", "green"].contains(&ask(json!({"choice": ["red", "green"]})).as_str()));
    let number = ask(json!({"regex": "[0-9]{3}-[0-9]{2}"}));
    assert_eq!((number.len(), &number[3..4]), (6, "-"));
    let sum = ask(json!({"grammar": "start: NUMBER \"+\" NUMBER\nNUMBER: /[1-9]/\n"}));
    assert_eq!((sum.len(), &sum[1..2]), (3, "+"));
    let object = server
        .post(
            "/v1/chat/completions",
            &chat(&json!({"response_format": {"type": "json_object"}, "max_tokens": 1500})),
        )
        .json();
    let choice = &object["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(
        choice["finish_reason"] == "length"
            || serde_json::from_str::<Value>(text).unwrap().is_object()
    );

    let refuse = |fields: Value| {
        let refused = server
            .post("/v1/chat/completions", &chat(&fields))
            .refused(400);
        refused["error"]["message"].as_str().unwrap().to_owned()
    };
    let message = refuse(json!({"structured_outputs": {"regex": "(("}}));
    assert!(
        message.contains("regular expression cannot be followed"),
        "{message}"
    );
    let format = json!({"type": "json_schema", "json_schema": {"schema": {"type": "object", "unevaluatedItems": 3}}});
    let message = refuse(json!({"response_format": format}));
    assert!(message.contains("unevaluatedItems"), "{message}");
    for (no_schema, problem) in [
        (json!("schema"), ": it is no object"),
        (json!(["schema"]), ": it is no object"),
        (json!(null), ": it is required"),
        (json!({}), ".schema: it is required"),
        (json!({"schema": 3}), ".schema: it is no schema"),
    ] {
        let format = json!({"type": "json_schema", "json_schema": no_schema});
        let message = refuse(json!({"response_format": format}));
        assert_eq!(message, format!("response_format.json_schema{problem}"));
    }
}

#[test]
fn a_tool_that_must_be_called_is_called() {
    let (_folder, server) = caller();
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema()}});
    let tools = json!([tool("buy"), tool("sell")]);
    let ask = |choice: Value| {
        let asked = chat(&json!({"tools": tools, "tool_choice": choice}));
        server.post("/v1/chat/completions", &asked).json()["choices"][0].clone()
    };
    let called = ask(json!("required"));
    assert_eq!(called["finish_reason"], "tool_calls");
    assert_eq!(called["message"]["content"], Value::Null);
    let call = &called["message"]["tool_calls"][0];
    assert!(["buy", "sell"].contains(&call["function"]["name"].as_str().unwrap()));
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    check_animal(&call["function"]["arguments"]);
    let called = ask(json!({"type": "function", "function": {"name": "sell"}}));
    assert_eq!(
        called["message"]["tool_calls"][0]["function"]["name"],
        "sell"
    );

    // What was called and what came of it are part of the next prompt.
    let conversation = json!([
        {"role": "user", "content": "Sell it"},
        called["message"],
        {"role": "tool", "tool_call_id": "1", "content": "sold"}
    ]);
    let asked = json!({"messages": conversation, "tools": tools});
    let rendered = server.post("/apply-template", &asked).json();
    let rendered = rendered["prompt"].as_str().unwrap();
    assert!(
        rendered.contains("<tool_call>\n{\"name\": \"sell\", \"arguments\": {"),
        "{rendered}"
    );

    let asked = json!({"max_tokens": 200, "stream": true, "messages": [{"role": "user", "content": "Sell it"}],
        "tools": [{"name": "sell", "input_schema": schema()}], "tool_choice": {"type": "any"}});
    let events = server.post("/v1/messages", &asked).events();
    let data: Vec<Value> = events
        .iter()
        .map(|(_, data)| serde_json::from_str(data).unwrap())
        .collect();
    let block = data
        .iter()
        .find(|event| event["type"] == "content_block_start")
        .unwrap();
    assert_eq!(
        (
            &block["content_block"]["type"],
            &block["content_block"]["name"]
        ),
        (&json!("tool_use"), &json!("sell"))
    );
    let delta = data
        .iter()
        .find(|event| event["type"] == "content_block_delta")
        .unwrap();
    check_animal(&delta["delta"]["partial_json"]);
    let end = data
        .iter()
        .find(|event| event["type"] == "message_delta")
        .unwrap();
    assert_eq!(end["delta"]["stop_reason"], "tool_use");

    // A call that is cut off is none.
    let asked = chat(&json!({"tools": tools, "tool_choice": "required", "max_tokens": 8}));
    let cut = server.post("/v1/chat/completions", &asked).json()["choices"][0].clone();
    assert_eq!(
        (&cut["finish_reason"], &cut["message"]["tool_calls"]),
        (&json!("length"), &Value::Null)
    );
    assert_eq!(cut["message"]["content"], "");

    let refused = server
        .post(
            "/v1/chat/completions",
            &chat(&json!({"tool_choice": "required"})),
        )
        .refused(400);
    assert_eq!(
        refused["error"]["message"],
        "tool_choice: there is no such tool"
    );
}
