//! How many tokens texts have, which need not be in memory as a whole.

use std::fs::File;
use std::io::{Read, stdin};

use mlxr::{Error, Result};

use super::{Job, input};
use crate::ui::printer;

/// Bytes that are read at a time.
const PART: u64 = 1 << 20;

/// Prints the number of tokens of each text, and of all.
pub(super) fn show(job: &Job<'_>) -> Result<()> {
    let args = job.args;
    if !args.words.is_empty() || args.file.len() == 1 || args.file.is_empty() {
        let count = match &args.file[..] {
            [path] => of_file(job, path)?,
            _ if args.words.is_empty() => count(job, stdin().lock(), "standard input")?,
            _ => {
                let inputs = input::read(args)?;
                let counts = inputs.iter().map(|input| job.count(&input.text));
                counts.sum::<Result<usize>>()?
            }
        };
        printer::data(&format!("{count}\n"))?;
        return printer::flush();
    }
    let mut sum = 0;
    for path in &args.file {
        let count = of_file(job, path)?;
        sum += count;
        printer::data(&format!("{count}\t{}\n", path.display()))?;
    }
    printer::data(&format!("{sum}\ttotal\n"))?;
    printer::flush()
}

fn of_file(job: &Job<'_>, path: &std::path::Path) -> Result<usize> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    count(job, file, &path.display().to_string())
}

/// How many tokens a text has that is called so, part by part as far as it may be cut.
fn count(job: &Job<'_>, mut source: impl Read, name: &str) -> Result<usize> {
    let (mut count, mut done) = (0, 0);
    // What is read and not counted yet; its first bytes are known to be text.
    let (mut bytes, mut known) = (Vec::new(), 0);
    loop {
        // Where there is no place to cut, ever more is read, so that what is read is looked at a few times only.
        let most = PART.max(bytes.len() as u64);
        let read = (&mut source).take(most).read_to_end(&mut bytes);
        let is_end = read.map_err(Error::io("read", name))? == 0;
        known += match std::str::from_utf8(&bytes[known..]) {
            Ok(text) => text.len(),
            // The rest of the last character is still to be read.
            Err(error) if error.error_len().is_none() && !is_end => error.valid_up_to(),
            Err(error) => {
                return Err(Error::InvalidUtf8 {
                    what: name.to_owned(),
                    offset: done + known + error.valid_up_to(),
                });
            }
        };
        let text = std::str::from_utf8(&bytes[..known]).unwrap_or_default();
        let end = if is_end {
            known
        } else {
            job.tokenizer.last_cut(text).unwrap_or(0)
        };
        count += job.count(&text[..end])?;
        if is_end {
            return Ok(count);
        }
        bytes.drain(..end);
        known -= end;
        done += end;
    }
}
