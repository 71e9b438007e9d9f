//! The expression of GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

use super::super::classes::{LETTER, NUMBER, SPACE};
use super::rules::{Digits, NO, YES};
use super::{Ascii, Rules, Scan, Text};

/// GPT-2.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Gpt2;

const RULES: Rules = Rules {
    marks_lead: NO,
    capitals_begin: NO,
    contractions_begin: YES,
    contractions_end: NO,
    lines_end: NO,
    digits: Digits::Words,
};

impl Scan for Gpt2 {
    fn ascii(&self) -> Option<&'static Ascii> {
        Some(&Ascii::Rules(RULES))
    }

    fn piece_end(&self, text: Text<'_>, at: usize) -> usize {
        any_end(text, at)
    }
}

/// Where the piece ends, for all characters.
fn any_end(text: Text<'_>, at: usize) -> usize {
    let contraction = contraction(text, at);
    if contraction > 0 {
        return at + contraction;
    }
    let start = at + usize::from(text.bytes[at] == b' ');
    let (class, _) = text.class(start);
    if start < text.end && class & SPACE == 0 {
        if let Some(kind) = [LETTER, NUMBER].into_iter().find(|kind| class & kind != 0) {
            return text.run_end(kind, start);
        }
        let mut end = start;
        while end < text.end && text.class(end).0 & (SPACE | LETTER | NUMBER) == 0 {
            end += text.class(end).1;
        }
        return end;
    }
    let (end, _, last) = text.spaces(at);
    if end == text.end || last == at {
        end
    } else {
        last
    }
}

/// The length of `'s|'t|'re|'ve|'m|'ll|'d` at `at`, or zero.
fn contraction(text: Text<'_>, at: usize) -> usize {
    match [text.byte(at), text.byte(at + 1), text.byte(at + 2)] {
        [b'\'', b's' | b't' | b'm' | b'd', _] => 2,
        [b'\'', b'r' | b'v', b'e'] | [b'\'', b'l', b'l'] => 3,
        _ => 0,
    }
}
