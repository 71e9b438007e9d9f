//! How the program ends when it is interrupted, its reader leaves, or nothing can be written.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::made::Made;
use crate::support::{Sealed, Terminal, ended, interrupt, spawn};

const REPOSITORY: &str = "org/made";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ETAG: &str = "abcdef";

/// A hub on loopback. It sends ten bytes of each file and then nothing more, ever.
fn stalled_hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || {
        let answered: Vec<TcpStream> = listener
            .incoming()
            .map_while(Result::ok)
            .map(answer)
            .collect();
        drop(answered);
    };
    thread::Builder::new()
        .name("hub".to_owned())
        .spawn(serve)
        .unwrap();
    endpoint
}

/// Answers the request on a connection and leaves it open.
fn answer(mut stream: TcpStream) -> TcpStream {
    let lines = BufReader::new(&stream).lines().map(Result::unwrap);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let files = files.map(|name| json!({ "rfilename": name }));
    let listing = json!({ "sha": COMMIT, "siblings": files }).to_string();
    let (length, body) = if request[0].contains("/api/") {
        (listing.len(), listing.as_str())
    } else if request[0].starts_with("HEAD") {
        (1000, "")
    } else {
        (1000, "0123456789")
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"{ETAG}\"\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    stream
}

/// A run that downloads from a hub that stalls, into `cache`.
fn downloading(home: &Sealed, cache: &str) -> Command {
    let mut command = home.command(&["run", "-m", REPOSITORY, "a"]);
    command
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", stalled_hub())
        .env("HF_HUB_CACHE", cache);
    command
}

/// A run with a model of a long context and a prompt that fills it.
fn prefilling(home: &Sealed, flags: &[&str]) -> Command {
    let mut made = Made::new();
    made.config["max_position_embeddings"] = json!(100_000);
    made.write(&home.path("made"));
    fs::write(home.path("prompt"), "word ".repeat(19_000)).unwrap();
    let mut command = home.command(&[&["run", "-m", "./made", "-n", "1"], flags].concat());
    command.stdin(fs::File::open(home.path("prompt")).unwrap());
    command
}

/// What the shell would make of the end: killed by a signal is 128 and its number.
fn shell_code(child: &mut Child) -> i32 {
    let status = child.wait().unwrap();
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap()
}

#[test]
fn ctrl_c_ends_a_download_and_keeps_what_came() {
    let home = Sealed::new();
    let cache = home.path("cache");
    let mut child = spawn(&mut downloading(&home, cache.to_str().unwrap()));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "mlxr: config.json (1000 B)\n");
    interrupt(&child);
    assert_eq!(shell_code(&mut child), 128 + Signal::SIGINT as i32);
    line.clear();
    stderr.read_to_string(&mut line).unwrap();
    assert_eq!(line, "");
}

#[test]
fn ctrl_c_ends_a_long_prefill() {
    let home = Sealed::new();
    let mut command = prefilling(&home, &["--stats=json"]);
    command.env("TERM", "xterm").stdout(Stdio::piped());
    let mut terminal = Terminal::start(command, &[2]);
    terminal.expect("prompt ");
    terminal.interrupt();
    let (status, printed) = terminal.end();
    assert_eq!(status.code(), Some(130), "{printed}");
    assert!(
        printed.contains(r#""completion_tokens":0,"finish":"cancelled""#),
        "{printed}"
    );
}

#[test]
fn a_second_ctrl_c_is_not_waited_for() {
    let home = Sealed::new();
    let mut command = prefilling(&home, &[]);
    command.env("TERM", "xterm");
    let mut terminal = Terminal::start(command, &[2]);
    terminal.expect("prompt ");
    terminal.interrupt();
    terminal.interrupt();
    let (status, printed) = terminal.end();
    // The first may have ended it before the second came.
    let ends = [(Some(130), None), (None, Some(Signal::SIGINT as i32))];
    assert!(
        ends.contains(&(status.code(), status.signal())),
        "{printed}"
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error() {
    let home = Sealed::new();
    fs::write(home.path("file"), "").unwrap();
    let under_a_file = ended(&mut downloading(&home, "file/cache"));
    under_a_file.refused(6, "Not a directory");
    assert!(
        under_a_file.stderr.contains("hint: check the permissions"),
        "{under_a_file:?}"
    );
    if cfg!(target_os = "linux") {
        // Not even root may make folders there.
        let system = ended(&mut downloading(&home, "/proc/self/cache"));
        system.refused(6, "could not create /proc/self/cache");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_is_an_error() {
    let home = Sealed::new();
    let blobs = home.path("cache/models--org--made/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{ETAG}.mlxr.incomplete"));
    std::os::unix::fs::symlink("/dev/full", partial).unwrap();
    let ended = ended(&mut downloading(
        &home,
        home.path("cache").to_str().unwrap(),
    ));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(6), ""));
    let [begun, _done, error, hint] = &ended.stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(*begun, "mlxr: config.json (1000 B)");
    assert!(
        error.starts_with("mlxr: error: could not write "),
        "{ended:?}"
    );
    assert!(error.contains("No space left on device"), "{ended:?}");
    assert!(hint.starts_with("mlxr: hint: free some space"), "{ended:?}");
}
