//! The expression of cl100k and its relatives, in which letters have no case:
//!
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

use super::super::classes::{Class, LETTER, NUMBER, SPACE};
use super::rules::{Digits, NO, YES};
use super::{Ascii, Rules, Scan, Text, is_line_end};

/// cl100k, Llama 3, Qwen and GLM: they differ in two things.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Plain {
    /// What a word is made of: letters, or letters and marks.
    pub(in super::super) word: Class,
    /// Digits of a piece at most.
    pub(in super::super) digits: usize,
}

const THREE: Rules = Rules {
    marks_lead: YES,
    capitals_begin: NO,
    contractions_begin: YES,
    contractions_end: NO,
    lines_end: YES,
    digits: Digits::Three,
};

const SINGLE: Rules = Rules {
    digits: Digits::Single,
    ..THREE
};

impl Scan for Plain {
    fn ascii(&self) -> Option<&'static Ascii> {
        Some(match self.digits {
            1 => &Ascii::Rules(SINGLE),
            _ => &Ascii::Rules(THREE),
        })
    }

    fn piece_end(&self, text: Text<'_>, at: usize) -> usize {
        self.any_end(text, at)
    }
}

impl Plain {
    /// Where the piece ends, for all characters.
    fn any_end(self, text: Text<'_>, at: usize) -> usize {
        let contraction = text.contraction(at);
        if contraction > 0 {
            return at + contraction;
        }
        let (first, length) = text.class(at);
        let may_lead = first & (LETTER | NUMBER) == 0 && !is_line_end(text.bytes[at]);
        if may_lead && text.class(at + length).0 & self.word != 0 {
            return text.run_end(self.word, at + length);
        }
        if first & self.word != 0 {
            return text.run_end(self.word, at);
        }
        if first & NUMBER != 0 {
            return text.digits_end(self.digits, at);
        }
        let named = SPACE | NUMBER | self.word;
        let is_other = |at: usize| at < text.end && text.class(at).0 & named == 0;
        let lead = usize::from(text.bytes[at] == b' ');
        if is_other(at + lead) {
            let mut end = at + lead;
            while is_other(end) {
                end += text.class(end).1;
            }
            return text.line_ends(end);
        }
        text.space_end(at)
    }
}
