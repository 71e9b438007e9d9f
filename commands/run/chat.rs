//! A conversation on a terminal: line editing, history, a few commands. Knows nothing of files of requests.

use std::fs;
use std::io;
use std::mem;
use std::path::Path;

use mlxr::tokenizer::Message;
use mlxr::{Error, Result};
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::{DefaultHistory, History};
use rustyline::{Editor, Result as EditorResult};

use super::output::Output;
use super::stream;
use crate::ask::{Ask, Prompt};
use crate::interrupt::Interrupt;
use crate::model::Model;
use crate::ui::{Exit, printer};

const HELP: &str = "/clear forgets the conversation, /exit or Ctrl-D ends the chat; \
                    Ctrl-C stops an answer, the arrow keys bring back what was typed";

/// Lines that are remembered between chats.
const HISTORY_LINES: usize = 1000;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Help,
    Clear,
    Exit,
    UnknownCommand(&'a str),
    Message(&'a str),
}

/// Talks with the user until they have enough. Lines typed are kept in `history`.
pub(crate) fn chat(
    model: &Model,
    ask: &Ask,
    interrupt: &Interrupt,
    output: &Output<'_>,
    history: Option<&Path>,
) -> Result<Exit> {
    let mut lines = Lines::new(history).map_err(terminal)?;
    output.printer.talk(format_args!(
        "chat with {}; /help lists the commands",
        model.description.name
    ));

    let mut messages = Vec::new();
    loop {
        let line = match lines.read() {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal(error)),
        };
        match parse(&line) {
            Line::Nothing => {}
            Line::Help => printer::say(HELP),
            Line::Clear => messages.clear(),
            Line::Exit => break,
            Line::UnknownCommand(name) => {
                printer::say(format_args!("no command `{name}`; /help lists them"));
            }
            Line::Message(text) => {
                messages.push(Message::new("user", text));
                let prompt = Prompt::Messages(messages.clone());
                match stream(model, ask, prompt, interrupt, output) {
                    Ok((_, answer)) => messages.push(ask.said(&answer.text)),
                    Err(error) => {
                        if output.printer.error(&error) == Exit::BrokenPipe {
                            return Ok(Exit::BrokenPipe);
                        }
                        messages.pop();
                    }
                }
            }
        }
    }
    if let Some(path) = history
        && let Err(error) = lines.save(path)
    {
        output
            .printer
            .talk(format_args!("could not write {}: {error}", path.display()));
    }
    Ok(Exit::Success)
}

fn parse(line: &str) -> Line<'_> {
    match line.trim() {
        "" => Line::Nothing,
        "/help" => Line::Help,
        "/clear" => Line::Clear,
        "/exit" => Line::Exit,
        // A path at the beginning of a message is no command.
        word if word
            .strip_prefix('/')
            .is_some_and(|name| name.chars().all(char::is_alphabetic)) =>
        {
            Line::UnknownCommand(word)
        }
        _ => Line::Message(line),
    }
}

/// What the user types, and has typed.
struct Lines {
    config: Config,
    history: DefaultHistory,
}

impl Lines {
    /// With the lines of earlier chats.
    fn new(history: Option<&Path>) -> EditorResult<Self> {
        let config = Config::builder()
            .auto_add_history(true)
            .max_history_size(HISTORY_LINES)?
            .build();
        let mut lines = Self {
            history: DefaultHistory::with_config(&config),
            config,
        };
        match history.map(|path| lines.history.load(path)) {
            Some(Err(ReadlineError::Io(error))) if error.kind() == io::ErrorKind::NotFound => {}
            Some(loaded) => loaded?,
            None => {}
        }
        Ok(lines)
    }

    /// The next line. The editor takes Ctrl-C for itself for as long as it lives, so it lives no
    /// longer than this.
    fn read(&mut self) -> EditorResult<String> {
        let history = mem::take(&mut self.history);
        let mut editor = Editor::<(), _>::with_history(self.config.clone(), history)?;
        let line = editor.readline(">>> ");
        self.history = mem::take(editor.history_mut());
        line
    }

    fn save(&mut self, path: &Path) -> EditorResult<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        self.history.save(path)
    }
}

fn terminal(error: ReadlineError) -> Error {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => io::Error::other(other),
    };
    Error::io("read", "the terminal")(source)
}

#[cfg(test)]
mod tests {
    use super::{Line, parse};

    #[test]
    fn only_a_single_word_after_a_slash_is_a_command() {
        assert_eq!(parse(" /clear "), Line::Clear);
        assert_eq!(parse("/quit"), Line::UnknownCommand("/quit"));
        assert_eq!(parse("/etc/hosts?"), Line::Message("/etc/hosts?"));
        assert_eq!(parse(" a  "), Line::Message(" a  "));
        assert_eq!(parse("  "), Line::Nothing);
    }
}
