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

/// Answers each line of the input by a line.
///
/// # Errors
/// [`Error::Io`], and what `answer` says of the first line that is wrong, with its number.
pub(super) fn each_line(args: &Tokenize, answer: impl Fn(&Value) -> Result<Value>) -> Result<()> {
    let lines: Box<dyn BufRead> = match &args.file[..] {
        [] if args.words.is_empty() => Box::new(stdin().lock()),
        [path] => Box::new(BufReader::new(
            fs::File::open(path).map_err(Error::io("read", path))?,
        )),
        _ => {
            let problem = "lines are read from one file, or from standard input".to_owned();
            return Err(Error::Request {
                field: "jsonl",
                problem,
            });
        }
    };
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.map_err(Error::io("read", "the lines"))?;
        let refuse = |problem: String| Error::Request {
            field: "jsonl",
            problem: format!("line {number}: {problem}"),
        };
        let value =
            serde_json::from_str(&line).map_err(|error| refuse(format!("not JSON: {error}")))?;
        printer::json(&answer(&value).map_err(|error| refuse(error.to_string()))?)?;
    }
    printer::flush()
}
