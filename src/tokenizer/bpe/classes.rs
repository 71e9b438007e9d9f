//! What the characters of a text are, as far as pre-tokenizers ask.

use std::sync::LazyLock;

/// A set of the kinds below; a character is of one, or of none.
pub(super) type Class = u8;

/// `\p{Lu}` and `\p{Lt}`.
pub(super) const UPPER: Class = 1;
/// `\p{Ll}`.
pub(super) const LOWER: Class = 2;
/// `\p{Lm}` and `\p{Lo}`.
pub(super) const UNCASED: Class = 4;
/// `\p{M}`.
pub(super) const MARK: Class = 8;
/// `\p{N}`.
pub(super) const NUMBER: Class = 16;
/// `\s`.
pub(super) const SPACE: Class = 32;
/// `\p{P}` and `\p{S}`.
pub(super) const SYMBOL: Class = 64;
/// `\p{L}`.
pub(super) const LETTER: Class = UPPER | LOWER | UNCASED;

/// Characters of one page of the table.
const PAGE: usize = 256;

/// The classes of all characters: equal pages are kept once.
struct Table {
    /// Where each page begins, in pages.
    pages: Vec<u16>,
    classes: Vec<Class>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

impl Table {
    fn new() -> Self {
        let mut all = vec![0; char::MAX as usize + 1];
        for (pattern, class) in [
            (r"[\p{Lu}\p{Lt}]", UPPER),
            (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", UNCASED),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"[\p{P}\p{S}]", SYMBOL),
        ] {
            for (first, last) in ranges(pattern) {
                all[first as usize..=last as usize].fill(class);
            }
        }
        let mut table = Self {
            pages: Vec::new(),
            classes: Vec::new(),
        };
        for page in all.chunks(PAGE) {
            let known = table.classes.chunks(PAGE).position(|known| known == page);
            let at = known.unwrap_or_else(|| {
                table.classes.extend_from_slice(page);
                table.classes.len() / PAGE - 1
            });
            table.pages.push(at as u16);
        }
        table
    }
}

/// The characters that a class of regular expressions describes.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(pattern);
    let Ok(regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class))) =
        parsed.map(regex_syntax::hir::Hir::into_kind)
    else {
        unreachable!("the patterns above are classes of characters");
    };
    class
        .iter()
        .map(|range| (range.start(), range.end()))
        .collect()
}

/// What a character is.
pub(super) fn class_of(character: char) -> Class {
    let table = &*TABLE;
    let code = character as usize;
    table.classes[usize::from(table.pages[code / PAGE]) * PAGE + code % PAGE]
}

/// The character that begins at `at` in bytes that are UTF-8, with its length in bytes.
///
/// `at` is where a character begins; bytes that are no UTF-8 give some character.
pub(super) fn character_at(text: &[u8], at: usize) -> (char, usize) {
    let byte = |offset: usize| u32::from(text.get(at + offset).copied().unwrap_or(0) & 0x3f);
    let first = text.get(at).copied().unwrap_or(0);
    let (code, length) = match first {
        ..0x80 => (u32::from(first), 1),
        0x80..0xe0 => (u32::from(first & 0x1f) << 6 | byte(1), 2),
        0xe0..0xf0 => (u32::from(first & 0x0f) << 12 | byte(1) << 6 | byte(2), 3),
        0xf0.. => {
            let high = u32::from(first & 0x07) << 18;
            (high | byte(1) << 12 | byte(2) << 6 | byte(3), 4)
        }
    };
    (
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
        length,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_read_as_the_standard_library_reads_them() {
        let text: String = (0..=0x0010_ffff)
            .step_by(37)
            .filter_map(char::from_u32)
            .collect();
        for (at, character) in text.char_indices() {
            assert_eq!(
                character_at(text.as_bytes(), at),
                (character, character.len_utf8())
            );
        }
    }

    #[test]
    fn a_character_is_of_one_class() {
        for (character, class) in [
            ('A', UPPER),
            ('ǅ', UPPER),
            ('é', LOWER),
            ('ʰ', UNCASED),
            ('中', UNCASED),
            ('\u{301}', MARK),
            ('٣', NUMBER),
            ('½', NUMBER),
            ('\u{85}', SPACE),
            ('\u{3000}', SPACE),
            ('_', SYMBOL),
            ('€', SYMBOL),
            ('\0', 0),
            ('\u{200d}', 0),
            ('\u{10ffff}', 0),
        ] {
            assert_eq!(class_of(character), class, "{character:?}");
        }
    }
}
