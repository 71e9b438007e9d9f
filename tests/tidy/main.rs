//! Holds every file of the repository against the rules of the house; knows nothing of what the code does.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, and say what they skip"
)]

mod map;
mod rules;
mod source;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use map::Map;
use rules::Problems;
use source::{Source, is_in, stem};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Written by a program from mlx-c's headers.
const GENERATED: &str = "vendor/mlx-sys/src/bindings.rs";

/// Path from the root and text of every Rust file but the generated one, in order.
fn rust_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["benches", "commands", "src", "tests", "vendor"] {
        collect(&Path::new(ROOT).join(folder), &mut files);
    }
    files.retain(|(path, _)| path != GENERATED);
    files.sort();
    assert!(
        files.iter().any(|(path, _)| path == "src/lib.rs"),
        "looked in the wrong place"
    );
    files
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(ROOT)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The Rust files that are more than tests of others.
fn shipped_files() -> Vec<(String, String)> {
    let mut files = rust_files();
    files.retain(|(path, _)| !path.starts_with("tests/") && !path.starts_with("benches/"));
    let sources = files
        .iter()
        .map(|(path, text)| Source::parse(path, text).unwrap());
    let tests: Vec<String> = sources.flat_map(|source| source.tests).collect();
    files.retain(|(path, _)| !tests.iter().any(|test| is_in(path, test)));
    files
}

/// Path and content of every committed file; none where this is no checkout.
fn committed_files() -> Vec<(String, Vec<u8>)> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(ROOT)
        .output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        // Past the capture that hides what passing tests print.
        let line = format!("skipped: git does not know {ROOT}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return Vec::new();
    };
    let names = String::from_utf8(listed.stdout).unwrap();
    let names = names.split_terminator('\0');
    // One that is deleted and not yet committed is still listed.
    names
        .filter_map(|name| Some((name.to_owned(), fs::read(Path::new(ROOT).join(name)).ok()?)))
        .collect()
}

fn map() -> Map {
    Map::read(&fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).unwrap())
}

/// Applies a rule to files and fails with everything that it found.
fn check<T: AsRef<[u8]>>(files: &[(String, T)], rule: impl Fn(&str, &T) -> Problems) {
    let found = files.iter().flat_map(|(path, content)| {
        rule(path, content)
            .into_iter()
            .map(move |problem| format!("{path}: {problem}\n"))
    });
    let found: String = found.collect();
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn files_are_short() {
    check(&rust_files(), |path, text| rules::length(path, text));
}

#[test]
fn files_say_what_they_are() {
    check(&rust_files(), |path, text| rules::introduction(path, text));
}

#[test]
fn nothing_is_unfinished() {
    check(&rust_files(), |path, text| rules::finished(path, text));
}

#[test]
fn rooms_name_only_what_they_may() {
    let map = map();
    let mut files = shipped_files();
    files.retain(|(path, _)| !path.starts_with("vendor/"));
    check(&files, |path, text| rules::rooms(path, text, &map));
}

#[test]
fn the_table_of_rooms_names_no_room_that_is_gone() {
    let (map, files) = (map(), shipped_files());
    let is_gone = |place: &&str| !files.iter().any(|(path, _)| is_in(path, place));
    let gone: Vec<&str> = map.places().filter(is_gone).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn names_stay_at_home() {
    let map = map();
    assert!(
        !map.homes().is_empty(),
        "ARCHITECTURE.md has no table of names and homes"
    );
    check(&shipped_files(), |path, text| {
        rules::homes(path, text, &map)
    });
}

#[test]
fn models_stand_alone() {
    let files = shipped_files();
    // A folder beside the models is what they share.
    let models = files.iter().filter(|(path, _)| !path.ends_with("/mod.rs"));
    let mut models: Vec<&str> = models.map(|(path, _)| stem(path)).collect();
    models.retain(|model| {
        model
            .strip_prefix("src/models/")
            .is_some_and(|name| !name.contains('/'))
    });
    check(&files, |path, text| rules::models(path, text, &models));
}

#[test]
fn every_test_is_run() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    check(&rust_files(), |path, _| rules::target(path, &manifest));
}

#[test]
fn committed_files_are_small_and_name_no_place() {
    let files = committed_files();
    check(&files, |path, bytes| rules::size(path, bytes));
    check(&files, |path, bytes| {
        std::str::from_utf8(bytes).map_or_else(|_| Vec::new(), |text| rules::places(path, text))
    });
}
