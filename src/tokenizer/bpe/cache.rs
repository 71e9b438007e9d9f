//! Pieces that came before, and their tokens. What it may take is bounded.

use super::key::{self, Key, key_at};
use super::piece::Workspace;

/// Places for short pieces.
const SHORT: usize = 1 << 16;
/// Short pieces that are remembered at most.
const MOST_SHORT: usize = SHORT / 4 * 3;
/// Tokens of a short piece that are beside it at most.
pub(super) const SHORT_TOKENS: usize = 3;

/// Places for longer pieces.
const LONG: usize = 1 << 14;
/// Bytes of a longer piece or passage at most: of longer ones few come twice.
pub(super) const LONG_BYTES: usize = 1024;
/// Bytes of all that a table holds at most.
const LONG_TOTAL: usize = 1 << 22;

/// Hashes of passages in a set.
const SET: usize = 4;

/// A short piece and its tokens. The first one that a cache has is none, of no tokens.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Short {
    /// The piece, behind it zeros, its length in the last byte; so 0 is no piece.
    key: Key,
    /// Its tokens, and how many they are. Where they are more than there is room for, that is 0, and these are where they
    /// begin in the cache's `tokens` and where they end.
    tokens: [u32; SHORT_TOKENS + 1],
}

impl Short {
    #[inline(always)]
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// The tokens that are beside the piece, and how many they are.
    #[inline(always)]
    pub(super) fn tokens(&self) -> ([u32; SHORT_TOKENS + 1], usize) {
        (self.tokens, self.tokens[SHORT_TOKENS] as usize)
    }
}

/// A longer piece.
#[derive(Debug, Clone, Copy)]
struct Long {
    hash: u64,
    bytes: (u32, u32),
    tokens: (u32, u32),
}

/// What one thread remembers, and what it works with.
#[derive(Debug)]
pub(super) struct Cache {
    /// Open addressing: places in `short`, 0 for none.
    short_places: Box<[u16; SHORT]>,
    /// In the order in which they came, so that those that come all the time are side by side. Those that are not taken
    /// take no memory.
    short: Box<[Short; SHORT]>,
    /// How many of these are taken.
    taken: usize,
    /// Tokens of short pieces that have many.
    tokens: Vec<u32>,
    /// Pieces that are not short.
    pub(super) long: Table,
    pub(super) passages: Passages,
    pub(super) workspace: Workspace,
}

/// Passages. One is remembered when it comes for the second time: most of what comes once never comes again.
#[derive(Debug)]
pub(super) struct Passages {
    /// Hashes of those that came, in sets that these tell: the last ones of each.
    came: Vec<[u64; SET]>,
    table: Table,
}

/// Longer pieces, or passages.
#[derive(Debug)]
pub(super) struct Table {
    /// Open addressing: places in `long`, from 1 on.
    places: Vec<u16>,
    long: Vec<Long>,
    bytes: Vec<u8>,
    tokens: Vec<u32>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            short_places: bytemuck::zeroed_box(),
            short: bytemuck::zeroed_box(),
            taken: 1,
            tokens: Vec::new(),
            long: Table::new(),
            passages: Passages::new(),
            workspace: Workspace::new(),
        }
    }

    /// Whether there is room for so many more pieces, all of which have no more than these bytes.
    #[inline]
    pub(super) fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.taken + count <= MOST_SHORT && self.long.has_room(count, bytes)
    }

    /// Forgets short pieces, or longer ones, where there is no such room.
    pub(super) fn make_room(&mut self, count: usize, bytes: usize) {
        self.long.make_room(count, bytes);
        if self.taken + count > MOST_SHORT {
            self.short_places.fill(0);
            self.taken = 1;
            self.tokens.clear();
        }
    }

    /// A number of a short piece.
    #[inline(always)]
    fn slot(key: Key) -> usize {
        (key::hash(key) >> 48) as usize % SHORT
    }

    /// What is at a place.
    #[inline(always)]
    pub(super) fn at(&self, place: u16) -> &Short {
        &self.short[usize::from(place)]
    }

    /// The tokens of the short piece at a place, where they are not beside it.
    pub(super) fn many(&self, place: u16) -> &[u32] {
        let [begin, end, ..] = self.at(place).tokens;
        &self.tokens[begin as usize..end as usize]
    }

    /// The tokens of a short piece that came before and whose tokens were told.
    pub(super) fn find(&self, key: Key) -> Option<&[u32]> {
        let place = self.seek(key).ok()?;
        let tokens = &self.at(place).tokens;
        Some(match tokens[SHORT_TOKENS] as usize {
            0 => self.many(place),
            length => &tokens[..length],
        })
    }

    /// The place of a short piece, or the slot in which it would be.
    #[inline(always)]
    fn seek(&self, key: Key) -> Result<u16, usize> {
        let mut slot = Self::slot(key);
        loop {
            let place = self.short_places[slot];
            if place == 0 {
                return Err(slot);
            }
            if self.at(place).key == key {
                return Ok(place);
            }
            slot = (slot + 1) % SHORT;
        }
    }

    /// Finds the keys of pieces that follow each other from `begin` on, and the places at which these are looked for first.
    #[inline(always)]
    pub(super) fn look_for(
        &self,
        bytes: &[u8],
        begin: usize,
        ends: &[usize],
        keys: &mut [Key],
        places: &mut [u16],
    ) {
        let mut at = begin;
        for ((end, key), place) in ends.iter().zip(keys).zip(places) {
            *key = key_at(bytes, at, end - at);
            *place = self.short_places[Self::slot(*key)];
            at = *end;
        }
    }

    /// The place of a short piece, and whether it is new: then there is room for it, and its tokens are still to be told.
    #[inline(always)]
    pub(super) fn place(&mut self, key: Key) -> (u16, bool) {
        let slot = match self.seek(key) {
            Ok(place) => return (place, false),
            Err(slot) => slot,
        };
        let place = self.taken as u16;
        self.short[self.taken].key = key;
        self.short_places[slot] = place;
        self.taken += 1;
        (place, true)
    }

    /// Tells the only token of a new short piece; none where there is none, and then it is still to be told.
    #[inline(always)]
    pub(super) fn set_token(&mut self, place: u16, token: Option<u32>) {
        let count = u32::from(token.is_some());
        self.short[usize::from(place)].tokens = [token.unwrap_or(0), 0, 0, count];
    }

    /// Tells a new short piece's tokens.
    #[inline]
    pub(super) fn set(&mut self, place: u16, tokens: &[u32]) {
        let all = &mut self.short[usize::from(place)].tokens;
        if tokens.len() <= SHORT_TOKENS {
            all[..tokens.len()].copy_from_slice(tokens);
            all[SHORT_TOKENS] = tokens.len() as u32;
        } else {
            let begin = self.tokens.len() as u32;
            self.tokens.extend_from_slice(tokens);
            *all = [begin, self.tokens.len() as u32, 0, 0];
        }
    }
}

