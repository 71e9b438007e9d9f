//! Many pieces at a time, in steps, so that the processor waits for the memory of many at once: where each piece is among
//! those that are remembered, then the tokens of those that are new, then the ids of all.

use super::cache::{Cache, LONG_BYTES, SHORT_TOKENS};
use super::hash;
use super::key::{Key, SHORT_BYTES};
use super::known::{Buffer, IDS, NameKnown};
use super::piece::{Pieces, Workspace};
use super::scan::PIECES;
use super::words::{SYMBOLS, Word, merge_all};
use crate::kernels::text::{Work, prefetch, widest};

/// Pieces of a batch at most.
const MOST: usize = 4 * PIECES;
/// Words that are merged together.
const WORDS: usize = 64;

/// Pieces that follow each other and whose ids are not told yet.
#[derive(Debug)]
pub(super) struct Batch {
    keys: [Key; PIECES],
    /// Of the pieces that are looked up together, those that are not where they are looked for first.
    missed: [u16; PIECES],
    /// Places in the cache; 0 for pieces that are not short.
    places: [u16; MOST],
    /// How many there are.
    count: usize,
    /// Pieces that are not short.
    long: Vec<Long>,
    /// New pieces.
    new: Vec<New>,
    words: [Word; WORDS],
    ids: Box<Buffer>,
}

/// A piece that is not short.
#[derive(Debug, Clone, Copy)]
enum Long {
    /// Its place in the cache.
    Remembered(u16),
    /// Where it begins and ends.
    Alone(usize, usize),
}

/// A piece that never came before.
#[derive(Debug, Clone, Copy)]
struct New {
    begin: usize,
    length: u16,
    place: u16,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            keys: [0; PIECES],
            missed: [0; PIECES],
            places: [0; MOST],
            count: 0,
            long: Vec::new(),
            new: Vec::new(),
            words: std::array::from_fn(|_| Word::new()),
            ids: bytemuck::zeroed_box(),
        }
    }

    /// Whether the ids of all pieces are told.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where it is empty, appends the ids of the first pieces, as long as these came before; gives how many they are.
    pub(super) fn name_known(
        &mut self,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        cache: &Cache,
        out: &mut Vec<u32>,
    ) -> usize {
        widest(NameKnown {
            bytes,
            begin,
            ends,
            cache,
            keys: &mut self.keys,
            places: &mut self.places[..PIECES],
            ids: &mut self.ids,
            out,
        })
    }

    /// Adds the pieces of `bytes` from `begin` on that end at `ends`, [`PIECES`] at most. Where there is no room, appends
    /// the ids of those before them first.
    pub(super) fn add(
        &mut self,
        pieces: &Pieces,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        cache: &mut Cache,
        out: &mut Vec<u32>,
    ) {
        let total = ends.last().map_or(0, |end| end - begin);
        let is_full = self.count + ends.len() > MOST;
        if is_full || !cache.has_room(ends.len(), total) {
            self.finish(pieces, bytes, cache, out);
            cache.make_room(ends.len(), total);
        }
        let missed = widest(LookUp {
            batch: &mut *self,
            bytes,
            begin,
            ends,
            cache: &*cache,
        });
        for at in 0..missed {
            let index = usize::from(self.missed[at]);
            let begin = index.checked_sub(1).map_or(begin, |before| ends[before]);
            let piece = &bytes[begin..ends[index]];
            let place = &mut self.places[self.count + index];
            let is_new = if piece.len() <= SHORT_BYTES {
                let key = self.keys[index];
                let (found, is_new) = cache.place(key);
                *place = found;
                if is_new {
                    let found = &pieces.vocabulary.found;
                    prefetch(&found.words, found.word_place(key));
                }
                is_new
            } else {
                *place = 0;
                if piece.len() > LONG_BYTES {
                    self.long.push(Long::Alone(begin, ends[index]));
                    continue;
                }
                let (found, is_new) = cache.long.place(piece, hash::of_bytes(piece));
                self.long.push(Long::Remembered(found));
                if is_new {
                    self.new.push(New {
                        begin,
                        length: piece.len() as u16,
                        place: found,
                    });
                }
                continue;
            };
            if is_new {
                self.new.push(New {
                    begin,
                    length: piece.len() as u16,
                    place: *place,
                });
            }
        }
        self.count += ends.len();
    }

    /// Appends the ids of all pieces.
    pub(super) fn finish(
        &mut self,
        pieces: &Pieces,
        bytes: &[u8],
        cache: &mut Cache,
        out: &mut Vec<u32>,
    ) {
        if !self.new.is_empty() {
            widest(Tell {
                new: &mut self.new,
                words: &mut self.words,
                pieces,
                bytes,
                cache: &mut *cache,
            });
            self.new.clear();
        }
        let (mut at, end, mut long) = (0, self.count, 0);
        while at < end {
            let until = end.min(at + PIECES);
            at = self.name(at, until, cache, out);
            if at < until {
                // Its ids are not beside it.
                match self.places[at] {
                    0 => {
                        match self.long[long] {
                            Long::Remembered(place) => {
                                out.extend_from_slice(cache.long.tokens(place));
                            }
                            Long::Alone(begin, end) => {
                                let piece = &bytes[begin..end];
                                encode_alone(pieces, piece, &mut cache.workspace, out);
                            }
                        }
                        long += 1;
                    }
                    place => out.extend_from_slice(cache.many(place)),
                }
                at += 1;
            }
        }
        self.count = 0;
        self.long.clear();
    }

    /// Appends the ids of the pieces from `at` on that are beside them, up to `until` or to one whose are not.
    #[inline]
    fn name(&mut self, at: usize, until: usize, cache: &Cache, out: &mut Vec<u32>) -> usize {
        let (mut count, mut end) = (0, at);
        for place in &self.places[at..until] {
            let (tokens, length) = cache.at(*place).tokens();
            if length == 0 {
                break;
            }
            // What is told by the remainder is that there is room.
            let ids = &mut self.ids[count % IDS..=count % IDS + SHORT_TOKENS];
            ids.copy_from_slice(&tokens);
            count += length;
            end += 1;
        }
        out.extend_from_slice(&self.ids[..count]);
        end
    }
}

