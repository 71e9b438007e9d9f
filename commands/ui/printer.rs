//! The one place that prints: data on stdout, talk on stderr. Knows no command.

use std::any::Any;
use std::fmt::Display;
use std::io::{self, Write};
use std::panic;

use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
use mlxr::error::panic_text;
use mlxr::{Error, Result};

use super::exit::Exit;
use super::report::{Report, STANDARD_OUTPUT};

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors alone.
    Quiet,
    /// What the user should know.
    Normal,
    /// Also which model, device and library, and how long things took.
    Verbose,
}

/// Prints for people and programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    pub(crate) verbosity: Verbosity,
    /// Whether stderr is a terminal that understands more than plain lines.
    pub(crate) live: bool,
    /// Whether colours may be sent to stderr.
    pub(crate) colour: bool,
}

/// What prints before the arguments are understood.
const PLAIN: Printer = Printer {
    verbosity: Verbosity::Normal,
    live: false,
    colour: false,
};

impl Printer {
    /// One line on stderr, unless quiet.
    pub(crate) fn talk(self, line: impl Display) {
        if self.verbosity >= Verbosity::Normal {
            say(line);
        }
    }

    /// One line on stderr where more was asked for.
    pub(crate) fn detail(self, line: impl Display) {
        if self.verbosity >= Verbosity::Verbose {
            say(line);
        }
    }

    /// A piece of a model's thinking, on stderr unless quiet, dim where colours are allowed.
    pub(crate) fn thinking(self, text: &str) {
        if self.verbosity == Verbosity::Quiet || text.is_empty() {
        } else if self.colour {
            write_stderr(&format!("\x1b[2m{text}\x1b[0m"));
        } else {
            write_stderr(text);
        }
    }

    /// Says what went wrong with what others asked for: the program goes on.
    pub(crate) fn failure(self, sentence: impl Display) {
        let (red, _, end) = self.colours();
        say(format_args!("{red}error:{end} {}", one_line(sentence)));
    }

    /// What begins an error and a hint, and what ends both.
    fn colours(self) -> (&'static str, &'static str, &'static str) {
        if self.colour {
            ("\x1b[1;31m", "\x1b[36m", "\x1b[0m")
        } else {
            ("", "", "")
        }
    }

    /// Says what went wrong and what to do about it.
    pub(crate) fn error(self, error: &Error) -> Exit {
        self.report(error, Report::of(error))
    }

    /// Says that the program panicked.
    pub(crate) fn fault(self, panic: &(dyn Any + Send)) -> Exit {
        self.report(
            format_args!("panic: {}", panic_text(panic)),
            Report::of_fault(),
        )
    }

    /// A reader that went away is not worth a word.
    fn report(self, sentence: impl Display, report: Report) -> Exit {
        let Report {
            exit,
            details,
            hint,
        } = report;
        if exit != Exit::BrokenPipe {
            self.failure(sentence);
            for line in details {
                say(format_args!("  {}", one_line(line)));
            }
            if let Some(hint) = hint {
                let (_, cyan, end) = self.colours();
                say(format_args!("{cyan}hint:{end} {hint}"));
            }
        }
        exit
    }

    /// Panics are caught where they matter and told as errors; where they happened is a detail.
    pub(crate) fn tell_panics(self) {
        panic::set_hook(Box::new(move |info| self.detail(one_line(info))));
    }
}

/// Text that may come from a model's files, without what would break the line or steer a terminal.
fn one_line(text: impl Display) -> String {
    text.to_string().replace(char::is_control, " ")
}

/// Writes to stdout, exactly `text`.
pub(crate) fn data(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

/// Writes to stdout, exactly these bytes.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let written = io::stdout().lock().write_all(bytes);
    written.map_err(Error::io("write", STANDARD_OUTPUT))
}

/// Writes a value to stdout as one line.
pub(crate) fn json(value: &serde_json::Value) -> Result<()> {
    data(&format!("{value}\n"))
}

/// Hands what [`data`] wrote to the reader of stdout.
pub(crate) fn flush() -> Result<()> {
    io::stdout()
        .lock()
        .flush()
        .map_err(Error::io("write", STANDARD_OUTPUT))
}

/// One line on stderr that was asked for by name, quiet or not.
pub(crate) fn say(line: impl Display) {
    write_stderr(&format!("mlxr: {line}\n"));
}

/// Lines for programs on stderr that were asked for by name, quiet or not, exactly as given.
pub(crate) fn figures(lines: &str) {
    write_stderr(lines);
}

/// Says what the arguments lack, or gives the help that was asked for.
pub(crate) fn refusal(refusal: &clap::Error) -> Exit {
    if refusal.use_stderr() && refusal.kind() != DisplayHelpOnMissingArgumentOrSubcommand {
        write_stderr("mlxr: ");
    }
    let printed = refusal.print();
    if refusal.use_stderr() {
        return Exit::Usage;
    }
    let printed = printed.map_err(Error::io("write", STANDARD_OUTPUT));
    match printed.and_then(|()| flush()) {
        Ok(()) => Exit::Success,
        Err(error) => PLAIN.error(&error),
    }
}

/// Writes to stderr. There is nobody left to tell if that fails.
fn write_stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
