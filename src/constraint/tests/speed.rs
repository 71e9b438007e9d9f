//! What a token costs with a real vocabulary; skipped where there is none.

use std::time::{Duration, Instant};

use super::*;

/// Prints the figures that are asked for.
#[test]
fn a_token_of_a_large_vocabulary_takes_microseconds() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/tokenizers/qwen3"
    );
    if !std::path::Path::new(folder).is_dir() {
        return;
    }
    let tokenizer = tokenizer(folder.into());
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let constraint = schema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["person", "place", "thing"]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
            "address": {
                "type": "object",
                "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
                "required": ["street", "zip"],
                "additionalProperties": false,
            },
        },
        "required": ["name", "age", "kind", "tags", "address"],
        "additionalProperties": false,
    }));
    let text = "{\n  \"name\": \"Olga Ivanova, the \\\"first\\\" of her name\",\n  \"age\": 41,\n  \"kind\": \"person\",\n  \
                \"tags\": [\"lives by the river\", \"réads a lot\", \"日本語\"],\n  \
                \"address\": {\"street\": \"12 Long Road\", \"zip\": \"12345\"}\n}";
    let ids = tokenizer.encode(text, Bos::Never).unwrap();
    for round in ["first", "second", "third"] {
        let begin = Instant::now();
        let mut guide = grammars.guide(&constraint, None).unwrap();
        let compiled = begin.elapsed();
        let mut times = Vec::new();
        for (place, &id) in ids.iter().enumerate() {
            assert!(guide.mask().contains(id), "token {place}");
            let begin = Instant::now();
            let flow = guide.push(id).unwrap();
            times.push(begin.elapsed());
            assert_eq!(flow.is_break(), place + 1 == ids.len());
        }
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        times.sort_unstable();
        let worst = times.last().unwrap();
        println!(
            "{round}: compiled in {compiled:?}, {} tokens, mean {mean:?}, worst {worst:?}",
            times.len()
        );
    }
}
