//! Texts as lists of numbers: by models that say that they were trained for it, and no others.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, copy_of_stories};

/// The built-in model, saying that it makes embeddings.
fn embedder() -> (TempDir, Server) {
    let (folder, model) = copy_of_stories("embedder");
    let kinds = ["Transformer", "Pooling", "Normalize"];
    let modules = kinds.map(|kind| json!({"type": format!("sentence_transformers.models.{kind}")}));
    fs::write(model.join("modules.json"), json!(modules).to_string()).unwrap();
    fs::create_dir(model.join("1_Pooling")).unwrap();
    let pooling = json!({"pooling_mode_lasttoken": true, "pooling_mode_cls_token": false});
    fs::write(model.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    let server = Server::new(&["-m", model.to_str().unwrap(), "--cpu-exact"]);
    (folder, server)
}

fn numbers(vector: &Value) -> Vec<f64> {
    let numbers = vector.as_array().unwrap().iter();
    numbers.map(|number| number.as_f64().unwrap()).collect()
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn texts_become_lists_of_numbers() {
    let (_folder, server) = embedder();
    let ask = |fields: &Value| server.post("/v1/embeddings", fields);
    let texts = ["The cat sat down.", "The dog ran away."];
    let both = ask(&json!({"model": "embedder", "input": texts})).json();
    let vectors = [0, 1].map(|index| {
        assert_eq!(both["data"][index]["index"], index);
        numbers(&both["data"][index]["embedding"])
    });
    for vector in &vectors {
        assert!((product(vector, vector) - 1.0).abs() < 1e-5);
    }
    assert!(product(&vectors[0], &vectors[1]) < 0.9999);
    let tokens = both["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens > 8 && both["usage"]["total_tokens"] == tokens);

    // One alone, whose state is cached by now, as tokens, and in fewer dimensions.
    let is_near = |told: &Value, right: &[f64]| {
        let off = 1.0 - product(&numbers(told), right);
        assert!(off.abs() < 1e-4, "{off}");
    };
    let alone = ask(&json!({"input": texts[0]})).json();
    is_near(&alone["data"][0]["embedding"], &vectors[0]);
    let ids = server.post(
        "/tokenize",
        &json!({"content": texts[1], "add_special": true}),
    );
    let told = ask(&json!({"input": ids.json()["tokens"]})).json();
    is_near(&told["data"][0]["embedding"], &vectors[1]);
    let short = ask(&json!({"input": texts[0], "dimensions": 4})).json();
    let short = numbers(&short["data"][0]["embedding"]);
    assert_eq!(short.len(), 4);
    assert!((product(&short, &short) - 1.0).abs() < 1e-5);

    // Ollama's two forms.
    let told = server.post("/api/embed", &json!({"input": texts})).json();
    is_near(&told["embeddings"][0], &vectors[0]);
    assert_eq!(told["prompt_eval_count"], tokens);
    let old = server.post("/api/embeddings", &json!({"prompt": texts[1]}));
    is_near(&old.json()["embedding"], &vectors[1]);
    // A text that is too long is cut there, and refused elsewhere.
    let long = "word ".repeat(3000);
    let cut = server.post("/api/embed", &json!({"input": long})).json();
    assert!(cut["prompt_eval_count"].as_u64().unwrap() > 100);
    let options = json!({"num_ctx": 20});
    let cut = server.post("/api/embed", &json!({"input": long, "options": options}));
    assert_eq!(cut.json()["prompt_eval_count"], 19);
    let refused = ask(&json!({"input": long})).refused(400);
    assert_eq!(refused["error"]["code"], "context_length_exceeded");
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let (_folder, server) = embedder();
    let refused = |fields: Value| {
        let refused = server.post("/v1/embeddings", &fields).refused(400);
        refused["error"]["param"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        refused(json!({"input": "a", "dimensions": 100_000})),
        "dimensions"
    );
    assert_eq!(
        refused(json!({"input": "a", "encoding_format": "int8"})),
        "encoding_format"
    );
    assert_eq!(refused(json!({"input": {"a": 1}})), "input");
    assert_eq!(refused(json!({})), "input");
    refused(json!({"input": [""]}));
    refused(json!({"input": []}));
    let other = Server::new(&[]);
    for (path, field) in [
        ("/v1/embeddings", "input"),
        ("/api/embed", "input"),
        ("/api/embeddings", "prompt"),
    ] {
        let told = other.post(path, &json!({field: "a"})).refused(400);
        assert!(told.to_string().contains("not trained for that"), "{told}");
    }
}