impl Passages {
    fn new() -> Self {
        Self {
            came: bytemuck::zeroed_vec(LONG / SET),
            table: Table::new(),
        }
    }

    /// Whether a passage came before, as far as that is known; from now on it did.
    pub(super) fn came_before(&mut self, hash: u64) -> bool {
        let set = &mut self.came[hash as usize % (LONG / SET)];
        let came = set.contains(&hash);
        if !came {
            set.rotate_right(1);
            set[0] = hash;
        }
        came
    }

    /// The tokens of one that came at least twice.
    pub(super) fn find(&self, passage: &[u8], hash: u64) -> Option<&[u32]> {
        let place = self.table.find(passage, hash)?;
        Some(self.table.tokens(place))
    }

    /// Remembers one.
    pub(super) fn keep(&mut self, passage: &[u8], hash: u64, tokens: &[u32]) {
        self.table.make_room(1, passage.len());
        let (place, _) = self.table.place(passage, hash);
        self.table.set(place, tokens);
    }
}

impl Table {
    fn new() -> Self {
        Self {
            places: bytemuck::zeroed_vec(LONG),
            long: Vec::new(),
            bytes: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.long.len() + count <= LONG / 2 && self.bytes.len() + bytes <= LONG_TOTAL
    }

    /// Forgets all where there is no room for so many more, of so many bytes.
    fn make_room(&mut self, count: usize, bytes: usize) {
        if !self.has_room(count, bytes) {
            self.places.fill(0);
            self.long.clear();
            self.bytes.clear();
            self.tokens.clear();
        }
    }

    /// Where one that came before is, or else where its place is told when it comes.
    fn seek(&self, piece: &[u8], hash: u64) -> Result<u16, usize> {
        let mut at = hash as usize % LONG;
        loop {
            let place = self.places[at];
            let Some(long) = usize::from(place)
                .checked_sub(1)
                .and_then(|place| self.long.get(place))
            else {
                return Err(at);
            };
            let (begin, end) = long.bytes;
            if long.hash == hash && self.bytes[begin as usize..end as usize] == *piece {
                return Ok(place);
            }
            at = (at + 1) % LONG;
        }
    }

    /// The place of one that came before.
    pub(super) fn find(&self, piece: &[u8], hash: u64) -> Option<u16> {
        self.seek(piece, hash).ok()
    }

    /// The place of a piece, and whether it is new: then there is room for it, and its tokens are still to be told.
    pub(super) fn place(&mut self, piece: &[u8], hash: u64) -> (u16, bool) {
        match self.seek(piece, hash) {
            Ok(place) => (place, false),
            Err(at) => {
                let begin = self.bytes.len() as u32;
                self.bytes.extend_from_slice(piece);
                self.long.push(Long {
                    hash,
                    bytes: (begin, self.bytes.len() as u32),
                    tokens: (0, 0),
                });
                self.places[at] = self.long.len() as u16;
                (self.places[at], true)
            }
        }
    }

    /// The tokens of the one at a place.
    pub(super) fn tokens(&self, place: u16) -> &[u32] {
        let (begin, end) = self.long[usize::from(place) - 1].tokens;
        &self.tokens[begin as usize..end as usize]
    }

    /// Tells the tokens of a new one.
    pub(super) fn set(&mut self, place: u16, tokens: &[u32]) {
        let begin = self.tokens.len() as u32;
        self.tokens.extend_from_slice(tokens);
        self.long[usize::from(place) - 1].tokens = (begin, self.tokens.len() as u32);
    }
}
