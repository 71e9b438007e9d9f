//! What an instruction is made of, and where in the scratch memory vectors lie.

use super::ROWS;

/// Numbers of an instruction.
pub(super) const WORDS: usize = 32;

/// Runs that the positions of a sequence are parted in at most, which are attended to side by side; as in the
/// sources.
pub(super) const SPLITS: i32 = 32;

/// Warps of a block that compute; as in the sources.
const WARPS: i32 = 16;

/// Those of them that are read for together, by a warp that does nothing else: they share a tile.
pub(super) const TOGETHER: i32 = 4;

/// What an instruction begins with.
pub(super) mod code {
    pub(in super::super) const END: i64 = 0;
    pub(in super::super) const EMBED: i64 = 1;
    pub(in super::super) const MULTIPLY: i64 = 2;
    pub(in super::super) const ATTEND: i64 = 3;
    pub(in super::super) const COMBINE: i64 = 4;
    pub(in super::super) const ANGLES: i64 = 5;
    pub(in super::super) const SUM: i64 = 6;
    pub(in super::super) const ADD_NORMED: i64 = 7;
}

/// A word of an instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Word {
    /// As it is.
    Number(i64),
    /// Where this one of the arrays lies.
    Address(usize),
    /// How the card's copy engine knows this one of the matrices.
    Map(usize),
    /// Where this region begins, or so many numbers of a row after that.
    Place(Region, i32),
    /// How many warps share one of so many tiles, which takes so many steps.
    Warps(i32, i32),
}

/// A matrix, or a stack of them, that whole boxes are copied of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boxed {
    /// Which one of the arrays it is.
    pub(super) array: usize,
    pub(super) rows: i64,
    /// Of a row.
    pub(super) bytes: i64,
}

/// An instruction.
pub(super) type Instruction = [Word; WORDS];

/// A region of the scratch memory: `[rows, width]`, as wide as the widest of what is put there. They lie in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// Hidden states.
    Residual,
    /// Queries, keys and values, before they are turned.
    Projected,
    /// What heads read.
    Attended,
    /// What is between the matrices of a feed-forward layer.
    Gated,
    /// What runs of positions give.
    Partial,
    /// What experts are chosen by.
    Scores,
    /// Hidden states in bfloat16, where a step has many rows.
    Rounded,
    /// What a layer made, before it is normalized.
    Made,
    /// Sums of squares of hidden states, where a step has many rows.
    Squares,
    /// Cosines and sines of what each kind of rotation turns by.
    Angles,
}

/// As many as there are.
const REGIONS: usize = 10;

/// The regions, each as wide as was asked for.
#[derive(Debug, Default)]
pub(super) struct Scratch([i32; REGIONS]);

impl Scratch {
    /// The region, which holds rows of this width.
    pub(super) fn region(&mut self, region: Region, width: i32) -> Word {
        let widest = &mut self.0[region as usize];
        *widest = width.max(*widest);
        Word::Place(region, 0)
    }

    /// Room for rows of this width in the region, behind what is there.
    pub(super) fn behind(&mut self, region: Region, width: i32) -> Word {
        let all = &mut self.0[region as usize];
        *all += width;
        Word::Place(region, *all - width)
    }

    /// Numbers of all regions.
    pub(super) fn numbers(&self) -> i64 {
        let last = Region::Angles;
        self.place(last, self.0[last as usize])
    }

    fn place(&self, region: Region, after: i32) -> i64 {
        let before = self.0[..region as usize].iter().chain([&after]);
        before.map(|&width| i64::from(width) * ROWS as i64).sum()
    }

    /// A number where all regions are known, for a card with so many multiprocessors.
    pub(super) fn resolve(&self, word: Word, multiprocessors: i32) -> Word {
        match word {
            Word::Place(region, after) => Word::Number(self.place(region, after)),
            Word::Warps(tiles, steps) => {
                Word::Number(warps_of_a_tile(tiles, steps, multiprocessors).into())
            }
            Word::Number(_) | Word::Address(_) | Word::Map(_) => word,
        }
    }
}

/// Warps that share a tile, so that as few steps as possible come one after the other. Of numbers that are about as good
/// it is the largest: what is read at one time lies together.
pub(in crate::ops) fn warps_of_a_tile(tiles: i32, steps: i32, multiprocessors: i32) -> i32 {
    let cost = |warps: &i32| {
        let of_a_block = (tiles + multiprocessors - 1) / multiprocessors;
        let at_once = WARPS / warps;
        let rounds = (of_a_block + at_once - 1) / at_once;
        // What a tile ends with takes as long as a step.
        rounds * ((steps + warps - 1) / warps + 1)
    };
    let all = [16, 8, 4];
    let best = all.iter().map(cost).min().unwrap_or(0);
    let good = all.iter().find(|warps| cost(warps) * 16 <= best * 17);
    good.copied().unwrap_or(TOGETHER)
}

pub(super) fn begun(code: i64) -> Instruction {
    let mut words = [Word::Number(0); WORDS];
    words[0] = Word::Number(code);
    words
}

/// A word with the bits of a number.
pub(super) fn float(number: f32) -> Word {
    Word::Number(number.to_bits().into())
}
