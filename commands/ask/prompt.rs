//! Where the prompt comes from: words, standard input, or both. Knows nothing of models.

use std::ffi::OsString;
use std::io::Read;

use mlxr::{Error, Result};

/// What there is to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This text.
    Text(String),
    /// Each line of standard input is a request.
    Lines,
    /// What the user will type.
    Chat,
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// Standard input is a terminal.
    pub(crate) stdin_terminal: bool,
    /// A chat is possible: standard output is a terminal, and text was asked for.
    pub(crate) may_chat: bool,
    /// Lines of JSON were asked for.
    pub(crate) lines: bool,
}

/// Decides, and reads `stdin` where it is (part of) the prompt.
///
/// # Errors
/// [`Error::EmptyPrompt`] where there is nothing at all, [`Error::InvalidUtf8`], or
/// [`Error::Io`] from reading.
pub(crate) fn source(
    words: &[OsString],
    situation: Situation,
    mut stdin: impl Read,
) -> Result<Source> {
    let (forced, words) = match words {
        [first, rest @ ..] if first == "-" => (true, rest),
        words => (false, words),
    };
    if words.is_empty() && !forced {
        match situation {
            Situation {
                stdin_terminal: true,
                may_chat: true,
                ..
            } => return Ok(Source::Chat),
            Situation {
                stdin_terminal: false,
                lines: true,
                ..
            } => return Ok(Source::Lines),
            Situation { .. } => {}
        }
    }
    let mut bytes = Vec::new();
    if forced || !situation.stdin_terminal {
        stdin
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", "standard input"))?;
    }
    let piped = utf8("standard input", bytes)?;
    let piped = piped.strip_suffix('\n').unwrap_or(&piped);
    let words = utf8("the prompt", words.join(" ".as_ref()).into_encoded_bytes())?;
    match (piped, words.as_str()) {
        ("", "") => Err(Error::EmptyPrompt),
        (text, "") | ("", text) => Ok(Source::Text(text.to_owned())),
        (piped, words) => Ok(Source::Text(format!("{piped}\n\n{words}"))),
    }
}

/// Bytes as text; `what` they are, for the message.
pub(crate) fn utf8(what: impl Into<String>, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::InvalidUtf8 {
        what: what.into(),
        offset: error.utf8_error().valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::{self, Read};

    use mlxr::Error;

    use super::{Situation, Source, source};

    const PIPE: Situation = Situation {
        stdin_terminal: false,
        may_chat: false,
        lines: false,
    };
    const TERMINAL: Situation = Situation {
        stdin_terminal: true,
        may_chat: true,
        lines: false,
    };

    /// Fails the test when it is read.
    struct Untouchable;

    impl Read for Untouchable {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("standard input was read");
        }
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(Into::into).collect()
    }

    fn text(given: &[&str], stdin: &str) -> Option<String> {
        match source(&words(given), PIPE, stdin.as_bytes()) {
            Ok(Source::Text(text)) => Some(text),
            Err(Error::EmptyPrompt) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pipe_comes_first_then_a_blank_line_then_the_words() {
        assert_eq!(text(&["a", "b"], "pipe\n").as_deref(), Some("pipe\n\na b"));
        assert_eq!(text(&[], "pipe\n").as_deref(), Some("pipe"));
        assert_eq!(text(&["a"], "").as_deref(), Some("a"));
        assert_eq!(text(&["a"], "\n").as_deref(), Some("a"));
        assert_eq!(text(&["-", "a"], "pipe").as_deref(), Some("pipe\n\na"));
        assert_eq!(text(&[], ""), None);
        assert_eq!(text(&["-"], "\n"), None);
    }

    #[test]
    fn nothing_but_one_newline_is_changed() {
        assert_eq!(text(&[], " a\\n\r\n\n").as_deref(), Some(" a\\n\r\n"));
        assert_eq!(text(&["3", "-", "2\\n "], "").as_deref(), Some("3 - 2\\n "));
    }

    #[test]
    fn a_terminal_is_read_only_when_forced() {
        let given = source(&words(&["a"]), TERMINAL, Untouchable).unwrap();
        assert_eq!(given, Source::Text("a".into()));
        assert_eq!(source(&[], TERMINAL, Untouchable).unwrap(), Source::Chat);
        let forced = source(&words(&["-"]), TERMINAL, "typed\n".as_bytes()).unwrap();
        assert_eq!(forced, Source::Text("typed".into()));
        let no_chat = Situation {
            may_chat: false,
            ..TERMINAL
        };
        assert!(matches!(
            source(&[], no_chat, Untouchable),
            Err(Error::EmptyPrompt)
        ));
    }

    #[test]
    fn lines_are_requests_only_when_they_are_the_only_input() {
        let lines = Situation {
            lines: true,
            ..PIPE
        };
        assert_eq!(source(&[], lines, Untouchable).unwrap(), Source::Lines);
        let forced = source(&words(&["-"]), lines, "a".as_bytes()).unwrap();
        assert_eq!(forced, Source::Text("a".into()));
        let both = source(&words(&["b"]), lines, "a".as_bytes()).unwrap();
        assert_eq!(both, Source::Text("a\n\nb".into()));
    }

    #[test]
    fn the_first_bad_byte_is_named() {
        let error = source(&[], PIPE, &b"caf\xc3\xa9 \xff"[..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "standard input is not valid UTF-8 at byte 6"
        );
    }
}
