//! One answer of the built-in model: the text, its form, how it ends.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Sealed, ended, interrupt, mlxr, mlxr_with, spawn};

const STORY: &str = "Tell me a story about a whale";

/// The likeliest story.
fn story() -> String {
    mlxr(&["run", "-q", "-t", "0", STORY]).check(0, "")
}

#[test]
fn quiet_prints_nothing_but_the_text() {
    let text = story();
    assert!(text.len() > 20, "{text:?}");
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text:?}");
    assert!(
        !text.contains(['\x1b', '\r']) && !text.contains("<|"),
        "{text:?}"
    );
}

#[test]
fn a_pipe_and_words_make_the_same_prompt() {
    let text = story();
    assert_eq!(
        mlxr_with(STORY, &["run", "-q", "-t", "0"]).check(0, ""),
        text
    );
    assert_eq!(
        mlxr_with(format!("{STORY}\n"), &["run", "-qt0", "-"]).check(0, ""),
        text
    );
    let words = [
        &["run", "-q", "-t", "0"][..],
        &STORY.split(' ').collect::<Vec<_>>(),
    ]
    .concat();
    assert_eq!(mlxr_with("", &words).check(0, ""), text);
}

#[test]
fn json_has_the_text_and_the_figures() {
    let ended = mlxr(&["run", "-t", "0", "--json", STORY]);
    let [row] = &ended.rows()[..] else {
        panic!("{ended:?}")
    };
    let keys = row
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>();
    assert_eq!(
        keys,
        [
            "schema",
            "model",
            "prompt_tokens",
            "matched_tokens",
            "cached_tokens",
            "evaluated_tokens",
            "cache_miss",
            "completion_tokens",
            "finish",
            "text",
            "seed",
            "timings",
            "memory",
            "engine",
        ]
    );
    assert_eq!(
        (&row["schema"], &row["finish"]),
        (&Value::from(1), &Value::from("eos"))
    );
    assert_eq!(row["cached_tokens"], 0);
    assert_eq!(row["cache_miss"], "nothing_known");
    assert!(row["prompt_tokens"].as_u64() > Some(5), "{row}");
    assert!(row["completion_tokens"].as_u64() > Some(5), "{row}");
    assert!(row["timings"]["decode_tps"].as_f64() > Some(0.0), "{row}");
    assert!(row["engine"]["libmlx"].is_string(), "{row}");
    assert_eq!(
        row["text"].as_str().unwrap().trim_end_matches('\n'),
        story().trim_end_matches('\n')
    );
    ended.check(0, "");
}

#[test]
fn json_lines_are_the_events_of_one_answer() {
    let ended = mlxr(&["run", "-t", "0", "--jsonl", STORY]);
    let rows = ended.rows();
    let (done, deltas) = rows.split_last().unwrap();
    assert_eq!(
        (&done["type"], &done["finish"]),
        (&Value::from("done"), &Value::from("eos"))
    );
    assert!(
        deltas.len() > 5 && deltas.iter().all(|row| row["type"] == "delta"),
        "{ended:?}"
    );
    let text: String = deltas
        .iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect();
    assert_eq!(text.trim_end_matches('\n'), story().trim_end_matches('\n'));
}

#[test]
fn a_limit_ends_with_its_own_code() {
    let limited = mlxr(&["run", "-t", "0", "-n", "5", STORY])
        .check(3, "mlxr: length: stopped at 5 tokens (use -n)\n");
    assert!(
        story().starts_with(limited.trim_end_matches('\n')),
        "{limited:?}"
    );
    mlxr(&["run", "-q", "-n", "5", STORY]).check(3, "");
    let rows = mlxr(&["run", "-q", "-n", "5", "--json", STORY]).rows();
    assert_eq!(
        (&rows[0]["finish"], &rows[0]["completion_tokens"]),
        (&"length".into(), &5.into())
    );
}