/// Looking pieces up in the cache where they are looked for first; gives how many are not there.
struct LookUp<'a> {
    batch: &'a mut Batch,
    bytes: &'a [u8],
    begin: usize,
    ends: &'a [usize],
    cache: &'a Cache,
}

impl Work for LookUp<'_> {
    type Result = usize;

    #[inline(always)]
    fn run(self) -> usize {
        let Self {
            batch, ends, cache, ..
        } = self;
        let keys = &mut batch.keys[..ends.len()];
        let places = &mut batch.places[batch.count..][..ends.len()];
        cache.look_for(self.bytes, self.begin, ends, keys, places);
        let mut missed = 0;
        for (index, (key, place)) in (0..).zip(keys.iter().zip(&*places)) {
            // Writing all and counting those that are right needs no branch.
            batch.missed[missed % PIECES] = index;
            missed += usize::from(cache.at(*place).key() != *key);
        }
        missed
    }
}

/// Telling the tokens of new pieces.
struct Tell<'a> {
    new: &'a mut [New],
    words: &'a mut [Word; WORDS],
    pieces: &'a Pieces,
    bytes: &'a [u8],
    cache: &'a mut Cache,
}

impl Work for Tell<'_> {
    type Result = ();

    #[inline(always)]
    fn run(mut self) {
        let several = self.tokens();
        let new = std::mem::take(&mut self.new);
        let mut ids = [0; SYMBOLS];
        for new in new[..several].chunks_mut(WORDS) {
            let count = self.begin(new);
            let words = &mut self.words[..count];
            merge_all(&self.pieces.merges, words);
            for (word, new) in words.iter().zip(new) {
                let mut length = 0;
                for (id, token) in ids.iter_mut().zip(word.tokens()) {
                    *id = self.pieces.merges.tokens[token as usize];
                    length += 1;
                }
                new.set(&ids[..length], self.cache);
            }
        }
    }
}

impl Tell<'_> {
    /// Tells those that are one token. The others come first then; gives how many they are.
    #[inline(always)]
    fn tokens(&mut self) -> usize {
        let Self {
            new, pieces, cache, ..
        } = self;
        let mut several = 0;
        for at in 0..new.len() {
            let piece = new[at];
            new[several] = piece;
            if usize::from(piece.length) <= SHORT_BYTES {
                let token = pieces
                    .vocabulary
                    .found
                    .find_short(cache.at(piece.place).key());
                cache.set_token(piece.place, token);
                several += usize::from(token.is_none());
            } else if let Some(token) = pieces.vocabulary.find_long(piece.of(self.bytes)) {
                cache.long.set(piece.place, &[token]);
            } else {
                several += 1;
            }
        }
        several
    }

    /// Begins to merge some; others are encoded at once. The first ones are those that are begun then; gives how many.
    #[inline(always)]
    fn begin(&mut self, new: &mut [New]) -> usize {
        let mut count = 0;
        for at in 0..new.len() {
            let piece = new[at];
            let bytes = piece.of(self.bytes);
            if self.pieces.begin(bytes, &mut self.words[count]) {
                new[count] = piece;
                count += 1;
            } else {
                let mut ids = Vec::new();
                self.pieces
                    .encode(bytes, &mut self.cache.workspace, &mut ids);
                piece.set(&ids, self.cache);
            }
        }
        count
    }
}

impl New {
    fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.begin..self.begin + usize::from(self.length)]
    }

    fn set(&self, ids: &[u32], cache: &mut Cache) {
        if usize::from(self.length) <= SHORT_BYTES {
            cache.set(self.place, ids);
        } else {
            cache.long.set(self.place, ids);
        }
    }
}

/// Appends the ids of a piece that is too long to be remembered.
#[cold]
fn encode_alone(pieces: &Pieces, piece: &[u8], workspace: &mut Workspace, out: &mut Vec<u32>) {
    match pieces.vocabulary.find_long(piece) {
        Some(token) => out.push(token),
        None => pieces.encode(piece, workspace, out),
    }
}
