//! What is asked and not done: it is refused by its name, or left out with a word about it.

use serde_json::{Value, json};

use crate::support::{Server, chat};

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let server = Server::new(&[]);
    let refuse = |fields: Value, status: u16| {
        let refused = server
            .post("/v1/chat/completions", &chat(&fields))
            .refused(status);
        let error = &refused["error"];
        (
            error["param"].clone(),
            error["message"].as_str().unwrap().to_owned(),
        )
    };
    let (field, message) = refuse(json!({"top_n": 3}), 400);
    assert_eq!(field, "top_n");
    assert!(
        message.starts_with("top_n: it is not supported"),
        "{message}"
    );
    assert_eq!(refuse(json!({"temperature": "hot"}), 400).0, "temperature");
    assert_eq!(refuse(json!({"temperature": -1}), 400).0, "temperature");
    assert_eq!(refuse(json!({"n": 0}), 400).0, "n");
    assert_eq!(refuse(json!({"max_tokens": 0}), 400).0, "max_tokens");
    assert_eq!(refuse(json!({"logit_bias": {"x": 1}}), 400).0, "logit_bias");
    assert_eq!(refuse(json!({"messages": "x"}), 400).0, "messages");
    assert_eq!(
        refuse(json!({"messages": [{"role": "robot"}]}), 400).0,
        "messages[0]"
    );
    assert_eq!(refuse(json!({"model": "gpt-5"}), 404).0, "model");
    // What says nothing is nothing.
    let response = server.post(
        "/v1/chat/completions",
        &chat(&json!({"top_n": null, "user": "me"})),
    );
    assert_eq!(response.status, 200);

    let long = json!([{"role": "user", "content": "word ".repeat(3000)}]);
    let refused = server
        .post("/v1/chat/completions", &chat(&json!({"messages": long})))
        .refused(400);
    assert_eq!(refused["error"]["code"], "context_length_exceeded");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("3010 tokens and the context holds 2048"),
        "{message}"
    );
}

#[test]
fn a_lenient_server_tells_what_it_leaves_out() {
    let server = Server::new(&["--lenient"]);
    let response = server.post(
        "/v1/chat/completions",
        &chat(&json!({"top_n": 3, "xyz": true})),
    );
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-mlxr-left-out"), Some("top_n, xyz"));
    // Inside of others as well, and by names that a header can bear.
    let within = json!({"stream_options": {"often": 1}, "modalities": ["audio"], "größe": 1, "verbosity": "low"});
    let response = server.post("/v1/chat/completions", &chat(&within));
    assert_eq!(
        response.header("x-mlxr-left-out"),
        Some("stream_options.often, verbosity, modalities, gr\\u{f6}\\u{df}e")
    );
    let many = (0..200).map(|index| (format!("a_field_{index}"), 1.into()));
    let response = server.post(
        "/v1/chat/completions",
        &chat(&Value::Object(many.collect())),
    );
    let told = response.header("x-mlxr-left-out").unwrap();
    assert!(told.len() < 1100 && told.ends_with(" more"), "{told}");
}

/// Fields, each with a change of a body that asks for it.
type Changes = &'static [(&'static str, &'static str)];

