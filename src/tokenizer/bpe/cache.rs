//! Pieces that came before, and their tokens. What it may take is bounded.

use super::key::{self, Key};
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
    /// The tokens that are beside the piece, and how many they are if it is this one.
    #[inline(always)]
    pub(super) fn known(&self, key: Key) -> ([u32; SHORT_TOKENS + 1], usize) {
        let is_this = u32::from(self.key == key);
        let count = self.tokens[SHORT_TOKENS] & is_this.wrapping_neg();
        (self.tokens, count as usize)
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

    /// Forgets all short pieces where there is no room for so many more, and longer ones likewise; all of them have no
    /// more than these bytes.
    #[inline]
    pub(super) fn make_room(&mut self, count: usize, bytes: usize) {
        self.long.make_room(count, bytes);
        if self.taken + count > MOST_SHORT {
            self.short_places.fill(0);
            self.taken = 1;
            self.tokens.clear();
        }
    }

    #[inline(always)]
    fn slot(key: Key) -> usize {
        (key::hash(key) >> 48) as usize % SHORT
    }

    /// The place at which a short piece is looked for first.
    #[inline(always)]
    pub(super) fn first_place(&self, key: Key) -> u16 {
        self.short_places[Self::slot(key)]
    }

    /// Whether a short piece is at this place.
    #[inline]
    fn is_at(&self, place: u16, key: Key) -> bool {
        self.short[usize::from(place)].key == key
    }

    /// What is at a place.
    #[inline(always)]
    pub(super) fn at(&self, place: u16) -> &Short {
        &self.short[usize::from(place)]
    }

    /// The tokens of the short piece at a place; none where there is none.
    pub(super) fn tokens(&self, place: u16) -> &[u32] {
        let tokens = &self.at(place).tokens;
        match tokens[SHORT_TOKENS] {
            0 => &self.tokens[tokens[0] as usize..tokens[1] as usize],
            count => &tokens[..count as usize],
        }
    }

    /// The place of a short piece that came before.
    pub(super) fn place(&self, key: Key) -> Option<u16> {
        let mut slot = Self::slot(key);
        loop {
            let place = self.short_places[slot];
            if place == 0 || self.is_at(place, key) {
                return Some(place).filter(|place| *place != 0);
            }
            slot = (slot + 1) % SHORT;
        }
    }

    /// Remembers a short piece, for which room was made, and gives its place.
    pub(super) fn keep_short(&mut self, key: Key, tokens: &[u32]) -> u16 {
        let mut slot = Self::slot(key);
        while self.short_places[slot] != 0 {
            if self.is_at(self.short_places[slot], key) {
                return self.short_places[slot];
            }
            slot = (slot + 1) % SHORT;
        }
        let mut all = [0; SHORT_TOKENS + 1];
        if tokens.len() <= SHORT_TOKENS {
            all[..tokens.len()].copy_from_slice(tokens);
            all[SHORT_TOKENS] = tokens.len() as u32;
        } else {
            all[0] = self.tokens.len() as u32;
            self.tokens.extend_from_slice(tokens);
            all[1] = self.tokens.len() as u32;
        }
        self.short[self.taken] = Short { key, tokens: all };
        self.short_places[slot] = self.taken as u16;
        self.taken += 1;
        self.short_places[slot]
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
        let place = self.table.place(passage, hash)?;
        Some(self.table.tokens(place))
    }

    /// Remembers one.
    pub(super) fn keep(&mut self, passage: &[u8], hash: u64, tokens: &[u32]) {
        self.table.make_room(1, passage.len());
        self.table.keep(passage, hash, tokens);
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

    /// Forgets all where there is no room for so many more, of so many bytes.
    fn make_room(&mut self, count: usize, bytes: usize) {
        if self.long.len() + count > LONG / 2 || self.bytes.len() + bytes > LONG_TOTAL {
            self.places.fill(0);
            self.long.clear();
            self.bytes.clear();
            self.tokens.clear();
        }
    }

    /// The place of one that came before.
    pub(super) fn place(&self, piece: &[u8], hash: u64) -> Option<u16> {
        let mut at = hash as usize % LONG;
        loop {
            let place = self.places[at];
            let long = self.long.get(usize::from(place).checked_sub(1)?)?;
            let (begin, end) = long.bytes;
            if long.hash == hash && self.bytes[begin as usize..end as usize] == *piece {
                return Some(place);
            }
            at = (at + 1) % LONG;
        }
    }

    /// The tokens of the one at a place.
    pub(super) fn tokens(&self, place: u16) -> &[u32] {
        let (begin, end) = self.long[usize::from(place) - 1].tokens;
        &self.tokens[begin as usize..end as usize]
    }

    /// Remembers one, for which room was made, and gives its place.
    pub(super) fn keep(&mut self, piece: &[u8], hash: u64, tokens: &[u32]) -> u16 {
        let mut at = hash as usize % LONG;
        while self.places[at] != 0 {
            at = (at + 1) % LONG;
        }
        let (bytes, first) = (self.bytes.len() as u32, self.tokens.len() as u32);
        self.bytes.extend_from_slice(piece);
        self.tokens.extend_from_slice(tokens);
        self.long.push(Long {
            hash,
            bytes: (bytes, self.bytes.len() as u32),
            tokens: (first, self.tokens.len() as u32),
        });
        self.places[at] = self.long.len() as u16;
        self.places[at]
    }
}
