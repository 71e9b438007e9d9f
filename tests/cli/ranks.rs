//! Processes that compute one model together.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Ended, Sealed, ended, mlxr};

const STORY: [&str; 8] = [
    "run",
    "--device",
    "cpu",
    "--cpu-exact",
    "--temperature",
    "0",
    "-n",
    "100",
];

fn run(arguments: &[&str]) -> String {
    mlxr(&[&STORY, arguments, &["Once upon a time"]].concat()).stdout
}

#[test]
fn two_processes_write_what_one_does() {
    let alone = run(&[]);
    assert!(alone.len() > 100, "{alone}");
    assert_eq!(run(&["--ranks", "2"]), alone);
}

#[test]
fn lines_are_answered_by_all() {
    let sealed = Sealed::new();
    let lines = "{\"prompt\": \"The cat\"}\n{\"prompt\": \"The dog\", \"max_tokens\": 3}\n";
    fs::write(sealed.path("lines"), lines).unwrap();
    let texts = |arguments: &[&str]| {
        let all = [&STORY[..], &["--jsonl"], arguments].concat();
        let input = fs::File::open(sealed.path("lines")).unwrap();
        let rows = ended(sealed.command(&all).stdin(input)).rows();
        let texts = rows.iter().map(|row| row["text"].clone());
        texts.collect::<Vec<_>>()
    };
    let alone = texts(&[]);
    assert_eq!(alone.len(), 2);
    assert_eq!(texts(&["--ranks", "2"]), alone);
}

#[test]
fn a_model_that_cannot_be_parted_is_refused() {
    let refused = mlxr(&[&STORY[..], &["--ranks", "3", "a"]].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("cannot be parted among 3"),
        "{refused:?}"
    );
    mlxr(&["run", "--ranks", "1", "a"]).fails(2, "1 is not between 2 and 64");
}

/// `mpirun`, if it is there, as the first of PATH's.
fn mpirun(sealed: &Sealed, processes: &str, arguments: &[&str]) -> Option<Ended> {
    let found = Command::new("sh")
        .args(["-c", "command -v mpirun"])
        .output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    if found.is_empty() {
        // Past the capture that hides what passing tests print.
        drop(writeln!(std::io::stderr(), "skipped: there is no mpirun"));
        return None;
    }
    let mut command = Command::new(found.trim());
    let own = sealed.command(&[]);
    command
        .args(["--allow-run-as-root", "--oversubscribe", "-n", processes])
        .arg(own.get_program())
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .env("HOME", sealed.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(ended(&mut command))
}

#[test]
fn mpirun_starts_them_too() {
    let sealed = Sealed::new();
    let together = [&STORY[..], &["--ranks", "2", "Once upon a time"]].concat();
    let Some(written) = mpirun(&sealed, "2", &together) else {
        return;
    };
    assert_eq!(written.stdout, run(&[]), "{written:?}");
    let refused = mpirun(&sealed, "3", &together).unwrap();
    assert!(
        refused.code != Some(0) && refused.stderr.contains("mpirun started 3 processes"),
        "{refused:?}"
    );
}

#[test]
fn processes_that_others_start_have_to_be_told_where_they_meet() {
    let sealed = Sealed::new();
    let refused = |arguments: &[&str], said: &str| {
        let refused = ended(sealed.command(arguments).env("MLX_RANK", "0"));
        refused.fails(2, said);
    };
    refused(
        &["run", "--ranks", "2", "a"],
        "MLX_HOSTFILE: it is to name a file",
    );
    refused(
        &["serve", "--ranks", "2", "--port", "0"],
        "--ranks: a server starts its processes itself",
    );
}

#[test]
#[cfg(target_os = "linux")]
fn where_one_ends_all_end() {
    let sealed = Sealed::new();
    let all = ["run", "--device", "cpu", "--ranks", "2", "-n", "2000", "a"];
    let child = sealed.command(&all).stderr(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    // The second of them is the second rank.
    let second = loop {
        let children = fs::read_to_string(&children).unwrap();
        if let [_, second] = children.split_whitespace().collect::<Vec<_>>()[..] {
            break second.to_owned();
        }
    };
    let killed = Command::new("kill").args(["-9", &second]).status();
    assert!(killed.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        !ended.status.success() && said.contains("process 1 of 2 ended with signal: 9"),
        "{said}"
    );
}
