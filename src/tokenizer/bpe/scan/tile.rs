//! Some KB of a text, in which most pieces are found by bits, 64 bytes at a time.
//!
//! A piece of ASCII that is easy goes on to the next byte at which one begins. Where one begins is told by the kinds of
//! neighbouring bytes alone (`rules.rs`), which holds for all that follows a place at which a piece is known to begin.
//! What is not easy is left to the scanners: what may be a contraction, and all that touches characters that are no
//! ASCII.

use super::rules::{Ahead, Before, cut_lines};
use super::{Ascii, Scan, Text};
use crate::kernels::text::{BLOCK, Block, Work, classify, widest};

/// Blocks of a tile.
const BLOCKS: usize = 64;
/// Bytes of a tile.
const BYTES: usize = BLOCKS * BLOCK;
/// Pieces that are found at a time.
pub(in super::super) const PIECES: usize = 1024;

/// What is known of 64 bytes, a bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Where pieces begin.
    pub(super) begins: u64,
    /// Pieces that begin here are easy.
    pub(super) easy: u64,
    /// Of `begins`: a piece that goes on to here may go on.
    pub(super) doubtful: u64,
    /// White space behind the end of a line, at which a piece begins if no other end of a line follows in it.
    pub(super) behind_lines: u64,
}

/// A part of a text. It moves along with the pieces.
#[derive(Debug)]
pub(in super::super) struct Tile {
    /// Where in the text it begins.
    begin: usize,
    /// How many bytes it may be asked about.
    length: usize,
    /// One more than are asked about: pieces reach beyond their block.
    known: Box<[Known; BLOCKS + 1]>,
    /// What the bytes are, and a block of nothing behind them.
    blocks: Box<[Block; BLOCKS + 2]>,
    ends: Box<[usize; PIECES]>,
}

impl Tile {
    /// A tile of no text.
    pub(in super::super) fn new() -> Self {
        Self {
            begin: 0,
            length: 0,
            known: Box::new([Known::default(); BLOCKS + 1]),
            blocks: Box::new([Block::default(); BLOCKS + 2]),
            ends: Box::new([0; PIECES]),
        }
    }

    /// Forgets the text it is of.
    pub(in super::super) fn reset(&mut self) {
        self.length = 0;
    }

    /// Where the pieces end that follow each other from `at` on: some, up to `until` or a little further.
    #[inline]
    pub(in super::super) fn ends(
        &mut self,
        scan: &impl Scan,
        text: Text<'_>,
        mut at: usize,
        until: usize,
    ) -> &[usize] {
        let mut count = 0;
        // A block has 64 pieces at most, and there may be one more behind it.
        while at < until && count < PIECES - BLOCK - 1 {
            let Some(ascii) = scan.ascii() else {
                at = scan.piece_end(text, at);
                self.ends[count] = at;
                count += 1;
                continue;
            };
            let mut offset = at.wrapping_sub(self.begin);
            if offset >= self.length {
                self.move_to(ascii, text, at);
                offset = 0;
            }
            let (block, shift) = (offset / BLOCK % BLOCKS, offset % BLOCK);
            let (known, next) = (self.known[block], self.known[block + 1]);
            let base = self.begin + block * BLOCK;

            let begins = known.begins & (!1 << shift);
            let hard = begins & (known.doubtful | !known.easy);
            let mut easy = begins & hard.wrapping_sub(1) & !hard;
            if known.easy >> shift & 1 == 0 {
                at = scan.piece_end(text, at);
                self.ends[count] = at;
                count += 1;
                continue;
            }
            while easy != 0 {
                at = base + easy.trailing_zeros() as usize;
                self.ends[count] = at;
                count += 1;
                easy &= easy - 1;
            }
            let (begin, is_doubtful) = if hard != 0 {
                let first = hard.trailing_zeros();
                (base + first as usize, known.doubtful >> first & 1 == 1)
            } else {
                let first = next.begins.trailing_zeros();
                let is_doubtful = next.begins == 0 || next.doubtful >> first & 1 == 1;
                (base + BLOCK + first as usize, is_doubtful)
            };
            at = if is_doubtful {
                scan.piece_end(text, at)
            } else {
                begin
            };
            self.ends[count] = at;
            count += 1;
        }
        &self.ends[..count]
    }

    #[inline(never)]
    fn move_to(&mut self, ascii: Ascii, text: Text<'_>, at: usize) {
        let bytes = &text.bytes[at..text.end.min(at + BYTES + BLOCK)];
        let count = bytes.len().div_ceil(BLOCK);
        classify(bytes, &mut self.blocks[..count]);
        self.blocks[count] = Block::default();
        // Pieces reach into the block behind the text as well.
        if let Some(known) = self.known.get_mut(count) {
            *known = Known::default();
        }
        widest(Know {
            ascii,
            blocks: &self.blocks[..=count],
            known: &mut self.known[..count],
        });
        if at + bytes.len() == text.end {
            // A text ends a piece.
            if let Some(known) = self.known.get_mut(bytes.len() / BLOCK) {
                let end = 1 << (bytes.len() % BLOCK);
                known.begins |= end;
                known.doubtful &= !end;
            }
        } else {
            // What is behind the last block is not known, nor what white space comes to that reaches there from far.
            let gap = bytes
                .iter()
                .rev()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c))
                .count();
            let doubtful = if gap >= BLOCK {
                (bytes.len() - gap) / BLOCK
            } else {
                BLOCKS
            };
            for known in &mut self.known[doubtful..] {
                (known.easy, known.doubtful) = (0, !0);
            }
        }
        self.begin = at;
        self.length = BYTES;
    }
}

/// Telling what is known of blocks from what their bytes are; of these there is one more.
struct Know<'a> {
    ascii: Ascii,
    blocks: &'a [Block],
    known: &'a mut [Known],
}

impl Work for Know<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let mut before = Before::default();
        for (known, pair) in self.known.iter_mut().zip(self.blocks.windows(2)) {
            *known = self.ascii.known(&mut before, &pair[0], &pair[1]);
        }
        let mut ahead = Ahead::default();
        for (known, block) in self.known.iter_mut().zip(self.blocks).rev() {
            cut_lines(known, block, &mut ahead);
        }
    }
}
