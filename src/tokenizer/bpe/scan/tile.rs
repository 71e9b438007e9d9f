//! Some KB of a text, classified by bits.

use super::Text;
use crate::kernels::text::{BLOCK, Block, classify};

/// Blocks of a tile.
const BLOCKS: usize = 64;
/// Bytes of a tile.
const BYTES: usize = BLOCKS * BLOCK;

/// A part of a text, as bits. It moves along with the pieces.
#[derive(Debug)]
pub(in super::super) struct Tile {
    /// Where in the text it begins.
    begin: usize,
    /// Up to where it may be asked for windows.
    end: usize,
    /// One more than are asked for: windows reach beyond their block.
    blocks: Box<[Block; BLOCKS + 1]>,
}

/// What the next 64 bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    low: Block,
    high: Block,
    shift: u32,
}

impl Tile {
    /// A tile of no text.
    pub(in super::super) fn new() -> Self {
        Self {
            begin: 0,
            end: 0,
            blocks: Box::new([Block::default(); BLOCKS + 1]),
        }
    }

    /// Forgets the text it is of.
    pub(in super::super) fn reset(&mut self) {
        (self.begin, self.end) = (0, 0);
    }

    /// What the bytes from `at` on are, of which the tile moves on to have some.
    #[inline]
    pub(super) fn window(&mut self, text: Text<'_>, at: usize) -> Window {
        if at < self.begin || at >= self.end {
            self.move_to(text, at);
        }
        let offset = at - self.begin;
        let block = offset / BLOCK % BLOCKS;
        Window {
            low: self.blocks[block],
            high: self.blocks[block + 1],
            shift: (offset % BLOCK) as u32,
        }
    }

    #[inline(never)]
    fn move_to(&mut self, text: Text<'_>, at: usize) {
        let bytes = &text.bytes[at..text.end.min(at + BYTES + BLOCK)];
        // The block behind the text as well, which windows reach into.
        let blocks = (bytes.len() / BLOCK + 2).min(BLOCKS + 1);
        classify(bytes, &mut self.blocks[..blocks]);
        self.begin = at;
        self.end = at + BYTES;
    }
}

impl Window {
    #[inline]
    fn bits(self, low: u64, high: u64) -> u64 {
        low >> self.shift | high << 1 << (63 - self.shift)
    }

    /// How many of the 64 bytes are letters, from the first on, `skip` of which are taken for granted.
    #[inline]
    pub(super) fn letters(self, skip: usize) -> usize {
        let bits = self.bits(
            self.low.upper | self.low.lower,
            self.high.upper | self.high.lower,
        );
        run(bits, skip)
    }

    /// Likewise, of upper case letters.
    #[inline]
    pub(super) fn upper(self, skip: usize) -> usize {
        run(self.bits(self.low.upper, self.high.upper), skip)
    }

    /// Likewise, of lower case letters.
    #[inline]
    pub(super) fn lower(self, skip: usize) -> usize {
        run(self.bits(self.low.lower, self.high.lower), skip)
    }

    /// Likewise, of white space.
    #[inline]
    pub(super) fn space(self, skip: usize) -> usize {
        run(self.bits(self.low.space, self.high.space), skip)
    }

    /// Likewise, of all that is no letter, digit or white space.
    #[inline]
    pub(super) fn other(self, skip: usize) -> usize {
        run(self.bits(self.low.other, self.high.other), skip)
    }
}

/// The length of the run of ones that begins at bit `skip`, and `skip` itself; 64 where it may go on.
#[inline]
fn run(bits: u64, skip: usize) -> usize {
    let taken = (1u64 << (skip % BLOCK)) - 1;
    (bits | taken).trailing_ones() as usize
}
