//! Where the pieces of a text end that merges never cross: the pre-tokenizers' regular expressions, by hand.
//!
//! Each file knows one family of expressions. Most of ASCII goes by bits (`Tile`); the rest goes by classes, character
//! by character, and the two agree wherever both apply.

mod cased;
mod deepseek;
mod gpt2;
mod plain;
mod rules;
mod seams;
#[cfg(test)]
mod tests;
mod tile;

use super::classes::{Class, NUMBER, SPACE, UNCASED, character_at, class_of, is_han};
pub(super) use cased::Cased;
pub(super) use deepseek::DeepSeek;
pub(super) use gpt2::Gpt2;
pub(super) use plain::Plain;
use rules::{Ascii, Rules};
pub(super) use seams::Seams;
pub(super) use tile::{PIECES, Tile};

/// A text that pieces are cut from; nothing beyond `end` is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    /// UTF-8.
    pub(super) bytes: &'a [u8],
    /// Where the text ends.
    pub(super) end: usize,
}

/// A pre-tokenizer.
pub(super) trait Scan {
    /// What it does with ASCII; `None` where that is not told by the kinds of bytes.
    fn ascii(&self) -> Option<&'static Ascii>;

    /// Where the piece that begins at `at` ends, whatever it is; behind `at`, and at `text.end` at most.
    fn piece_end(&self, text: Text<'_>, at: usize) -> usize;
}

impl Text<'_> {
    /// The byte at `at`, zero behind the end.
    fn byte(self, at: usize) -> u8 {
        if at < self.end { self.bytes[at] } else { 0 }
    }

    /// What the character at `at` is, with its length; of no class and no length behind the end.
    #[inline]
    fn class(self, at: usize) -> (Class, usize) {
        if at >= self.end {
            return (0, 0);
        }
        let (character, length) = character_at(self.bytes, at);
        (class_of(character), length)
    }

    /// Where the characters from `at` on end that are of one of these classes.
    fn run_end(self, classes: Class, mut at: usize) -> usize {
        loop {
            if is_han(self.byte(at)) && classes & UNCASED != 0 {
                at += 3;
                continue;
            }
            let (class, length) = self.class(at);
            if class & classes == 0 {
                return at;
            }
            at += length;
        }
    }

    /// Where `\p{N}{1,most}` ends.
    fn digits_end(self, most: usize, mut at: usize) -> usize {
        for _ in 0..most {
            let (class, length) = self.class(at);
            if class & NUMBER == 0 {
                break;
            }
            at += length;
        }
        at
    }

    /// Where `[\r\n]*` ends.
    fn line_ends(self, mut at: usize) -> usize {
        while is_line_end(self.byte(at)) {
            at += 1;
        }
        at
    }

    /// Where `\s*[\r\n]+|\s+(?!\S)|\s+` ends, from a white space on.
    fn space_end(self, at: usize) -> usize {
        let (end, lines, last) = self.spaces(at);
        lines.unwrap_or(if end == self.end || last == at {
            end
        } else {
            last
        })
    }

    /// Of the white space from `at` on: where it ends, where the last line in it ends, where its last character begins.
    fn spaces(self, at: usize) -> (usize, Option<usize>, usize) {
        let (mut end, mut lines, mut last) = (at, None, at);
        loop {
            let (class, length) = self.class(end);
            if class & SPACE == 0 {
                return (end, lines, last);
            }
            last = end;
            if is_line_end(self.bytes[end]) {
                lines = Some(end + 1);
            }
            end += length;
        }
    }

    /// The length of `(?i:'s|'t|'re|'ve|'m|'ll|'d)` at `at`, or zero. Case folding takes `ſ` for an s.
    fn contraction(self, at: usize) -> usize {
        if self.byte(at) != b'\'' {
            return 0;
        }
        match (self.byte(at + 1) | 0x20, self.byte(at + 2) | 0x20) {
            (b's' | b't' | b'm' | b'd', _) => 2,
            (b'r' | b'v', b'e') | (b'l', b'l') => 3,
            _ if self.bytes[at + 1..self.end].starts_with("ſ".as_bytes()) => 1 + "ſ".len(),
            _ => 0,
        }
    }
}

/// `[\r\n]`.
fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
