//! Some pieces at a time: what is known of them is looked up without a branch, then what is not known in the vocabulary,
//! then what is not there is merged. So the processor waits for the memory of many at once.

use std::ops::Range;

use super::cache::{Cache, LONG_BYTES, SHORT_TOKENS};
use super::hash;
use super::key::{Key, SHORT_BYTES, key_at};
use super::piece::{Pieces, Workspace};
use super::scan::PIECES;
use super::words::{SYMBOLS, Word, merge_all};
use crate::kernels::text::{prefetch, widest};

/// Words that are merged together.
const WORDS: usize = 64;

/// What is known of the pieces that are looked up together.
#[derive(Debug)]
pub(super) struct Batch {
    keys: [Key; PIECES],
    /// Places in the cache.
    places: [u16; PIECES],
    /// Ids of pieces that follow each other.
    ids: [u32; PIECES * SHORT_TOKENS + 1],
    /// Pieces whose ids are not among these, and how many ids are before them.
    missed: [(u16, u16); PIECES],
    /// Those that never came before.
    new: [u16; PIECES],
    words: [Word; WORDS],
    /// Which pieces these are.
    pieces: [usize; WORDS],
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            keys: [0; PIECES],
            places: [0; PIECES],
            ids: [0; PIECES * SHORT_TOKENS + 1],
            missed: [(0, 0); PIECES],
            new: [0; PIECES],
            words: std::array::from_fn(|_| Word::new()),
            pieces: [0; WORDS],
        }
    }

    /// Appends the ids of the pieces of `bytes` from `begin` on that end at `ends`.
    pub(super) fn encode(
        &mut self,
        pieces: &Pieces,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        cache: &mut Cache,
        out: &mut Vec<u32>,
    ) {
        let total = ends.last().map_or(0, |end| end - begin);
        cache.make_room(ends.len(), total);
        let (missed, count) = widest(|| self.look_up(bytes, begin, ends, cache));
        if missed > 0 {
            self.find(pieces, bytes, begin, ends, missed, cache);
        }
        let mut done = 0;
        for (index, count) in &self.missed[..missed] {
            let (index, count) = (usize::from(*index), usize::from(*count));
            out.extend_from_slice(&self.ids[done..count]);
            done = count;
            let piece = &bytes[span(begin, ends, index)];
            if piece.len() <= SHORT_BYTES {
                out.extend_from_slice(cache.tokens(self.places[index]));
            } else if piece.len() <= LONG_BYTES {
                out.extend_from_slice(cache.long.tokens(self.places[index]));
            } else {
                encode_alone(pieces, piece, &mut cache.workspace, out);
            }
        }
        out.extend_from_slice(&self.ids[done..count]);
    }

    /// Looks all up in the cache where they are looked for first; gives how many are not there, and how many ids are
    /// known.
    #[inline(always)]
    fn look_up(
        &mut self,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        cache: &Cache,
    ) -> (usize, usize) {
        let keys = &mut self.keys[..ends.len()];
        let places = &mut self.places[..ends.len()];
        let mut at = begin;
        for ((end, key), place) in ends.iter().zip(&mut *keys).zip(&mut *places) {
            *key = key_at(bytes, at, end - at);
            *place = cache.first_place(*key);
            at = *end;
        }
        let (mut missed, mut count) = (0, 0);
        for (index, (key, place)) in (0..).zip(keys.iter().zip(&*places)) {
            let (tokens, known) = cache.at(*place).known(*key);
            // Writing all and counting those that are right needs no branch.
            if let Some(ids) = self.ids[count..].first_chunk_mut() {
                *ids = tokens;
            }
            self.missed[missed] = (index, count as u16);
            missed += usize::from(known == 0);
            count += known;
        }
        (missed, count)
    }

    /// Finds what was missed.
    #[inline(never)]
    fn find(
        &mut self,
        pieces: &Pieces,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        missed: usize,
        cache: &mut Cache,
    ) {
        let mut new = 0;
        for at in 0..missed {
            let index = usize::from(self.missed[at].0);
            let key = self.keys[index];
            let piece = &bytes[span(begin, ends, index)];
            let place = if piece.len() <= SHORT_BYTES {
                prefetch(&pieces.vocabulary.words, pieces.vocabulary.word_place(key));
                cache.place(key)
            } else if piece.len() <= LONG_BYTES {
                let hash = hash::of_bytes(piece);
                self.keys[index] = hash.into();
                cache.long.place(piece, hash)
            } else {
                // Encoded at once, and not remembered.
                Some(0)
            };
            self.places[index] = place.unwrap_or(0);
            self.new[new] = index as u16;
            new += usize::from(place.is_none());
        }
        let mut count = 0;
        for at in 0..new {
            let index = usize::from(self.new[at]);
            let piece = &bytes[span(begin, ends, index)];
            if let Some(token) = self.token(pieces, piece, index) {
                self.keep(piece, index, &[token], cache);
            } else if pieces.begin(piece, &mut self.words[count]) {
                self.pieces[count] = index;
                count += 1;
                if count == WORDS {
                    self.merge(pieces, bytes, begin, ends, WORDS, cache);
                    count = 0;
                }
            } else {
                let mut ids = Vec::new();
                pieces.encode(piece, &mut cache.workspace, &mut ids);
                self.keep(piece, index, &ids, cache);
            }
        }
        self.merge(pieces, bytes, begin, ends, count, cache);
    }

    /// The token that is a piece.
    fn token(&self, pieces: &Pieces, piece: &[u8], index: usize) -> Option<u32> {
        if piece.len() <= SHORT_BYTES {
            pieces.vocabulary.find_short(self.keys[index])
        } else {
            pieces.vocabulary.find_long(piece)
        }
    }

    /// Remembers a piece's ids.
    fn keep(&mut self, piece: &[u8], index: usize, ids: &[u32], cache: &mut Cache) {
        let key = self.keys[index];
        self.places[index] = if piece.len() <= SHORT_BYTES {
            cache.keep_short(key, ids)
        } else {
            cache.long.keep(piece, key as u64, ids)
        };
    }

    fn merge(
        &mut self,
        pieces: &Pieces,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        count: usize,
        cache: &mut Cache,
    ) {
        widest(|| merge_all(&pieces.merges.pairs, &mut self.words[..count]));
        for at in 0..count {
            let (mut ids, mut length) = ([0; SYMBOLS], 0);
            for (id, token) in ids.iter_mut().zip(self.words[at].tokens()) {
                *id = pieces.merges.tokens[token as usize];
                length += 1;
            }
            let index = self.pieces[at];
            self.keep(
                &bytes[span(begin, ends, index)],
                index,
                &ids[..length],
                cache,
            );
        }
    }
}

/// Where a piece is.
fn span(begin: usize, ends: &[usize], index: usize) -> Range<usize> {
    let begin = index.checked_sub(1).map_or(begin, |before| ends[before]);
    begin..ends[index]
}

/// Appends the ids of a piece that is too long to be remembered.
#[cold]
fn encode_alone(pieces: &Pieces, piece: &[u8], workspace: &mut Workspace, out: &mut Vec<u32>) {
    match pieces.vocabulary.find_long(piece) {
        Some(token) => out.push(token),
        None => pieces.encode(piece, workspace, out),
    }
}
