//! Where the prompt comes from, as far as that is seen without a model.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Sealed, Terminal, ended, mlxr, mlxr_with};

#[test]
fn nothing_to_answer_is_a_usage_error() {
    mlxr(&["run"]).fails(2, "the prompt is empty");
    mlxr_with("\n", &["run"]).fails(2, "the prompt is empty");
    mlxr_with("", &["run", "-"]).fails(2, "the prompt is empty");
    mlxr(&["run", ""]).fails(2, "the prompt is empty");
}

#[test]
fn bytes_that_are_not_utf_8_are_named_by_their_offset() {
    mlxr_with(b"caf\xc3\xa9 \xff", &["run"])
        .fails(2, "standard input is not valid UTF-8 at byte 6");
    mlxr_with(b"\xc3", &["run", "words"]).fails(2, "standard input is not valid UTF-8 at byte 0");

    let home = Sealed::new();
    let mut command = home.command(&["run", "ab"]);
    ended(command.arg(OsStr::from_bytes(b"c\xe9")))
        .fails(2, "the prompt is not valid UTF-8 at byte 4");
}

#[test]
fn a_folder_as_standard_input_is_an_error() {
    let home = Sealed::new();
    let mut command = home.command(&["run"]);
    ended(command.stdin(File::open(home.path(".")).unwrap()))
        .fails(6, "could not read standard input");
}

#[test]
fn a_terminal_is_not_read_where_there_can_be_no_chat() {
    let home = Sealed::new();
    for flags in [&["run"][..], &["run", "--json"], &["run", "--raw"]] {
        // Standard output is a pipe in all three.
        let (status, printed) = Terminal::start(home.command(flags), &[0, 2]).end();
        assert_eq!(status.code(), Some(2), "{printed}");
        assert!(printed.contains("the prompt is empty"), "{printed}");
    }
}
