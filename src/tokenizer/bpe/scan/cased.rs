//! The expression of o200k and its relatives, which parts words where small letters are followed by capitals:
//!
//! `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
//! `|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
//! `|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

use super::super::classes::{LETTER, LOWER, MARK, NUMBER, SPACE, UNCASED, UPPER};
use super::rules::{Digits, NO, YES};
use super::{Ascii, Rules, Scan, Text, is_line_end};

/// o200k, and Mistral's: they differ in two things.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Cased {
    /// Whether a word takes `'s` and the like along.
    pub(in super::super) contractions: bool,
    /// Digits of a piece at most.
    pub(in super::super) digits: usize,
}

const THREE: Rules = Rules {
    marks_lead: YES,
    capitals_begin: YES,
    contractions_begin: NO,
    contractions_end: NO,
    lines_end: YES,
    digits: Digits::Three,
};

const SINGLE: Rules = Rules {
    digits: Digits::Single,
    ..THREE
};

const THREE_CONTRACTED: Rules = Rules {
    contractions_end: YES,
    ..THREE
};

const SINGLE_CONTRACTED: Rules = Rules {
    contractions_end: YES,
    ..SINGLE
};

impl Scan for Cased {
    fn ascii(&self) -> Option<&'static Ascii> {
        Some(match (self.contractions, self.digits) {
            (true, 1) => &Ascii::Rules(SINGLE_CONTRACTED),
            (true, _) => &Ascii::Rules(THREE_CONTRACTED),
            (false, 1) => &Ascii::Rules(SINGLE),
            (false, _) => &Ascii::Rules(THREE),
        })
    }

    fn piece_end(&self, text: Text<'_>, at: usize) -> usize {
        self.any_end(text, at)
    }
}

impl Cased {
    /// Where the piece ends, for all characters.
    fn any_end(self, text: Text<'_>, at: usize) -> usize {
        let (first, length) = text.class(at);
        let may_lead = first & (LETTER | NUMBER) == 0 && !is_line_end(text.bytes[at]);
        let led = may_lead.then_some(at + length);
        for letters_end in [ends_small, ends_large] {
            for start in led.into_iter().chain([at]) {
                if let Some(end) = letters_end(text, start) {
                    return self.word_end(text, end);
                }
            }
        }
        if first & NUMBER != 0 {
            return text.digits_end(self.digits, at);
        }
        let is_other =
            |at: usize| at < text.end && text.class(at).0 & (SPACE | LETTER | NUMBER) == 0;
        let lead = usize::from(text.bytes[at] == b' ');
        if is_other(at + lead) {
            let mut end = at + lead;
            while is_other(end) {
                end += text.class(end).1;
            }
            return tail_end(text, end);
        }
        text.space_end(at)
    }

    /// Where a word ends whose letters end at `end`.
    fn word_end(self, text: Text<'_>, end: usize) -> usize {
        if self.contractions {
            end + text.contraction(end)
        } else {
            end
        }
    }
}

/// What a word may begin with.
const LARGE: u8 = UPPER | UNCASED | MARK;
/// What a word may end with.
const SMALL: u8 = LOWER | UNCASED | MARK;

/// Where `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` ends.
fn ends_small(text: Text<'_>, at: usize) -> Option<usize> {
    let (mut large, mut last_small) = (at, None);
    loop {
        let (class, length) = text.class(large);
        if class & LARGE == 0 {
            break;
        }
        large += length;
        if class & SMALL != 0 {
            last_small = Some(large);
        }
    }
    let end = text.run_end(SMALL, large);
    // Where no small letter follows, the last that is neither small nor large ends the word.
    if end > large { Some(end) } else { last_small }
}

/// Where `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` ends.
fn ends_large(text: Text<'_>, at: usize) -> Option<usize> {
    let large = text.run_end(LARGE, at);
    (large > at).then(|| text.run_end(SMALL, large))
}

/// Where `[\r\n/]*` ends.
fn tail_end(text: Text<'_>, mut at: usize) -> usize {
    while is_line_end(text.byte(at)) || text.byte(at) == b'/' {
        at += 1;
    }
    at
}
