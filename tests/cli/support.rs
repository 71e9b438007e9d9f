//! Runs the binary with nothing of this machine's environment; knows nothing of what it should say.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::RwLock;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// A home folder for one test, where every run begins.
pub(crate) struct Sealed {
    home: TempDir,
}

/// How one run ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sealed {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// The binary in its own world; standard input is empty.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mlxr"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("HF_HUB_OFFLINE", "1")
            .env("COLUMNS", "100")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Runs the binary to its end with empty standard input.
pub(crate) fn mlxr(arguments: &[&str]) -> Ended {
    ended(&mut Sealed::new().command(arguments))
}

/// Runs the binary to its end with `input` piped into it.
pub(crate) fn mlxr_with(input: impl AsRef<[u8]>, arguments: &[&str]) -> Ended {
    let home = Sealed::new();
    let mut child = spawn(home.command(arguments).stdin(Stdio::piped()));
    // One that refuses its arguments does not read.
    drop(child.stdin.take().unwrap().write_all(input.as_ref()));
    Ended::of(child)
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    Ended::of(spawn(command))
}

/// Sends Ctrl-C's signal.
pub(crate) fn interrupt(child: &Child) {
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
}

/// Held while a terminal is open that children would inherit.
static INHERITABLE: RwLock<()> = RwLock::new(());

/// Starts `command`. All children must be started here: one that inherits another's terminal
/// keeps it open.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _guard = INHERITABLE.read().unwrap();
    command.spawn().unwrap()
}

/// The two ends of a terminal, which children do not inherit.
fn open_terminal() -> OpenptyResult {
    let _guard = INHERITABLE.write().unwrap();
    let size = Winsize {
        ws_row: 40,
        ws_col: 200,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).unwrap();
    for end in [&terminal.master, &terminal.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    terminal
}

impl Ended {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code and what stderr says; gives back stdout.
    #[track_caller]
    pub(crate) fn check(self, code: i32, stderr: &str) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(code), stderr),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts that it failed with `code`, nothing on stdout and `sentence` on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, sentence: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.starts_with("mlxr: error: "), "{self:?}");
        assert!(self.stderr.contains(sentence), "{self:?}");
    }

    /// As [`Self::fails`], and stderr is one sentence, indented details and a hint or less.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, sentence: &str) {
        self.fails(code, sentence);
        let mut lines = self.stderr.lines();
        let error = lines.next().unwrap_or_default();
        assert!(
            error.contains(sentence) && !error.ends_with('.'),
            "{self:?}"
        );
        let rest = lines.map(|line| line.strip_prefix("mlxr: ").unwrap_or_default());
        let mut rest = rest.skip_while(|line| line.starts_with("  "));
        assert!(rest.all(|line| line.starts_with("hint: ")), "{self:?}");
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!self.stderr.contains(control), "{self:?}");
    }

    /// The lines of stdout as JSON.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The binary on a terminal.
pub(crate) struct Terminal {
    master: File,
    child: Child,
    /// What was printed and not yet expected.
    seen: String,
}

impl Terminal {
    /// Starts `command` with `streams` of 0 (stdin), 1 and 2 on the terminal.
    pub(crate) fn start(mut command: Command, streams: &[u8]) -> Self {
        let OpenptyResult { master, slave } = open_terminal();
        let end = || slave.try_clone().unwrap();
        for stream in streams {
            match stream {
                0 => command.stdin(end()),
                1 => command.stdout(end()),
                _ => command.stderr(end()),
            };
        }
        let child = spawn(&mut command);
        Self {
            master: File::from(master),
            child,
            seen: String::new(),
        }
    }

    /// Sends Ctrl-C's signal.
    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Types `keys`.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is printed; gives back what came before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            assert!(self.read(), "it ended without {text:?}: {:?}", self.seen);
        }
    }

    /// Waits for the end; gives back what was printed since the last expectation.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        while self.read() {}
        (self.child.wait().unwrap(), self.seen)
    }

    /// Reads what there is. An error is how a terminal says that its other end is closed.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.master.read(&mut bytes).unwrap_or(0);
        self.seen += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }
}
