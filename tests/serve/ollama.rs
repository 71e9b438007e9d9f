//! Ollama's interface.

use serde_json::{Value, json};

use crate::support::Server;

#[test]
fn a_chat_is_answered_alike_whole_and_as_a_stream() {
    let server = Server::new(&[]);
    let asked = |stream: Option<bool>| {
        let mut asked = json!({
            "model": "stories:latest",
            "messages": [{"role": "user", "content": "Tell me a story"}],
            "options": {"seed": 5, "num_predict": 12, "num_ctx": 4096, "num_gpu": 99},
        });
        if let Some(stream) = stream {
            asked["stream"] = stream.into();
        }
        asked
    };
    let whole = server.post("/api/chat", &asked(Some(false))).json();
    assert_eq!(
        (&whole["done"], &whole["done_reason"]),
        (&json!(true), &json!("length"))
    );
    assert_eq!(whole["message"]["role"], "assistant");
    assert_eq!(whole["eval_count"], 12);
    assert!(whole["prompt_eval_count"].as_u64().unwrap() > 5);
    assert!(whole["total_duration"].as_u64().unwrap() >= whole["eval_duration"].as_u64().unwrap());

    let response = server.post("/api/chat", &asked(None));
    assert_eq!(
        response.header("content-type"),
        Some("application/x-ndjson")
    );
    let lines = response.lines();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.iter().all(|line| line["done"] == false));
    assert_eq!(
        (&last["done"], &last["message"]["content"]),
        (&json!(true), &json!(""))
    );
    let text: String = before
        .iter()
        .filter_map(|line| line["message"]["content"].as_str())
        .collect();
    assert_eq!(whole["message"]["content"], text);
}

#[test]
fn a_text_is_answered_with_a_template_and_without() {
    let server = Server::new(&[]);
    let ask = |fields: Value| {
        let mut asked = json!({"model": "stories", "stream": false, "options": {"num_predict": 6, "temperature": 0}});
        for (name, value) in fields.as_object().unwrap() {
            asked[name] = value.clone();
        }
        server.post("/api/generate", &asked).json()
    };
    let raw = ask(json!({"prompt": "Once upon a", "raw": true}));
    let text = raw["response"].as_str().unwrap();
    assert!(text.starts_with(" time, there was a"), "{text}");
    let framed = ask(json!({"prompt": "Once upon a", "system": "You tell stories."}));
    assert!(
        framed["prompt_eval_count"].as_u64().unwrap() > raw["prompt_eval_count"].as_u64().unwrap()
    );
    let loaded = ask(json!({}));
    assert_eq!(
        (&loaded["done_reason"], &loaded["response"]),
        (&json!("load"), &json!(""))
    );
}

#[test]
fn models_are_told_of_and_let_go() {
    let server = Server::new(&[]);
    assert_eq!(
        server.get("/api/tags").json()["models"][0]["name"],
        "stories"
    );
    assert!(server.get("/api/version").json()["version"].is_string());
    let shown = server
        .post("/api/show", &json!({"model": "stories"}))
        .json();
    assert_eq!(shown["model_info"]["Qwen3ForCausalLM.context_length"], 2048);
    assert!(shown["template"].as_str().unwrap().contains("im_start"));
    assert_eq!(server.get("/api/ps").json(), json!({"models": []}));
    assert_eq!(server.runners().len(), 0);

    let load = json!({"model": "stories", "keep_alive": "10m"});
    assert_eq!(server.post("/api/generate", &load).json()["done"], true);
    let loaded = server.get("/api/ps").json();
    assert_eq!(loaded["models"][0]["name"], "stories");
    assert_eq!(server.runners().len(), 1);
    let unload = json!({"model": "stories", "keep_alive": 0});
    assert_eq!(
        server.post("/api/generate", &unload).json()["done_reason"],
        "unload"
    );
    server.says("stories: ended");
    assert_eq!(server.get("/api/ps").json(), json!({"models": []}));
    assert_eq!(server.runners().len(), 0);
}

#[test]
fn failures_have_their_own_form() {
    let server = Server::new(&[]);
    let refused = server
        .post("/api/chat", &json!({"model": "none", "messages": []}))
        .refused(404);
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .starts_with("model `none` not found")
    );
    let asked = json!({"model": "stories", "prompt": "a", "options": {"mirostat": 2}});
    let refused = server.post("/api/generate", &asked).refused(400);
    let message = refused["error"].as_str().unwrap();
    assert!(
        message.starts_with("options.mirostat: 2 is not supported"),
        "{message}"
    );
}
