//! Prompts that outlive the process: what a later run takes from an earlier one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Ended, Sealed, ended};

/// A story that all prompts begin with.
const BEGINNING: &str = "Once upon a time, there was a small brown bear named Tom who lived in the garden. Tom \
    had a red kite and loved it more than anything. One day the wind took the kite and carried it over the hill.";

fn run(home: &Sealed, end: &str, flags: &[&str]) -> (Value, Ended) {
    let prompt = format!("{BEGINNING} {end}");
    let fixed = ["run", "--raw", "-t", "0", "-n", "8", "--json", "--cache"];
    let words = [&fixed, flags, &[prompt.as_str()]].concat();
    let ended = ended(&mut home.command(&words));
    // It is cut off.
    assert_eq!(ended.code, Some(3), "{ended:?}");
    (serde_json::from_str(&ended.stdout).unwrap(), ended)
}

fn count(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap()
}

/// All files of kept prompts.
fn files(home: &Sealed) -> Vec<PathBuf> {
    let folders = fs::read_dir(home.path(".cache/mlxr/prefix-v1")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_second_run_starts_where_the_shared_beginning_of_the_first_ended() {
    let home = Sealed::new();
    let (cold, _) = run(&home, "Tom ran after it.", &[]);
    assert_eq!(count(&cold, "cached_tokens"), 0);
    assert_eq!(files(&home).len(), 1);
    let (warm, _) = run(&home, "He sat down by the river and cried.", &[]);
    assert!(count(&warm, "cached_tokens") > 30, "{warm}");
    let alone = Sealed::new();
    let (right, _) = run(&alone, "He sat down by the river and cried.", &[]);
    assert_eq!(warm["text"], right["text"]);
    let (again, _) = run(&home, "Tom ran after it.", &[]);
    assert_eq!(count(&again, "evaluated_tokens"), 1);
    assert_eq!(again["text"], cold["text"]);
    for file in files(&home) {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        let folder = fs::metadata(file.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn exact_and_rounded_state_are_kept_apart() {
    let home = Sealed::new();
    run(&home, "Tom ran after it.", &[]);
    let (exact, _) = run(&home, "Tom ran after it.", &["--cpu-exact"]);
    assert_eq!(count(&exact, "cached_tokens"), 0);
}

#[test]
fn a_damaged_file_is_told_of_and_computed_again() {
    let home = Sealed::new();
    let (cold, _) = run(&home, "Tom ran after it.", &[]);
    let file = files(&home).remove(0);
    let whole = fs::read(&file).unwrap();
    // One bit of a key, and then files that end too soon.
    let mut turned = whole.clone();
    let middle = whole.len() * 3 / 4;
    turned[middle] ^= 1;
    for bytes in [turned.as_slice(), &whole[..middle], &whole[..5], &[]] {
        fs::write(&file, bytes).unwrap();
        let (row, ended) = run(&home, "Tom ran after it.", &[]);
        assert_eq!(count(&row, "cached_tokens"), 0, "{ended:?}");
        assert_eq!(row["text"], cold["text"]);
        assert!(ended.stderr.contains("; it is removed"), "{ended:?}");
        let made_again = fs::metadata(&file).unwrap().len();
        assert_eq!(made_again, whole.len() as u64);
    }
}

#[test]
fn the_folder_is_bounded_and_what_was_used_longest_ago_goes() {
    let home = Sealed::new();
    let words = [
        "He ran.",
        "The frog sang.",
        "It was cold.",
        "The wind was strong.",
        "All slept.",
    ];
    let folder = home.path("kept");
    let flag = format!("--cache={}", folder.display());
    let size = |folder: &PathBuf| -> u64 {
        let key = fs::read_dir(folder.join("prefix-v1"))
            .unwrap()
            .next()
            .unwrap();
        let files = fs::read_dir(key.unwrap().path()).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    let ask = |prompt: &str, limit: &str| {
        let words = [
            "run",
            "--raw",
            "-n",
            "2",
            "--json",
            &flag,
            "--cache-size",
            limit,
            prompt,
        ];
        let ended = ended(&mut home.command(&words));
        serde_json::from_str::<Value>(&ended.stdout).unwrap()
    };
    ask(words[0], "1GB");
    let one = size(&folder);
    let limit = format!("{}B", one * 5 / 2);
    for prompt in &words[1..] {
        ask(prompt, &limit);
        assert!(
            size(&folder) <= one * 5 / 2,
            "{} of {one} each",
            size(&folder)
        );
    }
    assert!(count(&ask(words[4], &limit), "cached_tokens") > 0);
    assert_eq!(count(&ask(words[0], &limit), "cached_tokens"), 0);
}
