//! The expression of o200k and its relatives, which parts words where small letters are followed by capitals:
//!
//! `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
//! `|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
//! `|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

use super::super::classes::{LETTER, LOWER, MARK, NUMBER, SPACE, UNCASED, UPPER};
use super::{Scan, Text, Tile, is_line_end};

/// o200k, and Mistral's: they differ in two things.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Cased {
    /// Whether a word takes `'s` and the like along.
    pub(in super::super) contractions: bool,
    /// Digits of a piece at most.
    pub(in super::super) digits: usize,
}

impl Scan for Cased {
    #[inline]
    fn piece_end(&self, text: Text<'_>, tile: &mut Tile, at: usize) -> usize {
        let (first, second) = (text.bytes[at], text.byte(at + 1));
        let lead = usize::from(!first.is_ascii_alphabetic());
        let leads = second.is_ascii_alphabetic() && !first.is_ascii_digit() && !is_line_end(first);
        if (lead == 0 || leads) && first < 0x80 {
            let window = tile.window(text, at);
            let upper = window.upper(lead);
            let end = at + window.lower(upper);
            if upper == 64 || end - at == 64 || text.is_beyond_ascii(end) {
                return self.any_end(text, at);
            }
            return if text.byte(end) == b'\'' {
                self.word_end(text, end)
            } else {
                end
            };
        }
        self.other_end(text, tile, at)
    }
}

impl Cased {
    /// Where a piece ends that is no word of ASCII.
    fn other_end(self, text: Text<'_>, tile: &mut Tile, at: usize) -> usize {
        let first = text.bytes[at];
        let end = match first {
            b'0'..=b'9' => {
                let rest =
                    (at + 1..at + self.digits).take_while(|at| text.byte(*at).is_ascii_digit());
                let end = at + 1 + rest.count();
                if end - at == self.digits {
                    return end;
                }
                end
            }
            b'\t'..=b'\r' | b' ' => {
                let window = tile.window(text, at);
                let (other, spaces) = (window.other(1), window.space(0));
                if spaces == 64 || other == 64 || text.is_beyond_ascii(at + spaces) {
                    return self.any_end(text, at);
                }
                if first != b' ' || other == 1 {
                    return text.ascii_space_end(at, at + spaces);
                }
                tail_end(text, at + other)
            }
            ..0x80 => {
                let other = tile.window(text, at).other(0);
                if other == 64 {
                    return self.any_end(text, at);
                }
                tail_end(text, at + other)
            }
            _ => return self.any_end(text, at),
        };
        if text.is_beyond_ascii(end) {
            self.any_end(text, at)
        } else {
            end
        }
    }

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
