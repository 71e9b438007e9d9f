//! A text is parted at added tokens, and what is between them is normalized.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::added::{Added, Part};
use super::scratch::Scratch;
use super::structure::Normal;
use super::{Encoder, PASSAGE, Spanned, build, normal};

/// A stretch of text between added tokens, normalized.
pub(super) struct Stretch<'a> {
    /// Where the original begins in the whole text.
    at: usize,
    original: &'a str,
    normal: Normal,
    normalized: Cow<'a, str>,
    /// Where its bytes come from, once somebody asks.
    origins: OnceCell<Vec<(usize, usize)>>,
}

/// What the parts of a text are given to.
pub(super) trait Take {
    /// An added token, from `begin` to `end` of the stretch's normalized text.
    fn added(&mut self, stretch: &Stretch<'_>, token: u32, begin: usize, end: usize);
    /// Text, likewise.
    fn text(&mut self, stretch: &Stretch<'_>, begin: usize, end: usize);
}

impl Encoder {
    /// A short text normalized, if none of it may be an added token, as far as that is told at once.
    pub(super) fn whole<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        let is_free = |added: &Option<Added>, text: &str| {
            let added = added.as_ref();
            added.is_none_or(|added| added.are_absent(text.as_bytes()))
        };
        // Doing a long one over again would take longer than parting it.
        if text.len() > PASSAGE || !is_free(&self.raw, text) {
            return None;
        }
        let normalized = normal::normalize(self.normal, text, true);
        let sought = if build::early(self.normal) == self.normal {
            &normalized
        } else {
            text
        };
        is_free(&self.normalized, sought).then_some(normalized)
    }

    /// Parts a text at added tokens and normalizes what is between them.
    pub(super) fn walk(&self, text: &str, special: bool, take: &mut impl Take) {
        let early = build::early(self.normal);
        let whole = Stretch::new(Normal::Same, 0, text);
        split(self.raw.as_ref(), text, special, |part| {
            if let Some(token) = part.token {
                return take.added(&whole, token, part.begin, part.end);
            }
            let stretch = Stretch::new(early, part.begin, &text[part.begin..part.end]);
            split(
                self.normalized.as_ref(),
                &stretch.normalized,
                special,
                |inner| match inner.token {
                    Some(token) => take.added(&stretch, token, inner.begin, inner.end),
                    None if early == self.normal => take.text(&stretch, inner.begin, inner.end),
                    None => {
                        let text = &stretch.original[inner.begin..inner.end];
                        let late = Stretch::new(self.normal, stretch.at + inner.begin, text);
                        take.text(&late, 0, late.normalized.len());
                    }
                },
            );
        });
    }
}

impl<'a> Stretch<'a> {
    fn new(normal: Normal, at: usize, original: &'a str) -> Self {
        Self {
            at,
            original,
            normal,
            normalized: normal::normalize(normal, original, at == 0),
            origins: OnceCell::new(),
        }
    }
}

impl Stretch<'_> {
    /// A token, with the part of the whole text that these bytes of the normalized text come from.
    fn span(&self, token: u32, begin: usize, end: usize) -> Spanned {
        if let Cow::Borrowed(text) = self.normalized {
            // Nothing was changed, so whole characters are all that there is to find.
            let is_inside = |at: &usize| !text.is_char_boundary(*at);
            let first = (0..=begin).rev().take_while(is_inside).count();
            let last = (end..text.len()).take_while(is_inside).count();
            return Spanned {
                token,
                begin: self.at + begin - first,
                end: self.at + end + last,
            };
        }
        let origins = || normal::origins(self.normal, self.original, &self.normalized);
        let origins = self.origins.get_or_init(origins);
        let (first, last) = (origins[begin], origins[end - 1]);
        Spanned {
            token,
            begin: self.at + first.0,
            end: self.at + last.1,
        }
    }
}

/// Parts a text at added tokens, if there are any.
fn split(added: Option<&Added>, text: &str, special: bool, mut give: impl FnMut(Part)) {
    match added {
        Some(added) => added.split(text.as_bytes(), special, give),
        None if text.is_empty() => {}
        None => give(Part {
            token: None,
            begin: 0,
            end: text.len(),
        }),
    }
}

/// Takes ids.
pub(super) struct Ids<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) scratch: &'a mut Scratch,
    pub(super) out: &'a mut Vec<u32>,
}

impl Take for Ids<'_> {
    fn added(&mut self, _: &Stretch<'_>, token: u32, _: usize, _: usize) {
        self.out.push(token);
    }

    fn text(&mut self, stretch: &Stretch<'_>, begin: usize, end: usize) {
        let bytes = &stretch.normalized.as_bytes()[begin..end];
        self.encoder.encode_plain(bytes, self.scratch, self.out);
    }
}

/// Counts tokens.
pub(super) struct Counting<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) scratch: &'a mut Scratch,
    pub(super) count: usize,
}

impl Take for Counting<'_> {
    fn added(&mut self, _: &Stretch<'_>, _: u32, _: usize, _: usize) {
        self.count += 1;
    }

    fn text(&mut self, stretch: &Stretch<'_>, begin: usize, end: usize) {
        let bytes = &stretch.normalized.as_bytes()[begin..end];
        self.count += self.encoder.count_plain(bytes, self.scratch);
    }
}

/// Takes ids and where they come from.
pub(super) struct Spans<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) scratch: &'a mut Scratch,
    pub(super) out: &'a mut Vec<Spanned>,
}

impl Take for Spans<'_> {
    fn added(&mut self, stretch: &Stretch<'_>, token: u32, begin: usize, end: usize) {
        self.out.push(stretch.span(token, begin, end));
    }

    fn text(&mut self, stretch: &Stretch<'_>, begin: usize, end: usize) {
        let mut ids = Vec::new();
        let bytes = &stretch.normalized.as_bytes()[begin..end];
        self.encoder.encode_plain(bytes, self.scratch, &mut ids);
        let mut at = begin;
        for token in ids {
            let next = at + self.encoder.pieces.vocabulary.length(token);
            self.out.push(stretch.span(token, at, next));
            at = next;
        }
    }
}
