//! What is done to a text between two added tokens before it is cut into pieces, and which byte comes from which.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use unicode_normalization_alignments::{
    IsNormalized, UnicodeNormalization, char::canonical_combining_class, is_nfc_quick,
};

use super::classes::{HAN, character_at};
use super::structure::{Before, Normal};
use crate::kernels::text::{BLOCK, within};

/// How SentencePiece writes a space.
const SPACE_MARK: &str = "▁";

/// What becomes of a text. `is_first` says whether the whole text begins with it.
pub(super) fn normalize(normal: Normal, text: &str, is_first: bool) -> Cow<'_, str> {
    match normal {
        Normal::Same => Cow::Borrowed(text),
        Normal::Composed => compose(text),
        Normal::Spaces { before, .. } => {
            let begins = text.starts_with([' ', '▁']);
            let adds = match before {
                Before::Nothing => false,
                Before::Each => !text.is_empty(),
                Before::First => is_first && !begins && !text.is_empty(),
            };
            let has_marks = || {
                let first = SPACE_MARK.as_bytes()[0];
                memchr::memchr(first, text.as_bytes()).is_some_and(|at| text[at..].contains('▁'))
            };
            if !adds && !has_marks() {
                return Cow::Borrowed(text);
            }
            let mut spaced = String::with_capacity(text.len() + 1);
            if adds {
                spaced.push(' ');
            }
            let mut rest = text;
            while let Some(at) = memchr::memmem::find(rest.as_bytes(), SPACE_MARK.as_bytes()) {
                spaced.push_str(&rest[..at]);
                spaced.push(' ');
                rest = &rest[at + SPACE_MARK.len()..];
            }
            spaced.push_str(rest);
            Cow::Owned(spaced)
        }
    }
}

/// Where each byte of a normalized text comes from: the bytes of the original from the first number up to the second.
pub(super) fn origins(normal: Normal, text: &str, normalized: &str) -> Vec<(usize, usize)> {
    let mut origins = Vec::with_capacity(normalized.len());
    match normal {
        Normal::Same => each_character(text, &mut origins),
        Normal::Composed => composed_origins(text, &mut origins),
        Normal::Spaces { .. } => {
            let spaces = |text: &str| {
                text.chars()
                    .filter(|character| matches!(character, ' ' | '▁'))
                    .count()
            };
            if spaces(normalized) > spaces(text) {
                origins.push((0, text.chars().next().map_or(0, char::len_utf8)));
            }
            for (begin, character) in text.char_indices() {
                let end = begin + character.len_utf8();
                let length = if character == '▁' { 1 } else { end - begin };
                origins.extend(std::iter::repeat_n((begin, end), length));
            }
        }
    }
    origins
}

fn each_character(text: &str, origins: &mut Vec<(usize, usize)>) {
    for (begin, character) in text.char_indices() {
        let end = begin + character.len_utf8();
        origins.extend(std::iter::repeat_n((begin, end), end - begin));
    }
}

/// A composed character comes from the first of those that it is made of.
fn composed_origins(text: &str, origins: &mut Vec<(usize, usize)>) {
    let mut originals = text
        .char_indices()
        .map(|(begin, character)| (begin, begin + character.len_utf8()));
    let mut origin = (0, 0);
    for (character, change) in text.nfc() {
        // More than zero: one more than there were. Less: that many of those that follow went into it.
        if change <= 0 {
            origin = originals.next().unwrap_or(origin);
        }
        origins.extend(std::iter::repeat_n(origin, character.len_utf8()));
        let removed = usize::try_from(-change).unwrap_or(0);
        if removed > 0 {
            origin = originals.nth(removed - 1).unwrap_or(origin);
        }
    }
}

/// Whether a character is never composed with one before it, nor reordered, nor replaced.
fn stands_alone(character: char) -> bool {
    character < '\u{300}'
        || (canonical_combining_class(character) == 0
            && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes)
}

/// Characters of a page.
const PAGE: usize = 64;

/// A bit for each character of a page that stands alone; zero where that is not known yet.
static PAGES: [AtomicU64; 0x11_0000 / PAGE] = [const { AtomicU64::new(0) }; _];

/// Unicode's form C: all that does not stand alone is composed together with the character before it.
fn compose(text: &str) -> Cow<'_, str> {
    let (mut composed, mut done) = (String::new(), 0);
    let mut at = 0;
    while let Some(found) = next_dependent(text, at) {
        let begin = text[done..found]
            .char_indices()
            .next_back()
            .map_or(done, |(at, _)| done + at);
        let dependents = text[found..]
            .char_indices()
            .find(|(_, character)| is_alone(*character));
        let end = dependents.map_or(text.len(), |(length, _)| found + length);
        composed.push_str(&text[done..begin]);
        composed.extend(text[begin..end].nfc().map(|(character, _)| character));
        (done, at) = (end, end);
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    composed.push_str(&text[done..]);
    Cow::Owned(composed)
}

/// Where the next character is that does not stand alone.
fn next_dependent(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let blocks = (at..bytes.len()).step_by(BLOCK);
    for begin in blocks {
        let block = &bytes[begin..];
        // Characters from U+0300 on begin with a byte from 0xcc on, of which most of Han is known.
        let mut others = within(block, 0xcc..=0xff);
        if others != 0 {
            others &= !within(block, HAN);
        }
        while others != 0 {
            let at = begin + others.trailing_zeros() as usize;
            if !is_alone(character_at(bytes, at).0) {
                return Some(at);
            }
            others &= others - 1;
        }
    }
    None
}

/// Whether a character stands alone, remembered by pages.
#[inline]
fn is_alone(character: char) -> bool {
    let code = character as usize;
    let known = match PAGES[code / PAGE].load(Ordering::Relaxed) {
        0 => learn(code / PAGE),
        known => known,
    };
    known >> (code % PAGE) & 1 == 1
}

/// Which characters of a page stand alone.
#[cold]
fn learn(page: usize) -> u64 {
    let is_alone =
        |offset: &usize| char::from_u32((page * PAGE + offset) as u32).is_none_or(stands_alone);
    let known = (0..PAGE)
        .filter(is_alone)
        .fold(0, |known, offset| known | 1 << offset);
    PAGES[page].store(known, Ordering::Relaxed);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn han_stands_alone() {
        let mut han = '\u{5000}'..='\u{9fff}';
        assert!(han.all(|character| stands_alone(character) && is_alone(character)));
    }
}