#[test]
fn a_full_context_ends_with_its_own_code() {
    mlxr(&["run", "--ctx", "4", STORY]).fails(4, "and the context holds 4");
    let ended = mlxr(&["run", "--ctx", "24", STORY]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("length: stopped at the end of the context after"),
        "{ended:?}"
    );
    mlxr(&["run", "--ctx", "1000000", STORY]).fails(2, "1000000");
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let text = story();
    let word = text.split(' ').nth(6).unwrap();
    let stopped = mlxr(&[
        "run",
        "-q",
        "-t",
        "0",
        "--stop",
        "never there",
        "--stop",
        word,
        STORY,
    ]);
    let wanted = &text[..text.find(word).unwrap()];
    assert_eq!(stopped.check(0, ""), format!("{wanted}\n"));
}

#[test]
fn the_same_seed_gives_the_same_text_and_no_seed_another() {
    let text = |arguments: &[&str]| {
        mlxr(&[&["run", "-q", "-t", "1.5"], arguments, &[STORY]].concat()).check(0, "")
    };
    let seven = text(&["--seed", "7"]);
    assert_eq!(text(&["--seed", "7"]), seven);
    assert_ne!(text(&["--seed", "8"]), seven);
    assert_ne!(text(&[]), text(&[]));
}

#[test]
fn the_seed_that_was_drawn_is_told_and_can_be_given_back() {
    let rows = mlxr(&["run", "-t", "1.5", "--json", STORY]).rows();
    let seed = rows[0]["seed"].as_u64().unwrap().to_string();
    let again = mlxr(&["run", "-t", "1.5", "--json", "--seed", &seed, STORY]).rows();
    assert_eq!(again[0]["text"], rows[0]["text"]);
}

#[test]
fn figures_go_to_stderr_when_asked_for() {
    let ended = mlxr(&["run", "-q", "-t", "0", "--stats", STORY]);
    assert!(ended.stderr.starts_with("mlxr: prompt "), "{ended:?}");
    let ended = mlxr(&["run", "-q", "-t", "0", "--stats=json", STORY]);
    let figures: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert!(figures["completion_tokens"].as_u64() > Some(5) && figures["text"].is_null());
    let ended = mlxr(&["run", "-v", "-t", "0", STORY]);
    assert!(
        ended.stderr.contains("mlxr: MLX ") && ended.stdout == story(),
        "{ended:?}"
    );
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let home = Sealed::new();
    let mut child = spawn(&mut home.command(&["run", STORY]));
    let mut begin = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut begin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), &output.stderr[..]),
        (Some(141), &b""[..])
    );
}

#[test]
fn ctrl_c_ends_the_answer_and_keeps_what_there_is() {
    let home = Sealed::new();
    let mut child = spawn(&mut home.command(&["run", "-t", "0", STORY]));
    let mut printed = vec![0];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut printed).unwrap();
    interrupt(&child);
    stdout.read_to_end(&mut printed).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let (text, printed) = (story(), String::from_utf8(printed).unwrap());
    assert!(
        printed.len() < text.len() && printed.ends_with('\n'),
        "{printed:?}"
    );
    assert!(
        text.starts_with(printed.trim_end_matches('\n')),
        "{printed:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let home = Sealed::new();
    let mut command = home.command(&["run", "-t", "0", STORY]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    ended(command.stdout(Stdio::from(full))).fails(6, "could not write standard output");
}

#[test]
fn raw_text_and_prefill_are_continued() {
    let raw = mlxr(&[
        "run",
        "-q",
        "-t",
        "0",
        "-n",
        "8",
        "--raw",
        "Once upon a time",
    ])
    .check(3, "");
    assert!(!raw.trim().is_empty());
    // In exact arithmetic: what is computed together and what one by one rounds alike.
    let exact = |arguments: &[&str]| {
        mlxr(&[&["run", "-q", "-t", "0", "--cpu-exact"], arguments].concat()).check(0, "")
    };
    let answer = exact(&[STORY]);
    let (begin, rest) = answer.split_at(answer.match_indices(' ').nth(3).unwrap().0);
    assert_eq!(exact(&["--prefill", begin, STORY]), rest);
}
