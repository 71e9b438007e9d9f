//! What an expression makes of ASCII, told for 64 bytes at once from the kinds of neighbouring bytes.

use super::tile::Known;
use crate::kernels::text::Block;

/// How ASCII is cut.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Ascii {
    /// As an expression does it.
    Rules(Rules),
    /// Between a letter and a space, and not between a letter and another nor between a space and a letter. The rest is
    /// not known.
    Words,
}

impl Ascii {
    /// What is known of a block between two others, as far as that does not depend on what comes later than the next
    /// block.
    #[inline(always)]
    pub(super) fn known(self, before: &mut Before, this: &Block, next: &Block) -> Known {
        match self {
            Self::Rules(rules) => rules.known(before, this, next),
            Self::Words => words(before, this),
        }
    }
}

fn words(before: &mut Before, this: &Block) -> Known {
    let letters_before = this.letters << 1 | before.block.letters >> 63;
    let blank_before = this.blank << 1 | before.block.blank >> 63;
    let begins = !(this.letters & (letters_before | blank_before));
    before.block = *this;
    Known {
        begins,
        easy: this.letters | this.blank,
        doubtful: begins & !(this.blank & letters_before),
        behind_lines: 0,
    }
}

/// What an expression does with ASCII.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Rules {
    /// Whether a tab or a mark goes with the letters behind it, as a space does.
    pub(super) marks_lead: bool,
    /// Whether a capital behind a small letter begins a piece.
    pub(super) capitals_begin: bool,
    /// Whether `'s` and the like are pieces.
    pub(super) contractions_begin: bool,
    /// Whether they are the end of a word.
    pub(super) contractions_end: bool,
    /// Whether white space is cut behind its last end of a line, and ends of lines go with the marks before them.
    pub(super) lines_end: bool,
    /// What is done with digits.
    pub(super) digits: Digits,
}

/// What an expression does with digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// They are as letters are.
    Words,
    /// Each is a piece.
    Single,
    /// Up to three are a piece.
    Three,
    /// Likewise, and nothing before them knows that they are there.
    ThreeApart,
}

/// What a block must know of the one before it.
#[derive(Debug, Default)]
pub(super) struct Before {
    block: Block,
    /// Marks that are alone.
    alone: u64,
    /// Ends of lines that go with the marks before them.
    taken: u64,
}

/// What a block must know of the one behind it: what white space at its beginning goes on to.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The end of a line.
    line: bool,
    /// What is no ASCII, and may be white space.
    rest: bool,
}

fn spaces(block: &Block) -> u64 {
    block.blank | block.lines | block.tabs
}

fn gaps(block: &Block) -> u64 {
    block.blank | block.tabs
}

/// All that is none of the kinds that rules know.
fn rest(block: &Block) -> u64 {
    !(block.letters | block.digits | block.marks | spaces(block))
}

impl Rules {
    #[inline(always)]
    fn known(self, before: &mut Before, this: &Block, next: &Block) -> Known {
        let behind = |of: fn(&Block) -> u64| of(this) << 1 | of(&before.block) >> 63;
        let ahead = |of: fn(&Block) -> u64| of(this) >> 1 | of(next) << 63;
        let letters = |block: &Block| block.letters;
        let digits = |block: &Block| block.digits;
        let marks = |block: &Block| block.marks;
        let blank = |block: &Block| block.blank;

        // What goes with the letters behind it: white space, of which the last character begins a piece, and marks that
        // are alone.
        let alone = this.marks & !behind(marks) & !ahead(marks) & !behind(blank);
        let leads = if self.marks_lead {
            behind(gaps) | alone << 1 | before.alone >> 63
        } else {
            behind(blank)
        };
        let mut words = this.letters & !behind(letters) & !leads;
        if self.capitals_begin {
            words |= this.upper & behind(|block| block.letters & !block.upper);
        }
        let (numbers, easy_numbers) = match self.digits {
            Digits::Words => (this.digits & !behind(digits) & !behind(blank), this.digits),
            Digits::Single => (this.digits, this.digits),
            Digits::Three | Digits::ThreeApart => {
                let begins = this.digits & !behind(digits);
                let far = |distance: u32| this.digits >> distance | next.digits << (64 - distance);
                (begins, begins & !(far(1) & far(2) & far(3)))
            }
        };
        let mark_runs = this.marks & !behind(marks) & !behind(blank);

        // Adding one to the first of some ones that follow each other moves it behind them.
        let taken = if self.lines_end {
            let first = this.lines & (behind(marks) | before.taken >> 63);
            this.lines & !this.lines.wrapping_add(first)
        } else {
            0
        };
        let taken_before = taken << 1 | before.taken >> 63;
        let space_runs = spaces(this) & !behind(spaces) & !taken;
        let mut last = spaces(this) & !ahead(spaces);
        if self.lines_end {
            last &= !this.lines;
        }
        if self.digits == Digits::ThreeApart {
            last &= !ahead(digits);
        }
        let behind_lines = gaps(this) & behind(|block| block.lines);
        let others = rest(this);

        let may_contract = if self.contractions_begin {
            this.apostrophes & ahead(letters)
        } else {
            0
        };
        let mut doubtful = others | last & ahead(rest) | this.marks & taken_before;
        if self.contractions_end {
            doubtful |= this.apostrophes & behind(letters);
        }
        let known = Known {
            begins: words
                | numbers
                | mark_runs
                | space_runs
                | last
                | others
                | gaps(this) & taken_before,
            easy: this.letters
                | easy_numbers
                | this.marks & !behind(marks) & !may_contract
                | spaces(this) & !(last & ahead(rest)),
            doubtful,
            behind_lines: if self.lines_end {
                behind_lines & !taken_before
            } else {
                0
            },
        };
        *before = Before {
            block: *this,
            alone,
            taken,
        };
        known
    }
}

/// Adds to what is known of a block that white space is cut behind its last end of a line.
#[inline(always)]
pub(super) fn cut_lines(known: &mut Known, block: &Block, ahead: &mut Ahead) {
    // Each step doubles how far something is seen from, through white space.
    let gaps = gaps(block);
    if known.behind_lines == 0 {
        // All that matters is what the block begins with.
        let end = (!gaps).trailing_zeros();
        if end < u64::BITS {
            *ahead = Ahead {
                line: block.lines >> end & 1 == 1,
                rest: rest(block) >> end & 1 == 1,
            };
        }
        return;
    }
    let mut line = block.lines | u64::from(ahead.line) << 63 & gaps;
    let mut rest = rest(block) | u64::from(ahead.rest) << 63 & gaps;
    let mut through = gaps;
    for distance in [1, 2, 4, 8, 16, 32] {
        line |= through & line >> distance;
        rest |= through & rest >> distance;
        through &= through >> distance;
    }
    known.begins |= known.behind_lines & !line;
    known.doubtful |= known.behind_lines & rest;
    *ahead = Ahead {
        line: line & 1 == 1,
        rest: rest & 1 == 1,
    };
}
