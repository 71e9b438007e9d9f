//! Pieces that came before, and their tokens. What it may take is bounded.

use super::key::{self, Key};
use super::piece::Workspace;

/// Places for short pieces.
const SHORT: usize = 1 << 16;
/// Short pieces that are remembered at most.
const MOST_SHORT: usize = SHORT / 4 * 3;
/// Tokens of a short piece at most.
pub(super) const SHORT_TOKENS: usize = 3;

/// Places for longer pieces.
const LONG: usize = 1 << 14;
/// Bytes of a longer piece or passage at most: of longer ones few come twice.
const LONG_BYTES: usize = 1024;
/// Bytes of all that a table holds at most.
const LONG_TOTAL: usize = 1 << 22;

/// A short piece and its tokens.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Short {
    /// The piece, behind it zeros, its length in the last byte; so 0 is no piece.
    key: Key,
    /// The first `count` of these.
    pub(super) tokens: [u32; SHORT_TOKENS],
    pub(super) count: u32,
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
    /// Open addressing: places in `short`, from 1 on.
    short_places: Vec<u16>,
    /// In the order in which they came, so that those that come all the time are side by side.
    short: Vec<Short>,
    /// Pieces that are not short.
    pub(super) long: Table,
    /// Passages.
    pub(super) passages: Table,
    pub(super) workspace: Workspace,
}

/// Longer pieces, or passages.
#[derive(Debug)]
pub(super) struct Table {
    /// Open addressing: places in `long`, from 1 on.
    places: Vec<u32>,
    long: Vec<Long>,
    bytes: Vec<u8>,
    tokens: Vec<u32>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            short_places: bytemuck::zeroed_vec(SHORT),
            short: Vec::new(),
            long: Table::new(),
            passages: Table::new(),
            workspace: Workspace::new(),
        }
    }

    /// The first place of a short piece.
    #[inline]
    fn place(key: Key) -> usize {
        (key::hash(key) >> 48) as usize % SHORT
    }

    /// A short piece that came before.
    #[inline]
    pub(super) fn short(&self, key: Key) -> Option<&Short> {
        let mut at = Self::place(key);
        loop {
            let place = usize::from(self.short_places[at]);
            let short = self.short.get(place.wrapping_sub(1))?;
            if short.key == key {
                return Some(short);
            }
            at = (at + 1) % SHORT;
        }
    }

    /// Remembers a short piece; where there is no room, forgets all others.
    pub(super) fn keep_short(&mut self, key: Key, tokens: &[u32]) {
        if self.short.len() == MOST_SHORT {
            self.short_places.fill(0);
            self.short.clear();
        }
        let mut all = [0; SHORT_TOKENS];
        all[..tokens.len()].copy_from_slice(tokens);
        let count = tokens.len() as u32;
        self.short.push(Short {
            key,
            tokens: all,
            count,
        });
        let mut at = Self::place(key);
        while self.short_places[at] != 0 {
            at = (at + 1) % SHORT;
        }
        self.short_places[at] = self.short.len() as u16;
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

    /// The tokens of one that came before.
    pub(super) fn find(&self, piece: &[u8], hash: u64) -> Option<&[u32]> {
        let mut at = hash as usize % LONG;
        loop {
            let place = self.places[at] as usize;
            let long = self.long.get(place.checked_sub(1)?)?;
            let (begin, end) = long.bytes;
            if long.hash == hash && self.bytes[begin as usize..end as usize] == *piece {
                return Some(&self.tokens[long.tokens.0 as usize..long.tokens.1 as usize]);
            }
            at = (at + 1) % LONG;
        }
    }

    /// Remembers one; where there is no room, forgets all others.
    pub(super) fn keep(&mut self, piece: &[u8], hash: u64, tokens: &[u32]) {
        if piece.len() > LONG_BYTES {
            return;
        }
        if self.long.len() >= LONG / 2 || self.bytes.len() + piece.len() > LONG_TOTAL {
            self.places.fill(0);
            self.long.clear();
            self.bytes.clear();
            self.tokens.clear();
        }
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
        self.places[at] = self.long.len() as u32;
    }
}