/// A body of each interface, and what is not done however it is asked there.
fn refusals() -> Vec<(&'static str, Value, Changes)> {
    let messages = json!([{"role": "user", "content": "U"}]);
    vec![
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 1}),
            &[
                ("verbosity", r#"{"verbosity": "low"}"#),
                ("cache_prompt", r#"{"cache_prompt": false}"#),
                ("seed", r#"{"seed": -5}"#),
                ("seed", r#"{"seed": 1.5}"#),
                ("reasoning_effort", r#"{"reasoning_effort": "banana"}"#),
                ("modalities", r#"{"modalities": ["text", "audio"]}"#),
                (
                    "stream_options.often",
                    r#"{"stream_options": {"often": 1}}"#,
                ),
                (
                    "response_format.type",
                    r#"{"response_format": {"type": "xml"}}"#,
                ),
                (
                    "response_format.json_schema.size",
                    r#"{"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "size": 1}}}"#,
                ),
                (
                    "structured_outputs.xml",
                    r#"{"structured_outputs": {"xml": 1}}"#,
                ),
                ("messages", r#"{"messages": []}"#),
            ],
        ),
        (
            "/v1/responses",
            json!({"input": "U", "max_output_tokens": 1}),
            &[
                ("text.verbosity", r#"{"text": {"verbosity": "high"}}"#),
                (
                    "include",
                    r#"{"include": ["message.output_text.logprobs"]}"#,
                ),
                ("reasoning.effort", r#"{"reasoning": {"effort": "banana"}}"#),
                ("reasoning.context", r#"{"reasoning": {"context": "all"}}"#),
                (
                    "previous_response_id",
                    r#"{"previous_response_id": "resp_1"}"#,
                ),
                ("input", r#"{"input": []}"#),
            ],
        ),
        (
            "/v1/messages",
            json!({"messages": messages, "max_tokens": 1}),
            &[
                ("container", r#"{"container": "c"}"#),
                ("thinking.type", r#"{"thinking": {"type": "some"}}"#),
                (
                    "thinking.often",
                    r#"{"thinking": {"type": "disabled", "often": 1}}"#,
                ),
                (
                    "output_config.effort",
                    r#"{"output_config": {"effort": "banana"}}"#,
                ),
                ("messages", r#"{"messages": []}"#),
            ],
        ),
        (
            "/api/chat",
            json!({"messages": messages, "options": {"num_predict": 1}}),
            &[
                ("think", r#"{"think": "banana"}"#),
                ("tools[0]", r#"{"tools": [1]}"#),
                ("options.mirostat", r#"{"options": {"mirostat": 2}}"#),
                ("options.seed", r#"{"options": {"seed": -7}}"#),
                ("options.often", r#"{"options": {"often": 1}}"#),
            ],
        ),
        (
            "/api/generate",
            json!({"prompt": "P", "raw": true, "options": {"num_predict": 1}}),
            &[
                ("system", r#"{"system": "S"}"#),
                ("think", r#"{"think": true}"#),
                ("images", r#"{"images": ["aGk="]}"#),
            ],
        ),
        (
            "/detokenize",
            json!({"tokens": [1]}),
            &[("tokens", r#"{"tokens": [4000000000]}"#)],
        ),
    ]
}

#[test]
fn what_is_not_done_is_refused_by_its_name_in_each_dialect() {
    let server = Server::new(&[]);
    for (path, body, refused) in refusals() {
        assert_eq!(server.post(path, &body).status, 200, "{path}");
        for (field, change) in refused {
            let mut changed = body.clone();
            let change: Value = serde_json::from_str(change).unwrap();
            for (name, value) in change.as_object().unwrap() {
                changed[name] = value.clone();
            }
            let told = server.post(path, &changed).refused(400);
            let message = told.pointer("/error/message").unwrap_or(&told["error"]);
            let message = message.as_str().unwrap();
            assert!(
                message.starts_with(&format!("{field}: ")),
                "{path} {changed}: {message}"
            );
        }
    }
}

#[test]
fn what_agents_always_send_is_left_out_with_a_word_about_it() {
    let server = Server::new(&[]);
    let asked = json!({
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "U"}],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "context_management": {"edits": []},
        "tools": [{"name": "f", "input_schema": {}, "strict": true, "cache_control": null}],
    });
    let response = server.post("/v1/messages", &asked);
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("x-mlxr-left-out"),
        Some("context_management, thinking.budget_tokens, tools[0].strict")
    );
    let function = json!({"name": "f", "parameters": {}, "strict": true});
    let tools = json!([{"type": "function", "function": function}]);
    let response = server.post("/v1/chat/completions", &chat(&json!({"tools": tools})));
    assert_eq!(
        response.header("x-mlxr-left-out"),
        Some("tools[0].function.strict")
    );
}
