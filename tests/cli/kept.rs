//! Prompts that outlive the process: what a later run takes from an earlier one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Ended, Sealed, Terminal, ended};

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
    kept(&home.path(".cache/mlxr"))
}

/// The same of any folder.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder.join("prefix-v1")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    let folders = folders.filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|suffix| suffix == "safetensors")
    });
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
        assert_eq!(files(&home), [file.as_path()]);
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
    let size = |folder: &Path| -> u64 {
        let files = kept(folder).into_iter();
        files.map(|file| fs::metadata(file).unwrap().len()).sum()
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

/// A home in which two stories are kept that begin alike, and what `cache` says of them.
fn two_stories() -> Sealed {
    let home = Sealed::new();
    run(&home, "Tom ran after it.", &[]);
    run(&home, "He sat down by the river and cried.", &[]);
    home
}

fn cache(home: &Sealed, words: &[&str]) -> Ended {
    ended(&mut home.command(&[&["cache"], words].concat()))
}

#[test]
fn what_is_kept_is_shown_and_texts_only_on_request() {
    let home = two_stories();
    let told = cache(&home, &["inspect", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(rows.len(), 2, "{told:?}");
    let second = rows.iter().find(|row| row["start"] != 0).unwrap();
    let first = rows.iter().find(|row| row["start"] == 0).unwrap();
    assert_eq!(second["parent"], first["file"]);
    assert!(count(second, "start") < count(first, "end"));
    assert!(count(first, "rows_bytes") < count(first, "file_bytes"));
    assert_eq!(
        (&first["model"], &first["states_bytes"]),
        (&"stories".into(), &0.into())
    );
    assert!(!told.stdout.contains("Tom"), "{told:?}");

    let lines = cache(&home, &["inspect", "--text"]);
    let lines: Vec<Vec<&str>> =
        (lines.stdout.lines().map(|line| line.split('\t').collect())).collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines.iter().all(|cells| cells.len() == lines[0].len()),
        "{lines:?}"
    );
    assert!(
        lines[1..]
            .iter()
            .any(|cells| cells.last().unwrap().contains("Once upon a time"))
    );

    let found = |text: &str| {
        cache(&home, &["inspect", "--find", text])
            .stdout
            .lines()
            .count()
    };
    assert_eq!(
        (found("river"), found("ran after"), found("zebra")),
        (3, 2, 0)
    );

    let mut terminal = Terminal::start(home.command(&["cache", "inspect", "--text"]), &[1]);
    terminal.expect("stories (");
    terminal.expect("2 prefixes");
    terminal.expect("[0,");
    terminal.expect("ago  \"Once upon a time");
    assert_eq!(terminal.end().0.code(), Some(0));

    let none = cache(&Sealed::new(), &["inspect"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
    assert!(none.stderr.contains("no prompts are kept in"), "{none:?}");
}

#[test]
fn a_bit_that_has_turned_is_found() {
    let home = two_stories();
    assert_eq!(cache(&home, &["inspect", "--verify"]).code, Some(0));
    let file = files(&home).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 64;
    fs::write(&file, bytes).unwrap();
    let damaged = cache(&home, &["inspect", "--verify"]);
    assert_eq!(damaged.code, Some(7), "{damaged:?}");
    assert!(
        damaged
            .stderr
            .contains("its bytes are not those that were written"),
        "{damaged:?}"
    );
}

#[test]
fn what_is_kept_can_be_removed() {
    let home = two_stories();
    cache(&home, &["prune"]).fails(2, "--unused <TIME>");
    let none = cache(&home, &["prune", "--unused", "1day"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
    let dry = cache(&home, &["prune", "--to", "0B", "--dry-run"]);
    assert_eq!((dry.stdout.lines().count(), files(&home).len()), (2, 2));
    let wet = cache(&home, &["prune", "--to", "0B"]);
    assert_eq!(wet.stdout, dry.stdout);
    assert!(wet.stderr.contains("2 prefixes removed"), "{wet:?}");
    assert!(files(&home).is_empty());
}

#[test]
fn what_is_kept_is_listed_and_goes_by_name() {
    let home = two_stories();
    let model = home.path(".cache/huggingface/hub/models--org--tiny--model");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    for (name, text) in [
        ("blobs/one", "12345678"),
        ("blobs/two.incomplete", "123"),
        ("refs/main", commit),
    ] {
        fs::create_dir_all(model.join(name).parent().unwrap()).unwrap();
        fs::write(model.join(name), text).unwrap();
    }
    let snapshot = model.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink("../../blobs/one", snapshot.join("config.json")).unwrap();

    let listed = cache(&home, &["ls", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let field = |name: &str| -> Vec<&Value> { rows.iter().map(|row| &row[name]).collect() };
    assert_eq!(field("kind"), ["model", "prompts"]);
    assert_eq!(field("count"), [1, 2]);
    assert_eq!(
        (&rows[0]["id"], &rows[0]["bytes"]),
        (&"org/tiny--model".into(), &11.into())
    );
    assert_eq!(rows[0]["of"], "main (3 B unfinished)");
    assert_eq!(rows[1]["of"], "stories");
    let lines = cache(&home, &["ls"]).stdout;
    assert!(lines.starts_with("id\tkind\tbytes\t"), "{lines}");

    cache(&home, &["rm", "org/other"]).fails(6, "nothing in the caches is called `org/other`");
    cache(&home, &["rm", "org/tiny--model"]).fails(2, "rm: nobody is there to be asked");
    let dry = cache(&home, &["rm", "--dry-run", "org/tiny--model"]);
    assert_eq!(dry.stdout, format!("{}\n", model.display()));
    assert!(model.exists());
    let mut terminal = Terminal::start(home.command(&["cache", "rm", "org/tiny--model"]), &[0, 2]);
    terminal.expect("remove 1 model, 11 B? [y/N]");
    terminal.type_in("y\n");
    terminal.expect("1 model removed");
    assert_eq!(terminal.end().0.code(), Some(0));
    assert!(!model.exists());

    // The beginning goes with what goes on from it.
    let rows = cache(&home, &["inspect", "--json"]).stdout;
    let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
    let first = rows.iter().find(|row| row["start"] == 0).unwrap();
    let stem = Path::new(first["file"].as_str().unwrap()).file_stem();
    let removed = cache(&home, &["rm", "-y", stem.unwrap().to_str().unwrap()]);
    assert!(removed.stderr.contains("2 prompts removed"), "{removed:?}");
    assert!(files(&home).is_empty());
}

#[test]
fn a_prompt_that_was_warmed_is_not_computed_again() {
    let home = Sealed::new();
    let warmed = cache(&home, &["warm", "--raw", "--json", BEGINNING]);
    let rows: Vec<Value> = serde_json::from_str(&warmed.stdout).unwrap();
    let tokens = count(&rows[0], "evaluated_tokens");
    assert_eq!(tokens, count(&rows[0], "prompt_tokens"));
    let (row, _) = run(&home, "Tom ran after it.", &[]);
    assert!(count(&row, "cached_tokens") >= tokens - 1, "{row}");
    assert_eq!(rows[0]["kept_tokens"], tokens);
    let again = cache(&home, &["warm", "--raw", BEGINNING]);
    let sentence = format!("mlxr: {tokens} tokens are kept; 1 were computed");
    assert!(again.stderr.starts_with(&sentence), "{again:?}");
}

#[test]
fn a_prompt_that_there_is_no_room_for_is_not_said_to_be_kept() {
    let home = Sealed::new();
    let small = ["--raw", "--cache", "--cache-size", "1B", BEGINNING];
    let warmed = cache(&home, &[&["warm"], &small[..]].concat());
    assert_eq!((warmed.code, warmed.stdout.as_str()), (Some(2), ""));
    for sentence in [
        "mlxr: a prefix is not kept: ",
        " bytes, and the folder may hold 1\n",
        "mlxr: error: cache: nothing of the prompt's ",
    ] {
        assert!(warmed.stderr.contains(sentence), "{warmed:?}");
    }
    assert!(files(&home).is_empty());
}

#[test]
fn two_prompts_are_told_apart() {
    let home = Sealed::new();
    let messages = |end: &str| {
        let content = format!("{BEGINNING} {end}");
        serde_json::json!({"id": 1, "messages": [{"role": "user", "content": content}]})
    };
    fs::write(home.path("a"), messages("He ran.").to_string()).unwrap();
    fs::write(home.path("b"), messages("She ran away.").to_string()).unwrap();
    fs::write(home.path("c"), BEGINNING).unwrap();
    let told = |first: &str, second: &str| {
        let [first, second] = [first, second].map(|name| home.path(name).display().to_string());
        let ended = cache(&home, &["explain", "--json", &first, &second]);
        serde_json::from_str::<Value>(&ended.check(0, "")).unwrap()
    };
    let differ = told("a", "b");
    assert_eq!(differ["difference"]["message"], serde_json::json!([1, 1]));
    assert_eq!(
        differ["difference"]["texts"],
        serde_json::json!([" He", " She"])
    );
    assert!(count(&differ, "same") > 40);
    for field in ["matched", "restored"] {
        assert_eq!(differ[field], differ["same"], "{differ}");
    }
    let restored = count(&differ, "restored");
    let evaluated = differ["tokens"][1].as_u64().unwrap() - restored;
    assert_eq!(count(&differ, "evaluated"), evaluated);
    assert_eq!(differ["reason"], "differs");
    let same = told("c", "c");
    assert_eq!(
        (&same["difference"], &same["reason"]),
        (&Value::Null, &Value::Null)
    );
    let file = home.path("none").display().to_string();
    cache(&home, &["explain", &file, &file]).fails(6, "could not read");
    let sound = home.path("c").display().to_string();
    let wrong = home.path("wrong").display().to_string();
    for (content, code, problem) in [
        ("{\"prompt\": 3}", 2, "prompt: invalid type"),
        ("", 2, "the prompt is empty"),
        (&BEGINNING.repeat(200), 4, "the prompt has"),
    ] {
        fs::write(&wrong, content).unwrap();
        let refused = cache(&home, &["explain", "--raw", &sound, &wrong]);
        refused.fails(code, &format!("mlxr: error: {wrong}: {problem}"));
    }
}
