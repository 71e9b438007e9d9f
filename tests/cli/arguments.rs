//! Help, refused arguments, settings: nothing here computes.

use std::process::Stdio;

use crate::support::{Sealed, Terminal, ended, mlxr, spawn};

#[test]
fn help_is_data_and_lists_flags_and_exit_codes() {
    let help = mlxr(&["run", "--help"]).check(0, "");
    for flag in [
        "-m",
        "-s",
        "--raw",
        "-n",
        "-t",
        "--top-k",
        "--top-p",
        "--min-p",
        "--repeat-penalty",
        "--repeat-last-n",
        "--presence-penalty",
        "--frequency-penalty",
        "--seed",
        "--stop",
        "--ctx",
        "--template-arg",
        "--think",
        "--prefill",
        "--json",
        "--jsonl",
        "--stats",
        "--device",
        "--threads",
        "--cpu-exact",
        "-q",
        "-v",
        "MLXR_MODEL",
        "HF_HUB_OFFLINE",
        "NO_COLOR",
    ] {
        assert!(help.contains(flag), "{flag} is not in the help");
    }
    for code in [0, 1, 2, 3, 4, 6, 7, 9, 70, 130, 141] {
        assert!(
            help.contains(&format!("\n{code:>5}  ")),
            "{code} is not in the help"
        );
    }
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
}

#[test]
fn version_is_data() {
    assert_eq!(
        mlxr(&["--version"]).check(0, ""),
        concat!("mlxr ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn no_command_is_a_usage_error_with_help() {
    let ended = mlxr(&[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("Usage: mlxr"), "{ended:?}");
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    let check = |arguments: &[&str], sentence: &str| {
        mlxr(&[&["run"], arguments].concat()).fails(2, sentence);
    };
    check(&["--frobnicate", "a"], "unexpected argument '--frobnicate'");
    check(
        &["--device", "tpu", "a"],
        "invalid value 'tpu' for '--device <DEVICE>'",
    );
    check(&["-n", "0", "a"], "0 is not between 1 and");
    check(&["-n", "-1", "a"], "unexpected argument '-1'");
    check(&["--seed", "x", "a"], "invalid value 'x' for '--seed <N>'");
    check(
        &["--stop", "", "a"],
        "a value is required for '--stop <TEXT>'",
    );
    check(&["--template-arg", "a", "b"], "not of the form KEY=VALUE");
    check(&["--think=maybe", "a"], "invalid value 'maybe'");
    check(&["--json", "--jsonl", "a"], "cannot be used with");
    check(&["--raw", "-s", "b", "a"], "cannot be used with");
    check(&["-q", "-v", "a"], "cannot be used with");
    check(
        &["-t", "-1", "a"],
        "temperature: -1 is not between 0 and 100",
    );
    check(
        &["--top-p", "1.5", "a"],
        "top_p: 1.5 is not between 0 and 1",
    );
    check(
        &["--min-p", "nan", "a"],
        "min_p: NaN is not between 0 and 1",
    );
    check(
        &["--repeat-penalty", "0", "a"],
        "repeat_penalty: 0 is not above 0",
    );
    check(&["--repeat-last-n", "-2", "a"], "-2 is not in");
}

#[test]
fn a_model_that_is_not_there_is_named() {
    mlxr(&["run", "-m", "./absent", "a"]).fails(6, "no model `./absent`");
    let home = Sealed::new();
    let mut command = home.command(&["run", "a"]);
    ended(command.env("MLXR_MODEL", "./from-variable")).fails(6, "no model `./from-variable`");
    let home = Sealed::new();
    let mut command = home.command(&["run", "-m", "./from-flag", "a"]);
    ended(command.env("MLXR_MODEL", "./from-variable")).fails(6, "no model `./from-flag`");
}

#[test]
fn a_folder_without_a_model_is_refused() {
    let home = Sealed::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    ended(&mut home.command(&["run", "-m", "./empty", "a"])).fails(6, "has no config.json");
}

#[test]
fn errors_are_coloured_on_a_terminal_unless_no_color_says_otherwise() {
    let printed = |variable: &str, value: &str| {
        let home = Sealed::new();
        let mut command = home.command(&["run", "-t", "-1", "a"]);
        command.env(variable, value);
        let (status, printed) = Terminal::start(command, &[2]).end();
        assert_eq!(status.code(), Some(2));
        printed
    };
    assert!(printed("TERM", "xterm").contains("\x1b["));
    assert!(!printed("NO_COLOR", "1").contains('\x1b'));
    assert!(!printed("TERM", "dumb").contains('\x1b'));
    assert!(printed("NO_COLOR", "").contains("\x1b["));
}

#[test]
fn help_into_a_closed_pipe_is_no_panic() {
    let home = Sealed::new();
    let mut child = spawn(&mut home.command(&["run", "--help"]));
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 141)), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn help_onto_a_full_disk_is_an_error() {
    let home = Sealed::new();
    let mut command = home.command(&["run", "--help"]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    ended(command.stdout(Stdio::from(full))).fails(6, "could not write standard output");
}
