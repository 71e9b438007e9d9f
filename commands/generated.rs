//! What is kept in the source tree about the arguments against the arguments: man pages, completions, README.
//!
//! `UPDATE=1 cargo test generated` writes `man` and `completions` anew.

mod man;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use crate::settings::Settings;
use crate::ui::Exit;

/// Zsh loads a file of its path at the first Tab, which is to be answered too.
const FIRST_TAB: &[u8] = b"\n[[ $funcstack[1] == _mlxr ]] && _clap_dynamic_completer_mlxr \"$@\"\n";

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

/// The terms of a section of the help, and what is said of each.
fn rows(help: &str) -> Vec<(String, String)> {
    let rows = help.lines().filter(|line| line.starts_with(' '));
    let rows = rows.map(|row| row.trim().split_once("  ").unwrap());
    rows.map(|(terms, text)| (terms.to_owned(), text.trim().to_owned()))
        .collect()
}

#[test]
fn man_pages_are_those_of_the_arguments() {
    check("man", man::generate);
}

#[test]
fn completions_are_those_of_the_arguments() {
    check("completions", |folder| {
        let shells: [(&str, &dyn EnvCompleter); 5] = [
            ("_mlxr", &Zsh),
            ("_mlxr.ps1", &Powershell),
            ("mlxr.bash", &Bash),
            ("mlxr.elv", &Elvish),
            ("mlxr.fish", &Fish),
        ];
        for (file, shell) in shells {
            let mut script = Vec::new();
            shell
                .write_registration(Settings::COMPLETE, "mlxr", "mlxr", "mlxr", &mut script)
                .unwrap();
            if shell.is("zsh") {
                script.extend_from_slice(FIRST_TAB);
            }
            fs::write(folder.join(file), script).unwrap();
        }
    });
}

#[test]
fn the_readme_s_tables_are_those_of_the_help() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let help = format!("{}\n{}", Settings::HELP, Exit::help());
    let rows = rows(&help);
    assert!(rows.len() >= 17, "{rows:?}");
    for (terms, text) in rows {
        let terms = terms.split(", ").map(|term| format!("`{term}`"));
        let row = format!("| {} | {text} |", terms.collect::<Vec<_>>().join(", "));
        assert!(readme.contains(&row), "README.md lacks the line {row}");
    }
}
