//! `mlxr bench tokenize` with the real binary: what its results hold, how they are compared and refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Ended, Sealed, ended, mlxr};

/// What every text is encoded in.
const ENCODING: [&str; 5] = ["cold", "warm", "lines", "4k", "100b"];

const TEXT: &str = "Once upon a time, there was a little girl.\nHer name was é🙂.\n";

/// A home with a text in it, small enough for the reference.
fn home() -> Sealed {
    let home = Sealed::new();
    fs::write(home.path("text"), TEXT.repeat(40)).unwrap();
    home
}

fn run(home: &Sealed, more: &[&str]) -> Ended {
    let arguments = ["bench", "tokenize", "-f", "text", "-r", "2"];
    ended(&mut home.command(&[&arguments, more].concat()))
}

fn tests(rows: &[Value]) -> Vec<String> {
    let name = |row: &Value| row["test"].as_str().unwrap().to_owned();
    rows.iter().map(name).collect()
}

#[test]
fn every_engine_and_number_of_threads_has_its_rows() {
    let ended = run(&home(), &["--threads", "1,3", "--json"]);
    assert_eq!(ended.stderr, "mlxr: the ids of both engines are the same\n");
    let rows = ended.rows();
    let mut wanted = vec!["load mlxr".to_owned(), "load reference".to_owned()];
    for engine in ["mlxr", "reference"] {
        for threads in ["", " x 3"] {
            wanted.extend(ENCODING.map(|kind| format!("{kind} {engine} text{threads}")));
        }
    }
    wanted.extend(["decode", "stream"].map(|kind| format!("{kind} mlxr text")));
    assert_eq!(tests(&rows), wanted);
    for row in &rows {
        assert_eq!(row["model_filename"], "stories");
        assert_eq!(row["n_vocab"], 4096);
        assert_eq!(row["reference_reason"], Value::Null);
        assert_eq!(row["samples_ns"].as_array().unwrap().len(), 2, "{row}");
        assert!(
            row["median_ns"].as_u64() >= row["best_ns"].as_u64(),
            "{row}"
        );
        assert!(row["best_ns"].as_u64() > Some(0), "{row}");
    }
    let load = &rows[0];
    assert_eq!(load["corpus"], Value::Null);
    assert!(load["memory_growth"].is_u64(), "{load}");
    assert_eq!(load["median_mbs"], Value::Null);
}

#[test]
fn figures_agree_with_each_other_and_with_the_text() {
    let rows = run(&home(), &["--engine", "mlxr", "--threads", "2", "--json"]).rows();
    let text = TEXT.repeat(40);
    for (kind, calls) in [
        ("cold", 1),
        ("warm", 1),
        ("lines", 80),
        ("4k", 1),
        ("100b", text.len() / 100 + 1),
    ] {
        let mut found = rows.iter().filter(|row| row["kind"] == kind);
        let row = found.next().unwrap();
        assert_eq!(row["engine"], "mlxr");
        assert_eq!(row["n_bytes"], 2 * text.len());
        assert!(row["n_calls"].as_u64() >= Some(calls as u64), "{row}");
        let number = |field: &str| row[field].as_f64().unwrap();
        let seconds = number("median_ns") / 1e9;
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-3;
        assert!(
            near(number("median_mbs"), number("n_bytes") / 1e6 / seconds),
            "{row}"
        );
        assert!(
            near(number("median_ts"), number("n_tokens") / seconds),
            "{row}"
        );
        assert!(
            near(number("call_ns"), seconds * 1e9 / number("n_calls")),
            "{row}"
        );
    }
    let stream = rows.iter().find(|row| row["kind"] == "stream").unwrap();
    assert_eq!(stream["n_bytes"], text.len(), "every byte comes back");
    assert_eq!(stream["n_calls"], stream["n_tokens"]);
}

