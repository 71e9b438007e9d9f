//! Some KB of a text, in which most pieces are found by bits, 64 bytes at a time.
//!
//! A piece of ASCII that is easy goes on to the next byte at which one begins. Where one begins is told by the kinds of
//! neighbouring bytes alone (`rules.rs`), which holds for all that follows a place at which a piece is known to begin.
//! What is not easy is left to the scanners: what may be a contraction, and all that touches characters that are no
//! ASCII.

use super::{Ascii, Scan, Text};
use crate::kernels::text::{BLOCK, Blocks, Work, classify, widest};

/// Blocks of a tile.
const BLOCKS: usize = 64;
/// Blocks that are worked at together.
pub(super) const TOGETHER: usize = 4;
/// Blocks of which something is known: one more than are asked about, since pieces reach beyond their block.
pub(super) const KNOWN: usize = (BLOCKS + 1).next_multiple_of(TOGETHER);
/// Blocks whose bytes are looked at: one of nothing before them, and one behind them.
pub(super) const KINDS: usize = KNOWN + 2;
/// Bytes of a tile.
const BYTES: usize = BLOCKS * BLOCK;
/// Pieces of a block whose ends are written at once.
const AT_ONCE: usize = 8;
/// Pieces that are found at a time.
pub(in super::super) const PIECES: usize = 1024;

/// What is known of blocks of 64 bytes, a bit each.
#[derive(Debug)]
pub(super) struct Known {
    /// Where pieces begin.
    pub(super) begins: [u64; KNOWN],
    /// Pieces that begin here are easy.
    pub(super) easy: [u64; KNOWN],
    /// Of `begins`: a piece that goes on to here may go on.
    pub(super) doubtful: [u64; KNOWN],
    /// White space behind the end of a line, at which a piece begins if no other end of a line follows in it.
    pub(super) behind_lines: [u64; KNOWN],
}

/// What the bytes of blocks are.
#[derive(Debug)]
pub(super) struct Kinds {
    pub(super) blocks: Blocks<KINDS>,
    /// Ends of lines that go with the marks before them.
    pub(super) taken: [u64; KINDS],
}

impl Kinds {
    /// Finds the ends of lines that go with the marks before them.
    #[inline(always)]
    pub(super) fn take_lines(&mut self, count: usize) {
        let Blocks { lines, marks, .. } = &self.blocks;
        for at in 1..=count.min(KNOWN) {
            let begins = marks[at] << 1 | (marks[at - 1] | self.taken[at - 1]) >> 63;
            // Adding one to the first of some ones that follow each other moves it behind them.
            self.taken[at] = lines[at] & !lines[at].wrapping_add(lines[at] & begins);
        }
    }
}

/// A part of a text. It moves along with the pieces.
#[derive(Debug)]
pub(in super::super) struct Tile {
    /// Where in the text it begins.
    begin: usize,
    /// How many bytes it may be asked about.
    length: usize,
    known: Box<Known>,
    kinds: Box<Kinds>,
    ends: Box<[usize; PIECES]>,
}

impl Tile {
    /// A tile of no text.
    pub(in super::super) fn new() -> Self {
        Self {
            begin: 0,
            length: 0,
            known: Box::new(Known {
                begins: [0; KNOWN],
                easy: [0; KNOWN],
                doubtful: [0; KNOWN],
                behind_lines: [0; KNOWN],
            }),
            kinds: Box::new(Kinds {
                blocks: Blocks::new(),
                taken: [0; KINDS],
            }),
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
            let known = &*self.known;
            let (easies, doubtful) = (known.easy[block], known.doubtful[block]);
            let base = self.begin + block * BLOCK;

            let begins = known.begins[block] & (!1 << shift);
            let hard = begins & (doubtful | !easies);
            let mut easy = begins & hard.wrapping_sub(1) & !hard;
            if easies >> shift & 1 == 0 {
                at = scan.piece_end(text, at);
                self.ends[count] = at;
                count += 1;
                continue;
            }
            if let Some(last) = easy.checked_ilog2() {
                at = base + last as usize;
            }
            let behind = count + easy.count_ones() as usize;
            // Some at a time, mostly more than there are, so that nobody guesses how many.
            loop {
                for end in &mut self.ends[count..count + AT_ONCE] {
                    *end = base + easy.trailing_zeros() as usize;
                    easy &= easy.wrapping_sub(1);
                }
                count += AT_ONCE;
                if easy == 0 {
                    break;
                }
            }
            count = behind;
            let (begin, is_doubtful) = if hard != 0 {
                let first = hard.trailing_zeros();
                (base + first as usize, doubtful >> first & 1 == 1)
            } else {
                let (begins, doubtful) = (known.begins[block + 1], known.doubtful[block + 1]);
                let first = begins.trailing_zeros();
                let is_doubtful = begins == 0 || doubtful >> first & 1 == 1;
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
    fn move_to(&mut self, ascii: &'static Ascii, text: Text<'_>, at: usize) {
        let bytes = &text.bytes[at..text.end.min(at + BYTES + BLOCK)];
        let count = classify(bytes, &mut self.kinds.blocks, 1);
        widest(Know {
            ascii,
            kinds: &mut self.kinds,
            known: &mut self.known,
            count,
        });
        let known = &mut *self.known;
        if at + bytes.len() == text.end {
            // Pieces reach into the block behind the text as well, and a text ends a piece.
            if count <= BLOCKS {
                known.begins[count] = 0;
                known.doubtful[count] = 0;
            }
            let block = bytes.len() / BLOCK;
            if block <= BLOCKS {
                let end = 1 << (bytes.len() % BLOCK);
                known.begins[block] |= end;
                known.doubtful[block] &= !end;
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
            known.easy[doubtful..].fill(0);
            known.doubtful[doubtful..].fill(!0);
        }
        self.begin = at;
        self.length = BYTES;
    }
}

/// Telling what is known of the first blocks from what their bytes are.
struct Know<'a> {
    ascii: &'static Ascii,
    kinds: &'a mut Kinds,
    known: &'a mut Known,
    count: usize,
}

impl Work for Know<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        self.ascii.know(self.kinds, self.known, self.count);
    }
}
