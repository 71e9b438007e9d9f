//! What `doctor` finds where all is well, and where something is not.

use std::fs;

use serde_json::Value;

use crate::support::{Ended, Sealed, Terminal, ended};

fn report(ended: &Ended) -> Value {
    let [row] = ended.rows().try_into().unwrap();
    row
}

/// The check of this name.
#[track_caller]
fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_machine_that_computes_has_no_problem() {
    let home = Sealed::new();
    let found = ended(&mut home.command(&["doctor"]));
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stderr.starts_with("mlxr: problems: 0, notes: "));
    for name in ["MLX", "auto", "instructions", "memory", "built-in model"] {
        let begin = format!("| {name} ");
        let row = found.stdout.lines().find(|row| row.starts_with(&begin));
        assert!(row.unwrap().contains("| ok "), "{name}: {found:?}");
    }
    assert!(found.stdout.contains("answers after"), "{found:?}");
    let kept = fs::read_dir(home.path("")).unwrap().count();
    assert_eq!(kept, 0, "it left something behind");
}

#[test]
fn a_terminal_gets_lines_around_it() {
    let home = Sealed::new();
    let terminal = Terminal::start(home.command(&["doctor", "-q"]), &[1]);
    let (status, seen) = terminal.end();
    assert!(status.success(), "{seen}");
    assert!(seen.contains("│ MLX "), "{seen}");
}

#[test]
fn json_is_one_object_with_everything_and_no_secret() {
    let home = Sealed::new();
    let found = ended(
        home.command(&["doctor", "--json", "-q"])
            .env("HF_TOKEN", "hidden-token")
            .env("MLXR_API_KEY", "hidden-key"),
    );
    assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""));
    assert!(!found.stdout.contains("hidden"), "{found:?}");
    let report = report(&found);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["mlx"]["version"].is_string(), "{report}");
    assert!(report["mlx"]["place"].is_string(), "{report}");
    assert_eq!(report["mlx"]["backends"][0], "cpu");
    assert_eq!(report["mlx"]["devices"][0]["kind"], "cpu");
    assert!(report["mlx"]["decode_kernel"].is_string(), "{report}");
    assert!(report["machine"]["cores"].as_u64() > Some(0), "{report}");
    let memory = &report["machine"]["memory"];
    assert!(memory["total_bytes"].as_u64() >= memory["available_bytes"].as_u64());
    for cache in ["hub", "prompts", "tables"] {
        let cache = &report["caches"][cache];
        assert_eq!(
            (&cache["bytes"], &cache["writable"]),
            (&0.into(), &true.into())
        );
    }
    assert_eq!(report["caches"]["has_token"], true);
    assert_eq!(report["caches"]["offline"], true);
    let set = serde_json::json!(["MLXR_API_KEY", "HF_TOKEN", "HF_HUB_OFFLINE"]);
    assert_eq!(report["environment"], set);
    assert!(report["built_in_model"]["seconds"].is_number(), "{report}");
}

#[test]
fn a_library_that_does_not_load_is_shown_as_a_problem() {
    let home = Sealed::new();
    fs::write(home.path("libmlxc.so"), "no library").unwrap();
    let broken = ended(
        home.command(&["doctor", "--json"])
            .env("MLXR_MLX_DIR", home.path("libmlxc.so")),
    );
    assert_eq!(broken.code, Some(6), "{broken:?}");
    assert!(
        broken.stderr.starts_with("mlxr: problems: 1, "),
        "{broken:?}"
    );
    let report = report(&broken);
    assert_eq!(report["verdict"], "problem");
    assert_eq!(report["mlx"]["version"], Value::Null);
    let reason = report["mlx"]["passed_over"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("libmlxc.so"), "{reason}");
    let check = check(&report, "MLX");
    assert_eq!(check["verdict"], "problem");
    assert!(check["advice"].as_str().unwrap().contains("MLXR_MLX_DIR"));
    // What does not need the library is there all the same.
    assert!(report["machine"]["cores"].is_number(), "{report}");

    let plain = ended(home.command(&["doctor"]).env("MLXR_MLX_DIR", "/nowhere"));
    assert_eq!(plain.code, Some(6), "{plain:?}");
    assert!(plain.stdout.contains("\nproblem: MLX: "), "{plain:?}");
    assert!(plain.stdout.contains("/nowhere"), "{plain:?}");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_note() {
    let home = Sealed::new();
    fs::write(home.path("file"), "").unwrap();
    let found = ended(
        home.command(&["doctor", "--json"])
            .env("HF_HUB_CACHE", home.path("file/hub"))
            .env("XDG_CACHE_HOME", home.path("file")),
    );
    assert_eq!(found.code, Some(0), "{found:?}");
    let report = report(&found);
    assert_eq!(report["verdict"], "note");
    assert_eq!(report["caches"]["hub"]["writable"], false);
    for (name, variable) in [
        ("hub cache", "HF_HUB_CACHE"),
        ("prompt cache", "XDG_CACHE_HOME"),
        ("tokenizer tables", "XDG_CACHE_HOME"),
        ("compiled kernels", "XDG_CACHE_HOME"),
    ] {
        let check = check(&report, name);
        assert_eq!(check["verdict"], "note", "{check}");
        assert!(
            check["advice"].as_str().unwrap().contains(variable),
            "{check}"
        );
    }
}

#[test]
fn without_a_home_folder_nothing_is_kept_and_that_is_a_note() {
    let home = Sealed::new();
    let found = ended(home.command(&["doctor", "--json"]).env_remove("HOME"));
    assert_eq!(found.code, Some(0), "{found:?}");
    let report = report(&found);
    assert_eq!(report["caches"]["prompts"], Value::Null);
    assert_eq!(check(&report, "prompt cache")["verdict"], "note");
}

#[test]
fn what_cannot_be_read_is_shown_and_nothing_fails() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let home = Sealed::new();
    fs::create_dir_all(home.path("hub/token")).unwrap();
    let found = ended(
        home.command(&["doctor", "--json"])
            .env("HF_HOME", home.path("hub"))
            .env("XDG_CACHE_HOME", OsStr::from_bytes(b"no\xfftext\x1b")),
    );
    assert_eq!(found.code, Some(0), "{found:?}");
    let report = report(&found);
    assert_eq!(report["caches"]["hub"], Value::Null);
    let check = check(&report, "hub");
    assert_eq!(check["verdict"], "note");
    assert!(
        check["found"].as_str().unwrap().contains("token"),
        "{check}"
    );
}

#[test]
fn ways_of_computing_are_compared_token_by_token() {
    let home = Sealed::new();
    let found = ended(&mut home.command(&["doctor", "--parity", "--json", "-q"]));
    assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""));
    let report = report(&found);
    assert_eq!(report["reference"], "cpu-exact");
    assert_eq!(report["agrees"], true);
    let compared = report["compared"].as_array().unwrap();
    let of_cpu = compared.iter().filter(|one| one["way"] == "cpu");
    let prompts: Vec<_> = of_cpu.clone().map(|one| &one["prompt"]).collect();
    assert_eq!(prompts, ["prose", "facts", "code", "scripts", "long"]);
    for one in of_cpu {
        assert_eq!(one["tokens"], 32, "{one}");
        // The built-in model is packed: rounding shows, and changes little.
        let mean = one["mean"].as_f64().unwrap();
        assert!(mean > 0.0 && mean < 0.2, "{one}");
    }
    let shown = ended(&mut home.command(&["doctor", "--parity", "stories-of-nobody"]));
    shown.fails(6, "stories-of-nobody");
}
