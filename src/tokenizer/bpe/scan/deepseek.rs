//! `DeepSeek`'s three expressions, one after the other, each within the pieces of the one before it:
//!
//! 1. `\p{N}{1,3}`
//! 2. `[一-龥぀-ゟ゠-ヿ]+`
//! 3. ``[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*``
//!    `|\s*[\r\n]+|\s+(?!\S)|\s+`
//!
//! What the third matches nothing of is a piece as well.

use super::super::classes::{LETTER, MARK, NUMBER, SPACE, SYMBOL, character_at, class_of};
use super::rules::{Digits, NO, YES};
use super::{Ascii, Rules, Scan, Text, is_line_end};

/// DeepSeek-V3 and its relatives.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct DeepSeek;

const RULES: Rules = Rules {
    marks_lead: YES,
    capitals_begin: NO,
    contractions_begin: NO,
    contractions_end: NO,
    lines_end: YES,
    digits: Digits::ThreeApart,
};

impl Scan for DeepSeek {
    fn ascii(&self) -> Option<&'static Ascii> {
        Some(&Ascii::Rules(RULES))
    }

    fn piece_end(&self, text: Text<'_>, at: usize) -> usize {
        any_end(text, at)
    }
}

/// Whether the second expression takes the character.
fn is_east_asian(character: char) -> bool {
    matches!(character, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}')
}

/// The part of a text that the third expression sees: it ends where numbers begin, and where East Asian characters
/// begin or end.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: Text<'a>,
    east_asian: bool,
}

impl Part<'_> {
    /// What the character at `at` is, with its length; `None` where the part has ended.
    fn class(self, at: usize) -> Option<(u8, usize)> {
        if at >= self.text.end {
            return None;
        }
        let (character, length) = character_at(self.text.bytes, at);
        let class = class_of(character);
        let inside = class & NUMBER == 0 && is_east_asian(character) == self.east_asian;
        inside.then_some((class, length))
    }

    fn is(self, classes: u8, at: usize) -> bool {
        self.class(at)
            .is_some_and(|(class, _)| class & classes != 0)
    }

    fn run_end(self, classes: u8, mut at: usize) -> usize {
        while let Some((class, length)) = self.class(at)
            && class & classes != 0
        {
            at += length;
        }
        at
    }

    /// Where the third expression's match at `at` ends.
    fn match_end(self, at: usize) -> Option<usize> {
        let (class, length) = self.class(at)?;
        let first = self.text.bytes[at];
        if first.is_ascii_punctuation() && self.text.byte(at + 1).is_ascii_alphabetic() {
            let letters = self.text.bytes[at + 1..self.text.end].iter();
            return Some(
                at + 1
                    + letters
                        .take_while(|byte| byte.is_ascii_alphabetic())
                        .count(),
            );
        }
        let may_lead = class & (LETTER | SYMBOL) == 0 && !is_line_end(first);
        if may_lead && self.is(LETTER | MARK, at + length) {
            return Some(self.run_end(LETTER | MARK, at + length));
        }
        if class & (LETTER | MARK) != 0 {
            return Some(self.run_end(LETTER | MARK, at));
        }
        let lead = usize::from(first == b' ');
        if self.is(SYMBOL, at + lead) {
            let end = self.run_end(SYMBOL, at + lead);
            return Some(if self.east_asian {
                end
            } else {
                self.text.line_ends(end)
            });
        }
        (class & SPACE != 0).then(|| self.space_end(at))
    }

    fn space_end(self, at: usize) -> usize {
        let (mut end, mut lines, mut last) = (at, None, at);
        while let Some((class, length)) = self.class(end)
            && class & SPACE != 0
        {
            last = end;
            if is_line_end(self.text.bytes[end]) {
                lines = Some(end + 1);
            }
            end += length;
        }
        let is_whole = last == at || self.class(end).is_none();
        lines.unwrap_or(if is_whole { end } else { last })
    }
}

/// Where the piece ends, for all characters.
fn any_end(text: Text<'_>, at: usize) -> usize {
    let (character, length) = character_at(text.bytes, at);
    if class_of(character) & NUMBER != 0 {
        return text.digits_end(3, at);
    }
    let part = Part {
        text,
        east_asian: is_east_asian(character),
    };
    if let Some(end) = part.match_end(at) {
        return end;
    }
    let mut end = at + length;
    while let Some((_, length)) = part.class(end)
        && part.match_end(end).is_none()
    {
        end += length;
    }
    end
}
