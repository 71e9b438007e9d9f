//! The texts to measure with, and how they are cut. Knows no tokens.

use std::fs;
use std::path::PathBuf;

use mlxr::{Error, Result};

use super::generated;
use crate::ask::prompt::utf8;

/// A text, and what it is called.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) name: String,
    pub(super) text: String,
}

/// How a text is given to a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Whole,
    /// With the ends of the lines, so that every byte counts.
    Lines,
    /// Of at most so many bytes, in whole characters.
    Pieces(usize),
}

/// All cuts that are measured.
pub(super) const CUTS: [Cut; 4] = [Cut::Whole, Cut::Lines, Cut::Pieces(4096), Cut::Pieces(100)];

impl Corpus {
    /// Reads files, or makes up a text where there are none.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::InvalidUtf8`], [`Error::Benchmark`] for an empty file.
    pub(super) fn all(files: &[PathBuf]) -> Result<Vec<Self>> {
        if files.is_empty() {
            return Ok(vec![Self {
                name: "generated".to_owned(),
                text: generated::text(),
            }]);
        }
        let read = |path: &PathBuf| {
            let name = path.display().to_string();
            let text = utf8(&name, fs::read(path).map_err(Error::io("read", path))?)?;
            if text.is_empty() {
                return Err(Error::Benchmark {
                    test: format!("--file {name}"),
                    problem: "it is empty".to_owned(),
                });
            }
            Ok(Self { name, text })
        };
        files.iter().map(read).collect()
    }

    /// The text in parts, which are all of it.
    pub(super) fn cut(&self, cut: Cut) -> Vec<&str> {
        match cut {
            Cut::Whole => vec![&self.text],
            Cut::Lines => self.text.split_inclusive('\n').collect(),
            Cut::Pieces(bytes) => pieces(&self.text, bytes),
        }
    }
}

/// A character that is longer than `bytes` is a piece of its own.
fn pieces(text: &str, bytes: usize) -> Vec<&str> {
    let mut pieces = Vec::with_capacity(text.len() / bytes + 1);
    let mut rest = text;
    while !rest.is_empty() {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let mut end = bytes.clamp(first, rest.len());
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{CUTS, Corpus, pieces};

    #[test]
    fn parts_are_whole_characters_and_all_of_the_text() {
        let corpus = &Corpus::all(&[]).unwrap()[0];
        for cut in CUTS {
            assert_eq!(corpus.cut(cut).concat(), corpus.text, "{cut:?}");
        }
        assert_eq!(pieces("aéé🙂b", 4), ["aé", "é", "🙂", "b"]);
        assert_eq!(pieces("🙂a", 1), ["🙂", "a"]);
        assert!(pieces("", 4).is_empty());
    }
}
