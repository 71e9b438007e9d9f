//! Measuring with the real binary: what is printed in which form, how runs are compared and refused.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Ended, Sealed, Terminal, ended, mlxr};

/// The smallest tests that are ones.
const SMALL: [&str; 7] = ["bench", "-p", "8", "-n", "4", "-r", "2"];

fn small(more: &[&str]) -> Ended {
    mlxr(&[&SMALL, more].concat())
}

/// The rows of `-o json`.
fn rows(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn names(rows: &[Value]) -> Vec<String> {
    let name = |row: &Value| format!("{} x {}", row["test"].as_str().unwrap(), row["n_sequences"]);
    rows.iter().map(name).collect()
}

#[test]
fn people_without_a_terminal_get_markdown_and_no_bars() {
    let ended = small(&["--pg", "8,4"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{ended:?}");
    for (line, part) in lines.iter().zip([
        " t/s | % bw | ttft ms |",
        "---: |",
        " pp8 |",
        " tg4 |",
        " pp8+tg4 |",
    ]) {
        assert!(line.contains(part), "{part} {ended:?}");
    }
    assert!(lines[2].contains(" ± ") && lines[2].contains("| stories | 4.22 MiB | 7.35 M |"));
    let told: Vec<&str> = ended.stderr.lines().collect();
    assert!(
        matches!(told[..], [line] if line.starts_with("mlxr: the memory gives ")),
        "{ended:?}"
    );
    let quiet = mlxr(&[
        "bench", "-q", "-p", "8", "-n", "0", "-r", "1", "-o", "jsonl",
    ]);
    assert_eq!(quiet.rows().len(), 1);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_terminal_gets_a_drawn_table() {
    let home = Sealed::new();
    let (status, printed) = Terminal::start(home.command(&SMALL), &[1]).end();
    assert_eq!(status.code(), Some(0));
    assert!(
        printed.contains('┆') && printed.contains(" tg4 "),
        "{printed}"
    );
}

#[test]
fn depths_and_sequences_are_measured_in_order() {
    let sizes = ["-p", "4,8", "-n", "2", "-d", "0,16", "-b", "1,3"];
    let ended = mlxr(&[&["bench", "-r", "1", "-o", "json"], &sizes[..]].concat());
    let found = names(&rows(&ended));
    let wanted = [
        "pp4 x 1",
        "pp8 x 1",
        "tg2 x 1",
        "pp4 x 3",
        "pp8 x 3",
        "tg2 x 3",
        "pp4 @ d16 x 1",
        "pp8 @ d16 x 1",
        "tg2 @ d16 x 1",
        "pp4 @ d16 x 3",
        "pp8 @ d16 x 3",
        "tg2 @ d16 x 3",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn figures_agree_with_each_other_and_with_the_model() {
    let ended = small(&["-d", "16", "-b", "2", "--threads", "1", "-o", "json"]);
    let rows = rows(&ended);
    let [prompt, generate] = &rows[..] else {
        panic!("{rows:?}")
    };
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap();
    for (row, tokens) in [(prompt, 16.0), (generate, 8.0)] {
        let nanoseconds: Vec<f64> = row["samples_ns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sample| sample.as_f64().unwrap())
            .collect();
        assert_eq!(nanoseconds.len(), 2);
        let mean = nanoseconds.iter().sum::<f64>() / 2.0;
        assert!((number(row, "avg_ns") - mean).abs() <= 1.0, "{row}");
        let rates: f64 = nanoseconds.iter().map(|time| tokens / time * 1e9).sum();
        assert!(
            (number(row, "avg_ts") / (rates / 2.0) - 1.0).abs() < 1e-6,
            "{row}"
        );
        assert_eq!(row["n_threads"], 1);
        assert_eq!(row["n_depth"], 16);
        assert_eq!(row["quant"], "affine4g64");
        assert_eq!(row["backends"], "CPU");
        assert_eq!(row["peak_memory"], Value::Null, "MLX does not compute here");
    }
    // The time to the first token is that of the prompt, but for the last read.
    assert!(number(prompt, "ttft_ns") <= number(prompt, "avg_ns"));
    assert_eq!(prompt["bytes_per_token"], Value::Null);
    assert_eq!(generate["ttft_ns"], Value::Null);

    // All tensors, read for two sequences at once, and the keys and values of 16 tokens and on
    // average 2.5 more.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
    let file = fs::read(folder.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as f64;
    let tensors = file.len() as f64 - 8.0 - header;
    let config = fs::read(folder.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let fields = ["num_hidden_layers", "num_key_value_heads", "head_dim"];
    let cached = fields
        .iter()
        .map(|field| number(&config, field))
        .product::<f64>();
    // int8, and a scale of two bytes for each 32.
    let read = tensors / 2.0 + 18.5 * cached * 2.0 * (34.0 / 32.0);
    assert!(
        (number(generate, "bytes_per_token") - read).abs() < 0.1,
        "{read} {generate}"
    );
    let share = read * number(generate, "avg_ts") / number(generate, "device_bandwidth_measured");
    assert!((number(generate, "pct_bandwidth") - 100.0 * share).abs() < 1e-6);
}

#[test]
fn csv_and_sql_hold_the_same_rows() {
    let csv = mlxr(&["bench", "-p", "8,9", "-n", "0", "-r", "1", "-o", "csv"]).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    let cells = |line: &str| line.split("\",\"").count();
    assert!(
        lines[0].starts_with("\"version\",\"libmlx_version\",\"cpu_info\""),
        "{csv}"
    );
    assert_eq!(cells(lines[1]), cells(lines[0]));

    let sql = small(&["-o", "sql"]).stdout;
    let query = "import sqlite3, sys
base = sqlite3.connect(':memory:')
base.executescript(sys.stdin.read())
for row in base.execute('SELECT test, n_prompt, avg_ts > 0, typeof(median_ts), ttft_ns IS NULL FROM mlxr_bench'):
    print(*row)";
    let python = Command::new("python3")
        .args(["-c", query])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        // Past the capture that hides what passing tests print.
        let line = b"skipped: there is no python3 to read the SQL\n";
        std::io::stderr().write_all(line).unwrap();
        return;
    };
    python
        .stdin
        .take()
        .unwrap()
        .write_all(sql.as_bytes())
        .unwrap();
    let found = python.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(found.stdout).unwrap(),
        "pp8 8 1 real 0\ntg4 0 1 real 1\n",
        "{sql}"
    );
}

#[test]
fn an_earlier_run_is_a_gate() {
    // Prompts alone, for which the memory is not measured.
    const PROMPTS: [&str; 7] = ["bench", "-p", "8", "-n", "0", "-r", "1"];
    let home = Sealed::new();
    let run = |more: &[&str]| ended(&mut home.command(&[&PROMPTS, more].concat()));
    let first = run(&["-o", "json"]);
    // As if the earlier run had been a million times faster, or slower.
    for (file, factor) in [("faster.json", 1e6), ("slower.json", 1e-6)] {
        let mut old = rows(&first);
        for row in &mut old {
            row["median_ts"] = Value::from(row["median_ts"].as_f64().unwrap() * factor);
        }
        fs::write(home.path(file), serde_json::to_vec(&old).unwrap()).unwrap();
    }
    let gated = run(&["--baseline", "faster.json", "--fail-if", "pp<-3%"]);
    assert_eq!(gated.code, Some(1), "{gated:?}");
    assert!(gated.stdout.contains("/ baseline |"), "{gated:?}");
    assert!(
        gated
            .stderr
            .contains("mlxr: pp8 is 100.0 % below the baseline, 3 % are allowed\n"),
        "{gated:?}"
    );
    let passed = run(&[
        "--baseline",
        "slower.json",
        "--fail-if",
        "pp<-3%",
        "--fail-if",
        "pp8<-1%",
    ]);
    assert_eq!(passed.code, Some(0), "{passed:?}");
    let quiet = run(&["-q", "--baseline", "faster.json", "--fail-if", "pp<-3%"]);
    assert_eq!(quiet.code, Some(1), "{quiet:?}");
    let sentence = "mlxr: pp8 is 100.0 % below the baseline, 3 % are allowed\n";
    assert_eq!(quiet.stderr, sentence);
    // Other conditions are no earlier run of the same.
    let exact = ["--baseline", "slower.json", "--cpu-exact", "-o", "json"];
    assert_eq!(rows(&run(&exact))[0]["baseline_ratio"], Value::Null);
    let compared = run(&["--baseline", "slower.json", "-o", "json"]);
    let ratio = rows(&compared)[0]["baseline_ratio"].as_f64().unwrap();
    assert!(ratio > 1000.0, "{ratio}");

    let unseen = run(&["--baseline", "faster.json", "--fail-if", "pg<-3%"]);
    assert_eq!(unseen.code, Some(2), "{unseen:?}");
    assert!(
        unseen
            .stderr
            .contains("--fail-if pg: the baseline has no such test"),
        "{unseen:?}"
    );
    fs::write(home.path("none.json"), "{}").unwrap();
    run(&["--baseline", "none.json"]).refused(2, "none.json: not what `-o json` writes");
    run(&["--baseline", "absent.json"]).refused(6, "could not read absent.json");
    let inside = run(&["--baseline", "none.json/old"]);
    inside.refused(6, "could not read none.json/old");
    assert!(!inside.stderr.contains("HF_HOME"), "{inside:?}");
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    small(&["-d", "100000"]).refused(2, "pp8 @ d100000: 100008 tokens do not fit");
    mlxr(&["bench", "-p", "0", "-n", "0"]).refused(2, "nothing to measure");
    let usage = |arguments: &[&str], sentence: &str| {
        mlxr(&[&["bench"], arguments].concat()).fails(2, sentence);
    };
    usage(&["--depth", "8-4"], "ends before it begins");
    usage(
        &["--fail-if", "tg<-3%"],
        "required arguments were not provided",
    );
    usage(
        &["--baseline", "a", "--fail-if", "tg"],
        "not of the form TEST<-PERCENT%",
    );
    usage(
        &["--random", "qwen3-0.6b", "-m", "a"],
        "cannot be used with",
    );
    usage(&["--random", "gpt-7"], "possible values: qwen3-0.6b");
    usage(
        &["--quant", "mxfp4"],
        "required arguments were not provided",
    );
    usage(
        &["--random", "qwen3-0.6b", "--quant", "q4_0"],
        "not affine<BITS>g<GROUP>",
    );
    usage(&["--delay=-1"], "value is negative");
    usage(&["-r", "0"], "0 is not between 1 and");
    mlxr(&["bench", "-p", "8", "start"]).fails(2, "subcommand 'start' cannot be used with");
    mlxr(&["bench", "-m", "./absent"]).fails(6, "no model `./absent`");
}

#[test]
fn a_real_shape_needs_no_weights() {
    let arguments = [
        "--random",
        "qwen3-0.6b",
        "-p",
        "0",
        "-n",
        "1",
        "-r",
        "1",
        "-o",
        "json",
    ];
    let ended = mlxr(&[&["bench"], &arguments[..]].concat());
    let rows = rows(&ended);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["model_filename"], "random:qwen3-0.6b");
    assert_eq!(rows[0]["model_type"], "Qwen3ForCausalLM");
    assert_eq!(rows[0]["model_n_params"], 596_049_920);
    // 4.5 bits for each number in a matrix, 16 for those of the norms.
    let norms = 57 * 1024 + 28 * 2 * 128;
    let bytes = (596_049_920_u64 - norms) * 9 / 16 + 2 * norms;
    assert_eq!(rows[0]["model_size"], bytes);
}

#[test]
fn a_start_is_told_in_parts_that_make_the_whole() {
    let ended = mlxr(&["bench", "start", "-r", "2", "-o", "json"]);
    let rows = rows(&ended);
    let parts: Vec<&str> = rows
        .iter()
        .map(|row| row["part"].as_str().unwrap())
        .collect();
    let wanted = [
        "process",
        "tokenizer",
        "library",
        "weights",
        "first token",
        "rest",
        "total",
    ];
    assert_eq!(parts, wanted);
    let sample = |row: &Value| row["samples_ns"][1].as_i64().unwrap();
    let sum: i64 = rows[..6].iter().map(sample).sum();
    assert!(rows[..5].iter().all(|row| sample(row) > 0), "{rows:?}");
    // Each part is rounded to a nanosecond.
    assert!((sum - sample(&rows[6])).abs() < 10, "{rows:?}");
    assert_eq!(rows[0]["model_filename"], "stories");

    let told = mlxr(&["bench", "start", "-r", "1"]);
    assert!(told.stdout.contains("| part "), "{told:?}");
}

#[test]
fn a_start_that_fails_is_told_once() {
    let absent = mlxr(&["bench", "start", "-m", "./absent"]);
    absent.refused(6, "mlxr: error: no model `./absent`");
    let home = Sealed::new();
    fs::create_dir(home.path("empty")).unwrap();
    fs::write(home.path("empty/config.json"), "{}").unwrap();
    let damaged = ended(&mut home.command(&["bench", "start", "-m", "./empty"]));
    damaged.refused(2, "it said: ./empty");
}

#[test]
fn what_is_kept_of_prompts_is_told_for_each_way_of_asking_again() {
    let ended = mlxr(&["bench", "cache", "-p", "300", "-r", "2", "-o", "json"]);
    let rows = rows(&ended);
    let told = |row: &Value| {
        let count = |field: &str| row[field].as_u64().unwrap();
        assert_eq!(
            count("cached_tokens") + count("evaluated_tokens"),
            count("prompt_tokens")
        );
        assert_eq!(row["first_token_ns"].as_array().unwrap().len(), 2);
        (
            row["scenario"].as_str().unwrap().to_owned(),
            count("evaluated_tokens"),
        )
    };
    let told: Vec<(String, u64)> = rows.iter().map(told).collect();
    let expected = [
        ("cold", 300),
        ("exact repeat", 1),
        ("next turn", 37),
        ("next turn without thinking", 44),
        ("edit in the middle", 152),
        ("back to the first", 1),
        ("after five others", 1),
        ("after one as long", 1),
    ];
    assert_eq!(told, expected.map(|(name, count)| (name.to_owned(), count)));

    let table = mlxr(&["bench", "cache", "-p", "40", "-r", "1"]);
    assert!(table.stdout.contains("| exact repeat "), "{table:?}");
    mlxr(&["bench", "cache", "-p", "100000"]).refused(2, "it needs 100072 tokens");
}

#[test]
fn ctrl_c_ends_measuring_after_the_repetition_under_way() {
    let home = Sealed::new();
    let mut command = home.command(&["bench", "-p", "0", "-n", "8", "-r", "100000"]);
    command.env("TERM", "xterm");
    let mut terminal = Terminal::start(command, &[2]);
    terminal.expect("tg8 ");
    terminal.interrupt();
    let (status, printed) = terminal.end();
    assert_eq!(status.code(), Some(130), "{printed}");
}