#[test]
fn people_get_a_line_for_each_engine() {
    let ended = run(&home(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ended:?}");
    for part in [
        "| text ",
        " load ms |",
        " warm MB/s |",
        " ns / 100b |",
        " stream ns/token |",
    ] {
        assert!(lines[0].contains(part), "{part} {ended:?}");
    }
    assert!(
        lines[2].starts_with("| stories | text | mlxr "),
        "{ended:?}"
    );
    // Both engines decode by the same code.
    assert!(
        lines[3].contains("| reference ") && lines[3].ends_with(" - |"),
        "{ended:?}"
    );
}

#[test]
fn a_text_is_made_up_where_none_is_given() {
    let arguments = [
        "bench", "tokenize", "--engine", "mlxr", "-r", "1", "-o", "csv", "-q",
    ];
    let ended = mlxr(&arguments);
    assert_eq!(ended.stderr, "");
    assert!(
        ended.stdout.contains("\"warm mlxr generated\""),
        "{ended:?}"
    );
}

#[test]
fn a_vocabulary_that_is_left_to_the_reference_is_measured_by_it_alone() {
    let home = home();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
    fs::create_dir(home.path("odd")).unwrap();
    for file in ["config.json", "tokenizer_config.json"] {
        fs::copy(folder.join(file), home.path("odd").join(file)).unwrap();
    }
    let tokenizer = fs::read(folder.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
    tokenizer["normalizer"] = json!({"type": "Lowercase"});
    let path = home.path("odd").join("tokenizer.json");
    fs::write(path, serde_json::to_vec(&tokenizer).unwrap()).unwrap();

    let ended = run(&home, &["-m", "./odd", "--json"]);
    assert!(
        ended
            .stderr
            .contains("left to the reference, which alone is measured"),
        "{ended:?}"
    );
    let rows = ended.rows();
    assert!(
        rows.iter().all(|row| row["engine"] == "reference"),
        "{ended:?}"
    );
    assert!(rows[0]["reference_reason"].is_string(), "{ended:?}");
    assert_eq!(rows.len(), 1 + ENCODING.len() + 2);
    run(&home, &["-m", "./odd", "--engine", "mlxr"])
        .refused(2, "--engine mlxr: the vocabulary is left to the reference");
}

#[test]
fn an_earlier_run_is_a_gate() {
    let home = home();
    let first = run(&home, &["--engine", "mlxr", "--json"]);
    // As if the earlier run had been a million times faster, or slower.
    for (file, factor) in [("faster", 1e-6), ("slower", 1e6)] {
        let mut lines = String::new();
        for mut row in first.rows() {
            let time = row["median_ns"].as_f64().unwrap() * factor;
            row["median_ns"] = Value::from(time.ceil() as u64);
            lines += &row.to_string();
            lines += "\n";
        }
        fs::write(home.path(file), lines).unwrap();
    }
    let gate = |file: &str, limit: &str| {
        let more = ["--engine", "mlxr", "--baseline", file, "--fail-if", limit];
        run(&home, &more)
    };
    let failed = gate("faster", "warm<-5%");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.stderr.contains("mlxr: warm mlxr text is "),
        "{failed:?}"
    );
    assert!(
        failed
            .stderr
            .contains(" % below the baseline, 5 % are allowed"),
        "{failed:?}"
    );
    assert_eq!(gate("slower", "lines mlxr text<-5%").code, Some(0));
    let unseen = gate("slower", "tg<-5%");
    assert_eq!(unseen.code, Some(2), "{unseen:?}");
    assert!(
        unseen
            .stderr
            .contains("--fail-if tg: the baseline has no such test"),
        "{unseen:?}"
    );
    fs::write(home.path("none"), "[{}]").unwrap();
    gate("none", "warm<-5%").refused(2, "none: not what `-o json` writes");
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    let home = home();
    let refused = |more: &[&str], sentence: &str| run(&home, more).fails(2, sentence);
    refused(&["--words"], "unexpected argument '--words'");
    refused(&["--engine", "other"], "possible values: mlxr, reference");
    refused(&["--threads", "0"], "0 is not between 1 and 1024");
    refused(&["--threads", "2000"], "2000 is not between 1 and 1024");
    mlxr(&["bench", "tokenize", "-r", "0"]).fails(2, "0 is not between 1 and");
    refused(&["--json", "-o", "csv"], "cannot be used with");
    refused(
        &["--fail-if", "warm<-3%"],
        "required arguments were not provided",
    );
    fs::write(home.path("empty"), "").unwrap();
    run(&home, &["-f", "empty"]).refused(2, "--file empty: it is empty");
    fs::write(home.path("bytes"), b"a\xff").unwrap();
    run(&home, &["-f", "bytes"]).refused(2, "bytes");
    run(&home, &["-f", "absent"]).refused(6, "could not read absent");
    run(&home, &["-m", "./absent"]).refused(6, "no model `./absent`");
}
