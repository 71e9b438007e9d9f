//! Byte-pair encoding: text to token ids, exactly as the reference does it, in linear time.
//!
//! A text is parted at added tokens (`added.rs`), normalized (`normal.rs`), cut into pieces that merges do not cross
//! (`scan`), and these are looked up among those that came before (`cache.rs`), in the vocabulary, or merged (`batch.rs`,
//! `words.rs`); long ones in parts (`cuts.rs`), and without merging where parts are long as well (`piece.rs`). Which
//! vocabularies this can do is told by their structure (`structure.rs`); of others `build` says why not.
#![expect(
    clippy::inline_always,
    reason = "what is not inlined into `widest` is compiled without its instructions"
)]

mod added;
mod around;
mod batch;
mod build;
mod cache;
mod characters;
mod classes;
mod cuts;
mod definition;
mod hash;
mod ids;
mod kept;
mod key;
mod known;
mod merges;
mod normal;
mod pairs;
mod parts;
mod piece;
mod scan;
mod scratch;
mod sorted;
mod structure;
#[cfg(test)]
mod tests;
mod trie;
mod vocabulary;
mod walk;
mod words;

use std::ops::Range;

use added::Added;
pub(super) use build::{Built, Token, build};
use classes::{LETTER, character_at, class_of};
pub(super) use kept::{place, read, write};
use piece::Pieces;
use scan::{Gpt2, Scan, Seams, Text};
use scratch::{Scratch, Scratches};
use structure::{Cut, Normal};
pub(super) use vocabulary::{Spelled, Vocabulary};
use walk::{Counting, Ids, Spans};

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

impl Encoder {
    /// The ids of a text. Where not `special`, what spells a special token is text.
    pub(super) fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        self.scratches.lend(|scratch| {
            let mut out = Vec::with_capacity(text.len() / 4 + 4);
            if let Some(whole) = self.whole(text) {
                self.encode_plain(whole.as_bytes(), scratch, &mut out);
            } else {
                let mut ids = Ids {
                    encoder: self,
                    scratch,
                    out: &mut out,
                };
                self.walk(text, special, &mut ids);
            }
            out
        })
    }

    /// How many tokens a text has.
    pub(super) fn count(&self, text: &str, special: bool) -> usize {
        self.scratches.lend(|scratch| {
            let mut counting = Counting {
                encoder: self,
                scratch,
                count: 0,
            };
            self.walk(text, special, &mut counting);
            counting.count
        })
    }

    /// The ids of a text, and where each comes from: whole characters, those included of which a token has a part.
    pub(super) fn encode_spanned(&self, text: &str, special: bool) -> Vec<Spanned> {
        self.scratches.lend(|scratch| {
            let mut out = Vec::new();
            let mut spans = Spans {
                encoder: self,
                scratch,
                out: &mut out,
            };
            self.walk(text, special, &mut spans);
            out
        })
    }

    /// The bytes of all tokens.
    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.pieces.vocabulary
    }

    /// Appends the ids of a text in which no added token is sought.
    fn encode_plain(&self, bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        self.encode_parts(bytes, scratch, out, |_| {});
    }

    /// How many tokens such a text has.
    fn count_plain(&self, bytes: &[u8], scratch: &mut Scratch) -> usize {
        let (mut ids, mut count) = (Vec::new(), 0);
        self.encode_parts(bytes, scratch, &mut ids, |ids| {
            count += ids.len();
            ids.clear();
        });
        count + ids.len()
    }

    /// The same part by part; `between` gets the ids so far and may take them.
    fn encode_parts(
        &self,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
        between: impl FnMut(&mut Vec<u32>),
    ) {
        match self.cut {
            Cut::Gpt2 => self.encode_cut(&Gpt2, bytes, scratch, out, between),
            Cut::Plain(plain) => self.encode_cut(&plain, bytes, scratch, out, between),
            Cut::Cased(cased) => self.encode_cut(&cased, bytes, scratch, out, between),
            Cut::DeepSeek => self.encode_cut(&scan::DeepSeek, bytes, scratch, out, between),
            Cut::Seams => self.encode_cut(&self.seams, bytes, scratch, out, between),
        }
    }

    fn encode_cut(
        &self,
        scan: &impl Scan,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
        mut between: impl FnMut(&mut Vec<u32>),
    ) {
        let text = Text {
            bytes,
            end: bytes.len(),
        };
        scratch.tile.reset();
        if bytes.len() <= PASSAGE {
            return self.encode_range(scan, text, 0..bytes.len(), scratch, out);
        }
        // What is not encoded yet begins at `done`.
        let (mut done, mut at) = (0, 0);
        while at < bytes.len() {
            let (end, is_passage) = self.passage_end(bytes, at);
            let passage = &bytes[at..end];
            let hash = if is_passage {
                hash::of_bytes(passage)
            } else {
                0
            };
            if is_passage && scratch.cache.passages.came_before(hash) {
                self.encode_range(scan, text, done..at, scratch, out);
                self.encode_passage(scan, text, at..end, hash, scratch, out);
                between(out);
                done = end;
            } else if end - done >= STRETCH {
                self.encode_range(scan, text, done..end, scratch, out);
                between(out);
                done = end;
            }
            at = end;
        }
        self.encode_range(scan, text, done..at, scratch, out);
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
        hash: u64,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let passage = &text.bytes[range.clone()];
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
        let Scratch { cache, tile, batch } = scratch;
        let mut at = range.start;
        while at < range.end {
            let ends = tile.ends(scan, text, at, range.end);
            let is_inside = |end: &usize| *end <= range.end;
            let ends = if ends.last().is_none_or(is_inside) {
                ends
            } else {
                &ends[..ends.partition_point(is_inside)]
            };
            let known = if batch.is_empty() && ends.len() <= FEW {
                batch.name_known(text.bytes, at, ends, cache, out)
            } else {
                0
            };
            if known < ends.len() {
                let begin = known.checked_sub(1).map_or(at, |last| ends[last]);
                batch.add(&self.pieces, text.bytes, begin, &ends[known..], cache, out);
            }
            at = ends.last().copied().unwrap_or(range.end);
        }
        if !batch.is_empty() {
            batch.finish(&self.pieces, text.bytes, cache, out);
        }
    }
}

/// Bytes of new passages that are encoded together, at least.
const STRETCH: usize = 1 << 14;

/// Pieces that are named at once if they are known: of more some are new, and then the rest is looked up twice.
const FEW: usize = 256;

/// Bytes of a passage at least; twice as many at most.
const PASSAGE: usize = 512;
