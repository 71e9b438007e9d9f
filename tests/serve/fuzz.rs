//! Bodies that nobody should send: each is refused or answered, and the server and its runner live on.
//!
//! `MLXR_TEST_FUZZ` says for how many seconds.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::support::Server;

/// What is asked where, before it is changed.
fn bodies() -> Vec<(&'static str, Value)> {
    let messages = json!([
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "U"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "R"},
        {"role": "user", "content": "V"}
    ]);
    let tools =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    vec![
        (
            "/v1/chat/completions",
            json!({"model": "stories", "messages": messages, "tools": tools, "max_tokens": 2, "stream": true,
                "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 2, "n": 2,
                "stop": ["x"], "seed": 1, "temperature": 1, "logit_bias": {"1": 1}, "tool_choice": "auto",
                "chat_template_kwargs": {"a": 1}, "response_format": {"type": "text"}}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "U"}], "max_tokens": 2, "response_format":
                {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}),
        ),
        (
            "/v1/responses",
            json!({"input": "U", "max_output_tokens": 2, "text":
                {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}}),
        ),
        (
            "/v1/messages",
            json!({"max_tokens": 2, "messages": [{"role": "user", "content": "U"}], "output_config":
                {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
        ),
        (
            "/v1/completions",
            json!({"model": "stories", "prompt": ["a", "b"], "max_tokens": 2, "echo": true, "logprobs": 1,
                "suffix": "", "best_of": 1, "n": 1, "stop": "x", "stream": false}),
        ),
        (
            "/v1/responses",
            json!({"model": "stories", "input": [{"role": "user", "content": "U"},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "R"}],
                "instructions": "I", "max_output_tokens": 2, "reasoning": {"effort": "low"},
                "text": {"format": {"type": "text"}}, "tools": [{"type": "function", "name": "f"}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "stories", "max_tokens": 2, "system": [{"type": "text", "text": "S"}],
                "messages": [{"role": "user", "content": "U"}], "tools": [{"name": "f", "input_schema": {}}],
                "tool_choice": {"type": "auto"}, "thinking": {"type": "enabled", "budget_tokens": 1024}, "stop_sequences": ["x"],
                "context_management": {"edits": []}, "output_config": {"effort": "low"}}),
        ),
        (
            "/v1/messages/count_tokens",
            json!({"model": "stories", "messages": [{"role": "user", "content": "U"}]}),
        ),
        (
            "/api/chat",
            json!({"model": "stories", "messages": [{"role": "user", "content": "U"}], "think": false,
                "options": {"num_predict": 2, "num_ctx": 512, "stop": ["x"], "seed": -1, "mirostat": 0},
                "tools": tools}),
        ),
        (
            "/api/generate",
            json!({"model": "stories", "prompt": "P", "raw": true, "options": {"num_predict": 2}, "stream": true}),
        ),
        ("/api/show", json!({"model": "stories"})),
        (
            "/tokenize",
            json!({"content": "a", "with_pieces": true, "add_special": true}),
        ),
        ("/detokenize", json!({"tokens": [1, 2, 3]})),
        (
            "/apply-template",
            json!({"messages": [{"role": "user", "content": "U"}]}),
        ),
        ("/v1/embeddings", json!({"model": "stories", "input": "a"})),
    ]
}

/// Numbers that follow from a seed (Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    /// A value that is seldom what is wanted.
    fn value(&mut self, depth: usize) -> Value {
        match self.roll(if depth > 3 { 12 } else { 15 }) {
            0 => Value::Null,
            1 => Value::Bool(self.roll(2) == 0),
            2 => json!(-1),
            3 => json!(0),
            4 => json!(u64::MAX),
            5 => json!(1e308),
            6 => json!(0.5),
            7 => json!(i64::MIN),
            8 => json!(""),
            9 => json!("\u{0}\u{FFFF}<|im_end|>{{ x }}{% for a in b %}"),
            10 => json!("x".repeat(self.roll(3000))),
            11 => json!(["text", "user", "function", "auto", "1h", "json_schema"][self.roll(6)]),
            12 => (0..self.roll(4)).map(|_| self.value(depth + 1)).collect(),
            13 => {
                let names = ["type", "role", "content", "text", "name", "function"];
                let fields = (0..self.roll(4))
                    .map(|_| (names[self.roll(6)].to_owned(), self.value(depth + 1)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            _ => (0..self.roll(100)).fold(json!(1), |inner, _| json!([inner])),
        }
    }

    /// Changes something somewhere.
    fn change(&mut self, value: &mut Value) {
        let goes_in = self.roll(3) > 0;
        match value {
            Value::Object(fields) if goes_in && !fields.is_empty() => {
                let index = self.roll(fields.len());
                if let Some(inner) = fields.values_mut().nth(index) {
                    self.change(inner);
                }
            }
            Value::Array(items) if goes_in && !items.is_empty() => {
                let index = self.roll(items.len());
                self.change(&mut items[index]);
            }
            Value::Object(fields) if self.roll(2) == 0 => {
                let made = self.value(0);
                fields.insert(
                    ["x", "model", "stream", "user", "stop"][self.roll(5)].to_owned(),
                    made,
                );
            }
            other => *other = self.value(0),
        }
    }

    /// A body made of a good one.
    fn body(&mut self, good: &Value) -> Vec<u8> {
        let mut value = good.clone();
        for _ in 0..=self.roll(3) {
            self.change(&mut value);
        }
        let mut body = value.to_string().into_bytes();
        match self.roll(8) {
            0 => body.truncate(self.roll(body.len() + 1)),
            1 => {
                for _ in 0..=self.roll(4) {
                    let at = self.roll(body.len().max(1));
                    if let Some(byte) = body.get_mut(at) {
                        *byte = self.roll(256) as u8;
                    }
                }
            }
            _ => {}
        }
        body
    }
}

#[test]
fn no_body_is_too_strange() {
    let seconds = std::env::var("MLXR_TEST_FUZZ").map_or(3, |seconds| seconds.parse().unwrap());
    let server = Server::new(&[]);
    let bodies = bodies();
    for (path, body) in &bodies {
        let status = server.post(path, body).status;
        assert!(
            status == 200 || *path == "/v1/embeddings",
            "{path}: {status}"
        );
    }
    let runners = server.runners();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    let seed = u64::from(std::process::id());
    let mut dice = Dice(seed);
    while Instant::now() < deadline {
        let (path, good) = &bodies[dice.roll(bodies.len())];
        let body = dice.body(good);
        let stream = server.begin_bytes("POST", path, &[], &body);
        let mut line = String::new();
        // The rest of an answer is not waited for: who leaves is another thing that happens.
        BufReader::new(stream).read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_default();
        *statuses.entry(status).or_default() += 1;
        let told = || format!("seed {seed}: {path}: {}", String::from_utf8_lossy(&body));
        assert!(
            status == 200 || (400..500).contains(&status),
            "{status}: {}",
            told()
        );
    }
    println!("{seconds} s: {statuses:?}");
    assert_eq!(server.runners(), runners);
    assert_eq!(server.get("/health").status, 200);
}
