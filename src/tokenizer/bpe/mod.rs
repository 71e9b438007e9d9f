//! Byte-pair encoding: text to token ids, exactly as the reference does it, in linear time.
//!
//! A text is parted at added tokens (`added.rs`), normalized (`normal.rs`), cut into pieces that merges do not cross
//! (`scan`), and each piece is looked up among those that came before (`cache.rs`), in the vocabulary, or encoded
//! (`piece.rs`). Which vocabularies this can do is told by their structure (`structure.rs`); of others `build` says why
//! not.

mod added;
mod around;
mod build;
mod cache;
mod classes;
mod definition;
mod hash;
mod kept;
mod key;
mod merges;
mod normal;
mod piece;
mod scan;
mod scratch;
mod structure;
#[cfg(test)]
mod tests;
mod trie;
mod vocabulary;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use added::{Added, Part};
pub(super) use build::{Built, Token, build};
use cache::{Cache, SHORT_TOKENS, Short};
use classes::{LETTER, character_at, class_of};
pub(super) use kept::{place, read, write};
use key::{Key, SHORT_BYTES, key};
use piece::Pieces;
use scan::{Gpt2, Scan, Seams, Text};
use scratch::{Scratch, Scratches};
use structure::{Cut, Normal};
pub(super) use vocabulary::Vocabulary;

/// A vocabulary, and all that it takes to encode by it.
#[derive(Debug)]
pub(super) struct Encoder {
    pieces: Pieces,
    /// Which characters tokens join; empty where `cut` is not by seams.
    seams: Seams,
    cut: Cut,
    normal: Normal,
    /// Added tokens that are sought in the text as it is.
    raw: Option<Added>,
    /// Added tokens that are sought in normalized text.
    normalized: Option<Added>,
    /// A thread finds again what it worked with, as long as there are no more than these.
    scratches: Scratches,
}

/// A token and the bytes of the text that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spanned {
    /// Its id.
    pub token: u32,
    /// Where the first character begins of which it has a part.
    pub begin: usize,
    /// Where the last one ends.
    pub end: usize,
}

/// A stretch of text between added tokens, normalized.
struct Stretch<'a> {
    /// Where the original begins in the whole text.
    at: usize,
    original: &'a str,
    normal: Normal,
    normalized: Cow<'a, str>,
    /// Where its bytes come from, once somebody asks.
    origins: OnceCell<Vec<(usize, usize)>>,
}

/// What the parts of a text are given to.
trait Take {
    /// An added token, from `begin` to `end` of the stretch's normalized text.
    fn added(&mut self, stretch: &Stretch<'_>, token: u32, begin: usize, end: usize);
    /// Text, likewise.
    fn text(&mut self, stretch: &Stretch<'_>, begin: usize, end: usize);
}

impl Encoder {
    /// The ids of a text. Where not `special`, what spells a special token is text.
    pub(super) fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let mut scratch = self.scratches.take();
        let mut out = Vec::with_capacity(text.len() / 4 + 4);
        self.walk(
            text,
            special,
            &mut Ids {
                encoder: self,
                scratch: &mut scratch,
                out: &mut out,
            },
        );
        self.scratches.put_back(scratch);
        out
    }

    /// The ids of a text, and where each comes from: whole characters, those included of which a token has a part.
    pub(super) fn encode_spanned(&self, text: &str, special: bool) -> Vec<Spanned> {
        let mut scratch = self.scratches.take();
        let mut out = Vec::new();
        self.walk(
            text,
            special,
            &mut Spans {
                encoder: self,
                scratch: &mut scratch,
                out: &mut out,
            },
        );
        self.scratches.put_back(scratch);
        out
    }

    /// The bytes of all tokens.
    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.pieces.vocabulary
    }

