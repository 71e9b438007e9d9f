//! Numbers beyond what anybody means: each is refused before anything is done.

use crate::support::mlxr;

/// The largest number that a machine word holds.
const MOST: &str = "18446744073709551615";

#[track_caller]
fn refused(arguments: &[&str], sentence: &str) {
    mlxr(arguments).fails(2, sentence);
}

#[test]
fn more_threads_than_any_machine_has_are_refused_everywhere() {
    let sentence = "100000 is not between 1 and 1024";
    refused(&["run", "--threads", "100000", "a"], sentence);
    refused(&["serve", "--threads", "100000"], sentence);
    refused(&["bench", "--threads", "100000"], sentence);
    refused(&["bench", "tokenize", "--threads", "100000"], sentence);
    let quantize = ["quantize", "a", "-o", "b", "--threads", "100000"];
    refused(&quantize, sentence);
    let most = mlxr(&["-q", "run", "--threads", "1024", "-n", "1", "a"]);
    assert_eq!(most.code, Some(3), "{most:?}");
}

#[test]
fn counts_that_no_memory_holds_are_refused() {
    for arguments in [
        &["run", "-n", MOST, "a"][..],
        &["run", "--ctx", MOST, "a"],
        &["bench", "-r", MOST],
        &["bench", "-b", "4294967295"],
        &["bench", "start", "-r", MOST],
        &["bench", "cache", "-r", MOST],
        &["bench", "cache", "-p", MOST],
        &["bench", "tokenize", "-r", MOST],
        &["tokenize", "--split", MOST],
        &["serve", "--queue", MOST],
        &["serve", "--loaded", MOST],
    ] {
        refused(arguments, " is not between ");
    }
    let most = "4294967295,4294967295";
    let longest = mlxr(&["bench", "-p", "0", "-n", "0", "--pg", most, "-b", "4096"]);
    longest.refused(2, "8589934590 tokens do not fit into the model's context");
}

#[test]
fn bounds_that_nothing_is_beyond_are_refused() {
    let quantize = ["quantize", "a", "-o", "b"];
    for number in ["nan", "inf", "-1"] {
        let limit = format!("--max-kld={number}");
        let arguments = [&quantize[..], &["--report", &limit]].concat();
        refused(&arguments, "not a finite number of at least 0");
    }
    for number in ["nan", "inf", "0", "-1"] {
        let target = format!("--target-bpw={number}");
        let arguments = [&quantize[..], &[&target]].concat();
        refused(&arguments, "not a finite number above 0");
    }
    refused(&["bench", "--delay", "nan"], "invalid value 'nan'");
}
