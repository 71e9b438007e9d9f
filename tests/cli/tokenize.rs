//! `mlxr tokenize` with the built-in model's vocabulary, which has 4096 tokens.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Sealed, ended, mlxr_with};

/// What the command prints for an input.
#[track_caller]
fn tokenize(input: &str, arguments: &[&str]) -> String {
    mlxr_with(input, &[&["tokenize", "-q"], arguments].concat()).check(0, "")
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn tokens_are_shown_in_the_form_that_is_asked_for() {
    let text = "Once upon a time";
    assert_eq!(
        tokenize(text, &[]),
        "536\t\"Once\"\n537\t\" upon\"\n259\t\" a\"\n424\t\" time\"\n"
    );
    assert_eq!(tokenize(text, &["--ids"]), "536 537 259 424\n");
    assert_eq!(tokenize(text, &["--count"]), "4\n");
    assert_eq!(
        tokenize(text, &["--pieces"]),
        "\"Once\"\n\" upon\"\n\" a\"\n\" time\"\n"
    );
    assert_eq!(
        tokenize("Once upon", &["--offsets"]),
        "0\t4\t536\t\"Once\"\n4\t9\t537\t\" upon\"\n"
    );
    let object = parsed(&tokenize("a\n", &["--json"]));
    assert_eq!(object["bytes"], 2);
    assert_eq!(object["pieces"], json!(["a", "\n"]));
    assert_eq!(object["offsets"], json!([[0, 1], [1, 2]]));
    assert_eq!(object["engine"], "mlxr");
    assert_eq!(tokenize("", &["--count", "Once", "upon"]), "2\n");
}

#[test]
fn ids_come_back_as_the_bytes_they_stand_for() {
    let text = "Once <|im_end|> é🙂\r\n";
    let ids = tokenize(text, &["--ids"]);
    assert_eq!(tokenize(&ids, &["--decode"]), text);
    assert_eq!(tokenize("[536, 537]", &["--decode"]), "Once upon");
    assert_eq!(
        tokenize(&ids, &["--decode", "--special", "off"]),
        text.replace("<|im_end|>", "")
    );
    let refused = mlxr_with("1 4096", &["tokenize", "--decode"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("4096 is not the id of a token"),
        "{}",
        refused.stderr
    );
}

#[test]
fn special_tokens_are_text_where_they_are_switched_off() {
    let on = parsed(&tokenize("a<|im_end|>", &["--json"]));
    assert_eq!(on["pieces"], json!(["a", "<|im_end|>"]));
    let off = parsed(&tokenize("a<|im_end|>", &["--json", "--special", "off"]));
    assert!(off["tokens"].as_u64().unwrap() > 2);
    assert_eq!(
        off["pieces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|piece| piece.as_str().unwrap())
            .collect::<String>(),
        "a<|im_end|>"
    );
}

#[test]
fn several_files_are_counted_each_and_together() {
    let home = Sealed::new();
    let (one, two) = (home.path("one"), home.path("two"));
    fs::write(&one, "Once upon").unwrap();
    fs::write(&two, "a time").unwrap();
    let [one, two] = [&one, &two].map(|path| path.to_str().unwrap());
    let printed =
        ended(&mut home.command(&["tokenize", "--count", "-f", one, "-f", two])).check(0, "");
    assert_eq!(printed, format!("2\t{one}\n2\t{two}\n4\ttotal\n"));
}

#[test]
fn a_long_file_is_counted_in_parts() {
    let home = Sealed::new();
    let file = home.path("long");
    let line = |number| format!("Once <|im_end|>\né{number} 中\n\n upon\na time\n");
    fs::write(&file, (0..70_000).map(line).collect::<String>()).unwrap();
    let file = file.to_str().unwrap();
    let ids = ended(&mut home.command(&["tokenize", "--ids", "-f", file])).check(0, "");
    let count = ended(&mut home.command(&["tokenize", "--count", "-f", file])).check(0, "");
    assert_eq!(count, format!("{}\n", ids.split_whitespace().count()));

    fs::write(file, [&b"a\n".repeat(700_000)[..], b"\xff"].concat()).unwrap();
    let refused = ended(&mut home.command(&["tokenize", "--count", "-f", file]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("1400000"), "{}", refused.stderr);
}

#[test]
fn lines_are_answered_by_lines() {
    let lines = "\"Once\"\n{\"id\": 7, \"text\": \"Once upon\"}\n";
    let answers: Vec<Value> = tokenize(lines, &["--jsonl"]).lines().map(parsed).collect();
    assert_eq!(answers[0], json!({"tokens": 1, "bytes": 4, "ids": [536]}));
    assert_eq!(
        answers[1],
        json!({"tokens": 2, "bytes": 9, "ids": [536, 537], "id": 7})
    );
    let refused = mlxr_with("\"a\"\n[]\n", &["tokenize", "--jsonl"]);
    assert_eq!(refused.code, Some(2));
    let sentence = "line 2 of standard input: text: a line is neither";
    assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
}

#[test]
fn lines_that_are_blank_are_passed_over_and_bad_ones_are_named() {
    assert_eq!(
        tokenize("\"Once\"\n\n  \r\n\"a\"\n", &["--jsonl"])
            .lines()
            .count(),
        2
    );
    let home = Sealed::new();
    let refused = |bytes: &[u8], sentence: &str| {
        fs::write(home.path("lines"), bytes).unwrap();
        let printed = ended(&mut home.command(&["tokenize", "--jsonl", "-f", "lines"]));
        printed.refused(2, sentence);
    };
    refused(
        b"\n\"caf\xff\"\n",
        "line 2 of lines is not valid UTF-8 at byte 4",
    );
    refused(b"\n\n{\n", "line 3 of lines: jsonl: not JSON");
}

#[test]
fn a_chat_says_whose_tokens_are_whose() {
    let chat = r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]"#;
    let told = parsed(&tokenize(chat, &["--chat", "--json"]));
    let rows = told["messages"].as_array().unwrap();
    let roles: Vec<&Value> = rows.iter().map(|row| &row["role"]).collect();
    assert_eq!(roles, ["user", "assistant", ""]);
    let sum: u64 = rows.iter().map(|row| row["tokens"].as_u64().unwrap()).sum();
    assert_eq!(told["tokens"], sum);
    assert_eq!(told["ids"].as_array().unwrap().len() as u64, sum);
    assert_eq!(rows[1]["begin"], rows[0]["end"]);
    let table = tokenize(chat, &["--chat"]);
    assert!(
        table.starts_with("| role ") && table.contains("\n| assistant "),
        "{table}"
    );
    let line = |form: &str| parsed(&tokenize(chat, &["--chat", "--jsonl", form]));
    assert_eq!(line("--count")["ids"], Value::Null);
    assert_eq!(line("--count")["tokens"], told["tokens"]);
    let pieces = line("--pieces")["pieces"].as_array().unwrap().len();
    assert_eq!(pieces as u64, sum);
    let refused = mlxr_with("[1]", &["tokenize", "--chat"]);
    assert_eq!(refused.code, Some(2));
}

#[test]
fn parts_have_so_many_tokens_and_overlap() {
    let text = "Once upon a time there was a whale 🙂🙂 who sang";
    let all: Vec<u64> = tokenize(text, &["--ids"])
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect();
    let parts: Vec<Value> = tokenize(text, &["--split", "6"])
        .lines()
        .map(parsed)
        .collect();
    let texts: String = parts
        .iter()
        .map(|part| part["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, text);
    assert!(
        parts
            .iter()
            .all(|part| part["tokens"].as_u64().unwrap() <= 6)
    );
    let sum: u64 = parts
        .iter()
        .map(|part| part["tokens"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, all.len() as u64);

    let overlapping: Vec<Value> = tokenize(text, &["--split", "6", "--overlap", "2"])
        .lines()
        .map(parsed)
        .collect();
    assert_eq!(
        overlapping[1]["begin"], 16,
        "two tokens before the end of the first part"
    );
    assert_eq!(overlapping.last().unwrap()["end"], text.len());
    let refused = mlxr_with("🙂", &["tokenize", "--split", "1"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("more than 1 tokens"),
        "{}",
        refused.stderr
    );
}

#[test]
fn our_engine_is_held_against_the_reference() {
    let text = "Once <|im_end|>\t\n\n  é🙂 don't 12345";
    let same = tokenize(text, &["--verify"]);
    assert!(same.starts_with("standard input: the same"), "{same}");
    let told = parsed(&tokenize(text, &["--verify", "--json"]));
    assert_eq!(
        (&told["same"], &told["engine"]),
        (&json!(true), &json!("mlxr"))
    );
}

#[test]
fn another_tokenizer_may_cut_otherwise() {
    let home = Sealed::new();
    let other = home.path("other");
    fs::create_dir(&other).unwrap();
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/stories/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(own).unwrap()).unwrap();
    fs::write(other.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let diff = |text: &str| {
        let other = other.to_str().unwrap();
        ended(&mut home.command(&["tokenize", "-q", "--diff", other, text]))
    };
    assert_eq!(diff("Once upon").check(0, ""), "");
    // Without merges all tokens are bytes.
    tokenizer["model"]["merges"] = json!([]);
    fs::write(other.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let printed = diff("a b").check(1, "");
    assert_eq!(printed, "1\t3\t[\" b\"]\t[\" \",\"b\"]\n");
}

#[test]
fn what_does_not_go_together_is_refused() {
    for arguments in [
        ["--ids", "--count"],
        ["--decode", "--chat"],
        ["--overlap", "3"],
        ["--decode", "--count"],
        ["--decode", "--json"],
        ["--decode", "--bos"],
        ["--chat", "--offsets"],
        ["--chat", "--bos"],
        ["--chat", "--special=off"],
        ["--verify", "--jsonl"],
        ["--verify", "--ids"],
        ["--verify", "--bos"],
        ["--verify", "--engine=reference"],
        ["--diff=other", "--count"],
        ["--diff=other", "--jsonl"],
        ["--split=4", "--ids"],
    ] {
        let refused = mlxr_with("", &[&["tokenize"], &arguments[..]].concat());
        refused.fails(2, arguments[0].split('=').next().unwrap());
    }
    let all = ["tokenize", "--split", "4", "--overlap", "4"];
    mlxr_with("a b", &all).refused(
        2,
        "overlap: parts cannot have all of their tokens in common",
    );
    let refused = mlxr_with([0xff, 0xfe], &["tokenize"]);
    assert_eq!(refused.code, Some(2));
}