    /// Parts a text at added tokens and normalizes what is between them.
    fn walk(&self, text: &str, special: bool, take: &mut impl Take) {
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

    /// Appends the ids of a text in which no added token is sought.
    fn encode_plain(&self, bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        match self.cut {
            Cut::Gpt2 => self.encode_cut(&Gpt2, bytes, scratch, out),
            Cut::Plain(plain) => self.encode_cut(&plain, bytes, scratch, out),
            Cut::Cased(cased) => self.encode_cut(&cased, bytes, scratch, out),
            Cut::DeepSeek => self.encode_cut(&scan::DeepSeek, bytes, scratch, out),
            Cut::Seams => self.encode_cut(&self.seams, bytes, scratch, out),
        }
    }

    fn encode_cut(
        &self,
        scan: &impl Scan,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let text = Text {
            bytes,
            end: bytes.len(),
        };
        scratch.tile.reset();
        let mut at = 0;
        while at < bytes.len() {
            let (end, is_passage) = self.passage_end(bytes, at);
            if is_passage {
                self.encode_passage(scan, text, at..end, scratch, out);
            } else {
                self.encode_range(scan, text, at..end, scratch, out);
            }
            at = end;
        }
    }

    /// Where a part of the text ends that is encoded by itself, and whether it is a passage: some hundred bytes, which
    /// are remembered as a whole, since long prompts mostly repeat.
    fn passage_end(&self, bytes: &[u8], begin: usize) -> (usize, bool) {
        let mut at = begin + PASSAGE;
        while at < bytes.len() {
            let Some(found) = memchr::memchr2(b' ', b'\n', &bytes[at..]) else {
                break;
            };
            at += found;
            // Every expression begins a piece where a letter begins a line, and with a space before a letter.
            let line = usize::from(bytes[at] == b'\n');
            let (next, _) = character_at(bytes, at + 1);
            let is_safe = if line == 1 {
                class_of(next) & LETTER != 0
            } else {
                next.is_ascii_alphabetic()
            };
            let end = at + line;
            if is_safe
                && bytes[end - 1].is_ascii()
                && self
                    .seams
                    .is_between(bytes[end - 1].into(), character_at(bytes, end).0)
            {
                return (end, end - begin <= 2 * PASSAGE);
            }
            at += 1;
        }
        (bytes.len(), false)
    }

    fn encode_passage(
        &self,
        scan: &impl Scan,
        text: Text<'_>,
        range: Range<usize>,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let passage = &text.bytes[range.clone()];
        let hash = hash::of_bytes(passage);
        if let Some(tokens) = scratch.cache.passages.find(passage, hash) {
            out.extend_from_slice(tokens);
            return;
        }
        let begin = out.len();
        self.encode_range(scan, text, range, scratch, out);
        scratch.cache.passages.keep(passage, hash, &out[begin..]);
    }

    /// Appends the ids of a range, which begins and ends where pieces do.
    fn encode_range(
        &self,
        scan: &impl Scan,
        text: Text<'_>,
        range: Range<usize>,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let Scratch { cache, tile } = scratch;
        let mut ids = Buffer::new(out);
        let mut at = range.start;
        while at < range.end {
            for end in tile.ends(scan, text, at, range.end) {
                if at >= range.end {
                    break;
                }
                let length = end - at;
                if length <= SHORT_BYTES {
                    let key = key(padded(text.bytes, at), length);
                    match cache.short(key) {
                        Some(short) => ids.push(short),
                        None => self.encode_short(&text.bytes[at..*end], key, cache, ids.flushed()),
                    }
                } else {
                    self.encode_long(&text.bytes[at..*end], cache, ids.flushed());
                }
                at = *end;
            }
        }
        ids.flushed();
    }

    #[inline(never)]
    fn encode_short(&self, piece: &[u8], key: Key, cache: &mut Cache, out: &mut Vec<u32>) {
        if let Some(token) = self.pieces.vocabulary.find_short(key) {
            cache.keep_short(key, &[token]);
            out.push(token);
            return;
        }
        let begin = out.len();
        self.pieces.encode(piece, &mut cache.workspace, out);
        if out.len() - begin <= SHORT_TOKENS {
            cache.keep_short(key, &out[begin..]);
        }
    }

    #[inline(never)]
    fn encode_long(&self, piece: &[u8], cache: &mut Cache, out: &mut Vec<u32>) {
        let hash = hash::of_bytes(piece);
        if let Some(tokens) = cache.long.find(piece, hash) {
            out.extend_from_slice(tokens);
            return;
        }
        let begin = out.len();
        match self.pieces.vocabulary.find_long(piece) {
            Some(token) => out.push(token),
            None => self.pieces.encode(piece, &mut cache.workspace, out),
        }
        cache.long.keep(piece, hash, &out[begin..]);
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

/// The 16 bytes from `at` on, with zeros behind the end.
#[inline]
fn padded(bytes: &[u8], at: usize) -> [u8; 16] {
    if let Some(bytes) = bytes[at..].first_chunk() {
        return *bytes;
    }
    let mut padded = [0; 16];
    padded[..bytes.len() - at].copy_from_slice(&bytes[at..]);
    padded
}

/// Bytes of a passage at least; twice as many at most.
const PASSAGE: usize = 512;

/// Ids that a buffer holds.
const ROOM: usize = 96;

/// Ids on their way to a vector: writing three at a time and counting fewer needs no branch.
struct Buffer<'a> {
    ids: [u32; ROOM],
    count: usize,
    out: &'a mut Vec<u32>,
}

impl<'a> Buffer<'a> {
    fn new(out: &'a mut Vec<u32>) -> Self {
        Self {
            ids: [0; ROOM],
            count: 0,
            out,
        }
    }

    #[inline]
    fn push(&mut self, short: &Short) {
        if self.count + SHORT_TOKENS > ROOM {
            self.flushed();
        }
        if let Some(place) = self.ids[self.count..].first_chunk_mut() {
            *place = short.tokens;
        }
        self.count += short.count as usize;
    }

    /// The vector, with all ids in it.
    fn flushed(&mut self) -> &mut Vec<u32> {
        self.out.extend_from_slice(&self.ids[..self.count]);
        self.count = 0;
        self.out
    }
}

/// Takes ids.
struct Ids<'a> {
    encoder: &'a Encoder,
    scratch: &'a mut Scratch,
    out: &'a mut Vec<u32>,
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

/// Takes ids and where they come from.
struct Spans<'a> {
    encoder: &'a Encoder,
    scratch: &'a mut Scratch,
    out: &'a mut Vec<Spanned>,
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
