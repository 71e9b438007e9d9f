//! The expression of GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

use super::super::classes::{LETTER, NUMBER, SPACE};
use super::{Scan, Text, Tile};

/// GPT-2.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Gpt2;

impl Scan for Gpt2 {
    #[inline]
    fn piece_end(&self, text: Text<'_>, tile: &mut Tile, at: usize) -> usize {
        let (first, second) = (text.bytes[at], text.byte(at + 1));
        let lead = usize::from(first == b' ');
        let head = if lead == 1 { second } else { first };
        if head >= 0x80 || first == b'\'' {
            return any_end(text, at);
        }
        let window = tile.window(text, at);
        let length = if head.is_ascii_alphabetic() {
            window.letters(lead)
        } else if head.is_ascii_digit() || at + lead == text.end {
            return any_end(text, at);
        } else if matches!(head, b'\t'..=b'\r' | b' ') {
            let spaces = window.space(0);
            let next = at + spaces;
            let is_whole = next == text.end || spaces == 1;
            // What begins behind the last of several spaces takes that one along.
            return match text.byte(next) {
                0x80.. => any_end(text, at),
                _ if spaces == 64 => any_end(text, at),
                _ if is_whole => next,
                _ => next - 1,
            };
        } else {
            window.other(lead)
        };
        if length == 64 || text.is_beyond_ascii(at + length) {
            return any_end(text, at);
        }
        at + length
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
