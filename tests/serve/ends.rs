//! How things end: runners that die, clients that leave, the server itself.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::support::Server;

/// How often a runner is killed; `MLXR_TEST_KILLS` asks for more.
const KILLS: usize = 5;

/// An answer that is long in coming.
pub(crate) fn long(dialect: &str) -> Value {
    let mut asked = json!({
        "model": "stories",
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "stream": true,
        "seed": 1,
        "max_tokens": 1900,
        "logit_bias": {"0": -100, "2": -100},
    });
    if dialect != "openai" {
        asked.as_object_mut().unwrap().remove("logit_bias");
        asked.as_object_mut().unwrap().remove("seed");
    }
    if dialect == "ollama" {
        asked.as_object_mut().unwrap().remove("max_tokens");
    }
    asked
}

/// Reads until a line contains `text`.
pub(crate) fn read_until(stream: TcpStream, text: &str) -> BufReader<TcpStream> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    reader
}

fn kill_runner(server: &Server) {
    let runners = server.runners();
    assert_eq!(runners.len(), 1);
    kill(runners[0], Signal::SIGKILL).unwrap();
}

#[test]
fn a_runner_that_dies_ends_its_answers_and_the_next_is_answered() {
    let server = Server::new(&[]);
    let kills = std::env::var("MLXR_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut held = None;
    for kill in 0..kills {
        if kill == 2 {
            held = Some(server.holds());
        }
        let stream = server.begin(
            "POST",
            "/v1/chat/completions",
            &[],
            &long("openai").to_string(),
        );
        let mut reader = read_until(stream, "\"content\":\"");
        kill_runner(&server);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let last = rest.split("data: ").last().unwrap();
        assert!(last.contains("\"error\""), "{last}");
        assert!(
            last.contains("the runner of stories ended: signal: 9 (SIGKILL)"),
            "{last}"
        );
        assert!(!rest.contains("[DONE]"));
    }
    let (before, after) = (held.unwrap(), server.holds());
    println!("{kills} kills: descriptors and memory {before:?}, then {after:?}");
    assert!(after.0 <= before.0 + 4, "{before:?} {after:?}");
    assert!(after.1 < before.1 + (16 << 20), "{before:?} {after:?}");
    let stream = server.begin("POST", "/v1/messages", &[], &long("anthropic").to_string());
    let mut reader = read_until(stream, "text_delta");
    kill_runner(&server);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("event: error\ndata: {\"type\":\"error\""),
        "{rest}"
    );
    assert!(!rest.contains("message_stop"), "{rest}");

    let stream = server.begin("POST", "/api/chat", &[], &long("ollama").to_string());
    let mut reader = read_until(stream, "\"content\":\"");
    kill_runner(&server);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("{\"error\":\"the runner of stories ended"),
        "{rest}"
    );
}

#[test]
fn who_leaves_is_not_answered_any_more_and_what_was_computed_is_kept() {
    let server = Server::new(&[]);
    let text = "The cat sat on the mat. ".repeat(50);
    // No token may end the answer, or it ends before its reader leaves.
    let asked = json!({"model": "stories", "prompt": text, "max_tokens": 1600, "stream": true, "seed": 1,
        "logit_bias": {"0": -100, "2": -100}});
    let stream = server.begin("POST", "/v1/completions", &[], &asked.to_string());
    drop(read_until(stream, "\"text\":\""));
    server.says("stories: 1 request cancelled");
    let mut asked = asked;
    asked["stream"] = false.into();
    asked["max_tokens"] = 1.into();
    let usage = server.post("/v1/completions", &asked).json()["usage"].clone();
    let cached = usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert_eq!(cached + 1, usage["prompt_tokens"].as_u64().unwrap());
}

#[test]
fn a_prompt_that_nobody_waits_for_is_left_and_what_was_evaluated_is_kept() {
    let server = Server::new(&[]);
    let text = "The cat sat on the mat. ".repeat(270);
    let asked = json!({"prompt": text, "max_tokens": 1, "stream": true});
    let stream = server.begin("POST", "/v1/completions", &[], &asked.to_string());
    drop(read_until(stream, ": prompt "));
    server.says("stories: 1 request cancelled");
    let asked = json!({"prompt": text, "max_tokens": 1});
    let usage = server.post("/v1/completions", &asked).json()["usage"].clone();
    let cached = usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert!(cached > 0, "{usage}");
}

#[test]
fn a_server_that_is_told_to_end_takes_its_runners_with_it() {
    let server = Server::new(&[]);
    let asked = json!({"model": "stories", "prompt": "Once", "max_tokens": 1});
    assert_eq!(server.post("/v1/completions", &asked).status, 200);
    let runners = server.runners();
    assert_eq!(runners.len(), 1);
    assert_eq!(server.end(), Some(0));
    assert!(kill(runners[0], None).is_err(), "it lives on");
}

#[test]
fn answers_under_way_are_ended_before_the_server() {
    let server = Server::new(&[]);
    let asked = json!({"model": "stories", "prompt": "Once", "max_tokens": 400, "stream": true,
        "logit_bias": {"0": -100, "2": -100}});
    let stream = server.begin("POST", "/v1/completions", &[], &asked.to_string());
    let mut reader = read_until(stream, "\"text\":\"");
    let ending = std::thread::Builder::new()
        .spawn(move || server.end())
        .unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    assert_eq!(ending.join().unwrap(), Some(0));
}
