//! The texts: words, files, or standard input.

use std::fs;
use std::io::{BufRead, BufReader, Read, stdin};

use mlxr::{Error, Result};
use serde_json::Value;

use crate::args::Tokenize;
use crate::ask::prompt::utf8;
use crate::ui::printer;

/// A text, and what it is called.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) text: String,
}

/// All texts.
///
/// # Errors
/// [`Error::Io`], [`Error::InvalidUtf8`].
pub(super) fn read(args: &Tokenize) -> Result<Vec<Input>> {
    if !args.words.is_empty() {
        let words = args.words.join(" ".as_ref()).into_encoded_bytes();
        let text = utf8("the text", words)?;
        return Ok(vec![Input {
            name: "the text".to_owned(),
            text,
        }]);
    }
    if args.file.is_empty() {
        let (name, mut bytes) = ("standard input", Vec::new());
        stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", name))?;
        return Ok(vec![Input {
            name: name.to_owned(),
            text: utf8(name, bytes)?,
        }]);
    }
    let files = args.file.iter().map(|path| {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Ok(Input {
            text: utf8(&name, bytes)?,
            name,
        })
    });
    files.collect()
}

/// Answers each line of the input by a line; blank lines ask nothing.
///
/// # Errors
/// [`Error::Io`], [`Error::InvalidUtf8`], and what `answer` says of the first line that is wrong, with its number.
pub(super) fn each_line(args: &Tokenize, answer: impl Fn(&Value) -> Result<Value>) -> Result<()> {
    let (name, lines): (String, Box<dyn BufRead>) = match &args.file[..] {
        [] if args.words.is_empty() => ("standard input".to_owned(), Box::new(stdin().lock())),
        [path] => {
            let file = fs::File::open(path).map_err(Error::io("read", path))?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        }
        _ => {
            let problem = "lines are read from one file, or from standard input".to_owned();
            return Err(Error::Request {
                field: "jsonl",
                problem,
            });
        }
    };
    for (number, line) in (1..).zip(lines.split(b'\n')) {
        let line = line.map_err(Error::io("read", &name))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("line {number} of {name}");
        let line = utf8(&place, line)?;
        let value = serde_json::from_str(&line).map_err(|error| Error::Request {
            field: "jsonl",
            problem: format!("not JSON: {error}"),
        });
        let answered = value.and_then(|value| answer(&value));
        printer::json(&answered.map_err(Error::in_part(place))?)?;
    }
    printer::flush()
}
