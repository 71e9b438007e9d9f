//! Anthropic's interface.

use serde_json::{Value, json};

use crate::support::Server;

fn question() -> Value {
    json!({
        "model": "stories",
        "max_tokens": 16,
        "temperature": 0,
        "system": [{"type": "text", "text": "You tell stories.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Tell me a story"}]}],
    })
}

#[test]
fn a_message_is_answered_alike_whole_and_as_a_stream() {
    // Exact, for the second prompt is a kept one and a token, which rounds otherwise: in int8 that chooses another of two
    // tokens that are as likely.
    let server = Server::new(&["--cpu-exact"]);
    let whole = server.post("/v1/messages", &question()).json();
    assert_eq!(
        (&whole["type"], &whole["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(whole["stop_reason"], "max_tokens");
    assert_eq!(whole["content"][0]["type"], "text");
    let text = whole["content"][0]["text"].as_str().unwrap();
    let input = whole["usage"]["input_tokens"].as_u64().unwrap();
    assert_eq!(whole["usage"]["output_tokens"], 16);
    assert_eq!(whole["usage"]["cache_read_input_tokens"], 0);

    let mut asked = question();
    asked["stream"] = true.into();
    let events = server.post("/v1/messages?beta=true", &asked).events();
    let named = |name: &str| {
        let own = events.iter().filter(|(own, _)| own == name);
        let own = own.map(|(_, data)| serde_json::from_str(data).unwrap());
        own.collect::<Vec<Value>>()
    };
    for (name, data) in &events {
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name.as_str());
    }
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let (first, last) = (&names[..2], &names[names.len() - 3..]);
    assert_eq!(first, ["message_start", "content_block_start"]);
    assert_eq!(
        last,
        ["content_block_stop", "message_delta", "message_stop"]
    );
    let deltas = named("content_block_delta");
    let streamed: String = deltas
        .iter()
        .filter_map(|delta| delta["delta"]["text"].as_str())
        .collect();
    assert_eq!(streamed, text);
    // What is cached is not counted twice.
    let usage = &named("message_start")[0]["message"]["usage"];
    assert_eq!(usage["input_tokens"], 1);
    assert_eq!(usage["cache_read_input_tokens"], input - 1);
    let end = &named("message_delta")[0];
    assert_eq!(end["delta"]["stop_reason"], "max_tokens");
    assert_eq!(end["usage"]["output_tokens"], 16);

    let mut counted = question();
    counted.as_object_mut().unwrap().remove("max_tokens");
    let count = server.post("/v1/messages/count_tokens", &counted).json();
    assert_eq!(count, json!({"input_tokens": input}));
    // Clients count to learn that a conversation is too long for the model.
    counted["messages"][0]["content"] = "word ".repeat(3000).into();
    let count = server.post("/v1/messages/count_tokens", &counted).json();
    assert!(count["input_tokens"].as_u64().unwrap() > 3000, "{count}");
}

#[test]
fn a_stop_sequence_is_told_of_and_failures_have_their_own_form() {
    let server = Server::new(&[]);
    let text = server.post("/v1/messages", &question()).json()["content"][0]["text"].clone();
    let stop = text.as_str().unwrap()[8..11].to_owned();
    let mut asked = question();
    asked["stop_sequences"] = json!([stop]);
    let stopped = server.post("/v1/messages", &asked).json();
    assert_eq!(stopped["stop_reason"], "stop_sequence");
    assert_eq!(stopped["stop_sequence"], stop.as_str());

    let mut asked = question();
    asked.as_object_mut().unwrap().remove("max_tokens");
    let refused = server.post("/v1/messages", &asked).refused(400);
    let wanted = json!({"type": "error", "error": {
        "type": "invalid_request_error", "message": "max_tokens: it is required"
    }});
    assert_eq!(refused, wanted);
    asked = question();
    asked["model"] = "none".into();
    let refused = server.post("/v1/messages", &asked).refused(404);
    assert_eq!(refused["error"]["type"], "not_found_error");
}
