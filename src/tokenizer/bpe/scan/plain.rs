//! The expression of cl100k and its relatives, in which letters have no case:
//!
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

use super::super::classes::{Class, LETTER, NUMBER, SPACE};
use super::{Scan, Text, Tile, is_line_end};

/// cl100k, Llama 3, Qwen and GLM: they differ in two things.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Plain {
    /// What a word is made of: letters, or letters and marks.
    pub(in super::super) word: Class,
    /// Digits of a piece at most.
    pub(in super::super) digits: usize,
}

impl Scan for Plain {
    #[inline]
    fn piece_end(&self, text: Text<'_>, tile: &mut Tile, at: usize) -> usize {
        let (first, second) = (text.bytes[at], text.byte(at + 1));
        let lead = usize::from(!first.is_ascii_alphabetic());
        let begins_word = lead == 0
            || (second.is_ascii_alphabetic() && !first.is_ascii_digit() && !is_line_end(first));
        if begins_word && first < 0x80 && first != b'\'' {
            let length = tile.window(text, at).letters(lead);
            if length < 64 && !text.is_beyond_ascii(at + length) {
                return at + length;
            }
            return self.any_end(text, at);
        }
        self.other_end(text, tile, at)
    }
}

impl Plain {
    /// Where a piece ends that is no word of ASCII, or a word behind an apostrophe.
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
                text.line_ends(at + other)
            }
            ..0x80 if first != b'\'' => {
                let other = tile.window(text, at).other(0);
                if other == 64 {
                    return self.any_end(text, at);
                }
                text.line_ends(at + other)
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
