//! Requests as lines of JSON, answered by the built-in model.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Sealed, interrupt, mlxr, mlxr_with, spawn};

#[test]
fn results_and_failures_keep_the_order_of_the_requests() {
    let input = [
        r#"{"id": "long", "prompt": "Tell me a story about a whale", "temperature": 0}"#,
        "",
        r#"{"id": {"n": 2}, "prompt": "a", "max_tokens": 2}"#,
        r#"{"prompt": "a", "top_n": 1}"#,
        "no JSON",
        r#"{"messages": [{"role": "user", "content": "Tell me a story"}], "max_tokens": 3}"#,
        r#"{"id": 9, "prompt": "a", "temperature": -1}"#,
        r#"{"id": 10, "prompt": ""}"#,
    ];
    let ended = mlxr_with(input.join("\n"), &["run", "--jsonl"]);
    let rows = ended.rows();
    let ids = rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    let wanted = [
        json!("long"),
        json!({"n": 2}),
        json!(4),
        json!(5),
        json!(6),
        json!(9),
        json!(10),
    ];
    assert_eq!(ids[..], wanted, "{ended:?}");

    let kinds = rows
        .iter()
        .map(|row| row["error"]["kind"].as_str())
        .collect::<Vec<_>>();
    let usage = Some("usage");
    assert_eq!(
        kinds[..6],
        [None, None, usage, usage, None, usage],
        "{ended:?}"
    );
    assert_eq!(
        rows[2]["error"]["message"],
        "request: unknown field `top_n`"
    );
    assert_eq!(rows[1]["completion_tokens"], 2);
    assert_eq!(rows[4]["finish"], "length");
    assert!(rows[0]["text"].as_str().unwrap().len() > 20);
    ended.check(2, "");
}

#[test]
fn a_batch_gives_each_request_the_text_that_it_gets_alone() {
    let prompt = |seed: u64| format!("Tell me a story number {seed}");
    let input: Vec<String> = (1..=12)
        .map(|seed| json!({"prompt": prompt(seed), "seed": seed}).to_string())
        .collect();
    // Exact: with int8, a token that is computed with more than seven others may come out as the near
    // tie of the one computed alone.
    let flags = ["run", "--jsonl", "--cpu-exact", "-t", "1", "-n", "24"];
    let ended = mlxr_with(input.join("\n"), &flags);
    let rows = ended.rows();
    assert_eq!(rows.len(), 12, "{ended:?}");
    for seed in [1, 7, 12] {
        let number = seed.to_string();
        let flags = [
            "run",
            "--json",
            "--cpu-exact",
            "-q",
            "-t",
            "1",
            "-n",
            "24",
            "--seed",
            &number,
        ];
        let alone = mlxr(&[&flags[..], &[&prompt(seed)]].concat()).rows();
        assert_eq!(
            rows[seed as usize - 1]["text"],
            alone[0]["text"],
            "seed {seed}"
        );
    }
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn the_context_limit_is_a_row() {
    let long = json!({"prompt": "word ".repeat(50)}).to_string();
    let input = format!("{long}\n{{\"prompt\": \"a\", \"max_tokens\": 1}}");
    let ended = mlxr_with(input, &["run", "--jsonl", "--ctx", "32"]);
    let rows = ended.rows();
    assert_eq!(
        (&rows[0]["error"]["kind"], &rows[1]["finish"]),
        (&"context".into(), &"length".into())
    );
    ended.check(4, "");
}

#[test]
fn no_requests_are_no_error() {
    assert_eq!(mlxr_with("\n \n", &["run", "--jsonl"]).check(0, ""), "");
}

#[test]
fn each_request_is_answered_before_the_next_is_there() {
    let home = Sealed::new();
    let mut child = spawn(home.command(&["run", "--jsonl"]).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for id in 0..3 {
        writeln!(stdin, r#"{{"id": {id}, "prompt": "a", "max_tokens": 2}}"#).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], id);
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn ctrl_c_ends_a_batch_with_what_there_is() {
    let home = Sealed::new();
    let mut child = spawn(home.command(&["run", "--jsonl"]).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    writeln!(stdin, r#"{{"prompt": "a", "max_tokens": 1}}"#).unwrap();
    for _ in 0..6 {
        writeln!(stdin, r#"{{"prompt": "Tell me a story about a whale"}}"#).unwrap();
    }
    let mut printed = String::new();
    stdout.read_line(&mut printed).unwrap();
    interrupt(&child);
    stdout.read_to_string(&mut printed).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{printed}");
    let cancelled = printed
        .lines()
        .filter(|line| line.contains(r#""finish":"cancelled""#))
        .count();
    assert!(cancelled > 0, "{printed}");
}

#[test]
fn what_does_not_fit_into_memory_is_refused() {
    mlxr(&["run", "--memory", "1MiB", "a"]).refused(
        4,
        "the weights take 4.2 MiB of memory, and 1.0 MiB can be had",
    );
    mlxr(&["run", "--memory", "8MiB", "a"]).refused(4, "0.0 MiB can be had");
    let line = "{\"prompt\": \"Hello\"}\n";
    let rows = mlxr_with(line, &["run", "--memory", "8MiB", "--jsonl"]).rows();
    assert_eq!(rows[0]["error"]["kind"], "context", "{rows:?}");
    let arguments = ["run", "--memory", "4GiB", "--jsonl", "-n", "3"];
    assert_eq!(mlxr_with(line, &arguments).rows()[0]["finish"], "length");
}
