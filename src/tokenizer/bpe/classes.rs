//! What the characters of a text are, as far as pre-tokenizers ask.

use std::ops::RangeInclusive;
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

/// The classes of all characters: pages of which all are alike are kept once.
struct Table {
    /// Where each page begins, in pages.
    pages: Vec<u16>,
    classes: Vec<Class>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

/// Builds the table, so that the first text does not wait for it.
pub(super) fn prepare() {
    LazyLock::force(&TABLE);
}

impl Table {
    fn new() -> Self {
        // The first page is of no class, then comes one of each class.
        let mut table = Self {
            pages: vec![0; (char::MAX as usize + 1) / PAGE],
            classes: vec![0; PAGE],
        };
        for (pattern, class) in [
            (r"[\p{Lu}\p{Lt}]", UPPER),
            (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", UNCASED),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"[\p{P}\p{S}]", SYMBOL),
        ] {
            let whole = table.add_page(class);
            for (first, last) in ranges(pattern) {
                table.fill(first as usize, last as usize, class, whole);
            }
        }
        table
    }

    /// A new page, all of it of one class.
    fn add_page(&mut self, class: Class) -> u16 {
        let page = self.classes.len() / PAGE;
        self.classes.resize(self.classes.len() + PAGE, class);
        page as u16
    }

    /// Says of characters that they are of a class, of which `whole` is a page.
    fn fill(&mut self, first: usize, last: usize, class: Class, whole: u16) {
        for page in first / PAGE..=last / PAGE {
            let (begin, end) = (first.max(page * PAGE), last.min(page * PAGE + PAGE - 1));
            if end - begin + 1 == PAGE {
                self.pages[page] = whole;
                continue;
            }
            if self.pages[page] == 0 {
                self.pages[page] = self.add_page(0);
            }
            let at = usize::from(self.pages[page]) * PAGE;
            self.classes[at + begin % PAGE..=at + end % PAGE].fill(class);
        }
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
#[inline]
pub(super) fn class_of(character: char) -> Class {
    let table = &*TABLE;
    let code = character as usize;
    table.classes[usize::from(table.pages[code / PAGE]) * PAGE + code % PAGE]
}

/// What characters begin with from U+5000 to U+9FFF: most of Han, three bytes each, all of them [`UNCASED`] letters that
/// stand alone in Unicode's forms.
pub(super) const HAN: RangeInclusive<u8> = 0xe5..=0xe9;

/// Whether a character that begins with this byte is one of these.
#[inline]
pub(super) fn is_han(byte: u8) -> bool {
    HAN.contains(&byte)
}

/// The character that begins at `at` in bytes that are UTF-8, with its length in bytes.
///
/// `at` is where a character begins; bytes that are no UTF-8 give some character.
#[inline]
pub(super) fn character_at(text: &[u8], at: usize) -> (char, usize) {
    let four = match text[at.min(text.len())..].first_chunk() {
        Some(four) => *four,
        None => padded(text, at),
    };
    let [first, rest @ ..] = four.map(u32::from);
    let [second, third, fourth] = rest.map(|byte| byte & 0x3f);
    let (code, length) = match four[0] {
        ..0x80 => (first, 1),
        0x80..0xe0 => ((first & 0x1f) << 6 | second, 2),
        0xe0..0xf0 => ((first & 0x0f) << 12 | second << 6 | third, 3),
        0xf0.. => ((first & 0x07) << 18 | second << 12 | third << 6 | fourth, 4),
    };
    (
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
        length,
    )
}

/// The last bytes of a text, fewer than four, and zeros.
#[cold]
fn padded(text: &[u8], at: usize) -> [u8; 4] {
    std::array::from_fn(|offset| text.get(at + offset).copied().unwrap_or(0))
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
    fn han_is_told_by_a_byte() {
        for character in '\0'..=char::MAX {
            let first = character.to_string().as_bytes()[0];
            let is_within = matches!(character, '\u{5000}'..='\u{9fff}');
            assert_eq!(is_han(first), is_within, "{character:?}");
            assert!(
                !is_within || class_of(character) == UNCASED,
                "{character:?}"
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
