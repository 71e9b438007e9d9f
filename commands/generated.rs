//! What is kept in the source tree about the arguments against the arguments: man pages, completions, README.
//!
//! `UPDATE=1 cargo test generated` writes `man` and `completions` anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::settings::Settings;
use crate::ui::Exit;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Compares what `generate` writes into an empty folder with the folder of that name, or replaces it.
#[expect(
    clippy::disallowed_methods,
    reason = "asks whether to write or to compare"
)]
fn check(name: &str, generate: impl Fn(&Path)) {
    let kept = Path::new(ROOT).join(name);
    if std::env::var_os("UPDATE").is_some() {
        // It need not exist.
        drop(fs::remove_dir_all(&kept));
        fs::create_dir(&kept).unwrap();
        generate(&kept);
    }
    let made = tempfile::tempdir().unwrap();
    generate(made.path());
    let (made, kept) = (files(made.path()), files(&kept));
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        kept.keys().collect::<Vec<_>>()
    );
    for (file, text) in made {
        assert!(
            text == kept[&file],
            "{name}/{file} is old: UPDATE=1 cargo test generated"
        );
    }
}

/// What a folder holds, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

#[test]
fn man_pages_are_those_of_the_arguments() {
    check("man", |folder| {
        clap_mangen::generate_to(Cli::command(), folder).unwrap();
    });
}

#[test]
fn completions_are_those_of_the_arguments() {
    check("completions", |folder| {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            clap_complete::generate_to(shell, &mut Cli::command(), "mlxr", folder).unwrap();
        }
    });
}

#[test]
fn the_readme_s_tables_are_those_of_the_help() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let help = format!("{}\n{}", Settings::HELP, Exit::help());
    let rows: Vec<&str> = help
        .lines()
        .filter(|line| line.starts_with(' '))
        .map(str::trim)
        .collect();
    assert!(rows.len() >= 17, "{rows:?}");
    for row in rows {
        let (terms, text) = row.split_once("  ").unwrap();
        let terms = terms.split(", ").map(|term| format!("`{term}`"));
        let row = format!(
            "| {} | {} |",
            terms.collect::<Vec<_>>().join(", "),
            text.trim()
        );
        assert!(readme.contains(&row), "README.md lacks the line {row}");
    }
}
