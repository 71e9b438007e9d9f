//! What an expression makes of ASCII, told for 64 bytes at once from the kinds of neighbouring bytes.

use super::tile::{KINDS, KNOWN, Kinds, Known, TOGETHER};

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
    /// Tells what is known of the first blocks, of which the kinds begin behind the first place.
    #[inline(always)]
    pub(super) fn know(&self, kinds: &mut Kinds, known: &mut Known, count: usize) {
        let count = count.min(KNOWN);
        match self {
            Self::Rules(rules) => rules.know(kinds, known, count),
            Self::Words => words(kinds, known, count),
        }
    }
}

#[inline(always)]
fn words(kinds: &Kinds, known: &mut Known, count: usize) {
    let Kinds { blocks, .. } = kinds;
    for at in 0..count {
        let (letters, blank) = (blocks.letters[at + 1], blocks.blank[at + 1]);
        let letters_before = letters << 1 | blocks.letters[at] >> 63;
        let blank_before = blank << 1 | blocks.blank[at] >> 63;
        let begins = !(letters & (letters_before | blank_before));
        known.begins[at] = begins;
        known.easy[at] = letters | blank;
        known.doubtful[at] = begins & !(blank & letters_before);
        known.behind_lines[at] = 0;
    }
}

/// Says of all bytes of a block that something is so.
pub(super) const YES: u64 = u64::MAX;
/// Says that it is not.
pub(super) const NO: u64 = 0;

/// What an expression does with ASCII: [`YES`] or [`NO`].
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Rules {
    /// Whether a tab or a mark goes with the letters behind it, as a space does.
    pub(super) marks_lead: u64,
    /// Whether a capital behind a small letter begins a piece.
    pub(super) capitals_begin: u64,
    /// Whether `'s` and the like are pieces.
    pub(super) contractions_begin: u64,
    /// Whether they are the end of a word.
    pub(super) contractions_end: u64,
    /// Whether white space is cut behind its last end of a line, and ends of lines go with the marks before them.
    pub(super) lines_end: u64,
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

/// All ones, or all zeros.
fn mask(is_so: bool) -> u64 {
    u64::from(is_so).wrapping_neg()
}

impl Rules {
    /// Some blocks at a time, wherever that is possible: no block waits for what is made of another.
    #[inline(always)]
    fn know(&self, kinds: &mut Kinds, known: &mut Known, count: usize) {
        let Self {
            marks_lead,
            capitals_begin,
            contractions_begin,
            contractions_end,
            lines_end,
            digits: _,
        } = *self;
        let digits_are_words = mask(self.digits == Digits::Words);
        let digits_are_single = mask(self.digits == Digits::Single);
        let digits_are_three = mask(matches!(self.digits, Digits::Three | Digits::ThreeApart));
        let digits_are_apart = mask(self.digits == Digits::ThreeApart);

        if self.lines_end == YES {
            kinds.take_lines(count);
        }
        let Kinds { blocks, taken } = &*kinds;
        let mut any_behind_lines = 0;
        for group in 0..count.div_ceil(TOGETHER).min(KNOWN / TOGETHER) {
            // A loop of a known length is done at once, whatever the width that the compiler likes best.
            for at in group * TOGETHER..(group + 1) * TOGETHER {
                let behind = |of: &[u64; KINDS]| of[at + 1] << 1 | of[at] >> 63;
                let ahead = |of: &[u64; KINDS]| of[at + 1] >> 1 | of[at + 2] << 63;
                let far = |of: &[u64; KINDS], distance: u32| {
                    of[at + 1] >> distance | of[at + 2] << (64 - distance)
                };
                let (letters, digits, marks) = (
                    blocks.letters[at + 1],
                    blocks.digits[at + 1],
                    blocks.marks[at + 1],
                );
                let (upper, lines) = (blocks.upper[at + 1], blocks.lines[at + 1]);
                let gaps = blocks.blank[at + 1] | blocks.tabs[at + 1];
                let spaces = gaps | lines;
                let gaps_before = behind(&blocks.blank) | behind(&blocks.tabs);
                let spaces_before = gaps_before | behind(&blocks.lines);
                let spaces_next = ahead(&blocks.blank) | ahead(&blocks.tabs) | ahead(&blocks.lines);
                let others = !(letters | digits | marks | spaces);
                let others_next = !(ahead(&blocks.letters)
                    | ahead(&blocks.digits)
                    | ahead(&blocks.marks)
                    | spaces_next);
                let (marks_before, letters_before) =
                    (behind(&blocks.marks), behind(&blocks.letters));
                let (blank_before, digits_before) = (behind(&blocks.blank), behind(&blocks.digits));

                // What goes with the letters behind it: white space, of which the last character begins a piece, and marks
                // that are alone.
                let alone = marks & !marks_before & !ahead(&blocks.marks) & !blank_before;
                let before = at + 1;
                let last_alone = blocks.marks[before - 1] >> 63
                    & !(blocks.marks[before - 1] >> 62)
                    & !marks
                    & !(blocks.blank[before - 1] >> 62)
                    & 1;
                let leads = blank_before | marks_lead & (gaps_before | alone << 1 | last_alone);
                let words = letters & !letters_before & !leads
                    | capitals_begin & upper & letters_before & !behind(&blocks.upper);
                let first_digits = digits & !digits_before;
                let numbers = digits_are_words & first_digits & !blank_before
                    | digits_are_single & digits
                    | digits_are_three & first_digits;
                let in_fours =
                    far(&blocks.digits, 1) & far(&blocks.digits, 2) & far(&blocks.digits, 3);
                let easy_numbers = !digits_are_three & digits | first_digits & !in_fours;
                let mark_runs = marks & !marks_before & !blank_before;

                let taken_before = behind(taken);
                let space_runs = spaces & !spaces_before & !taken[at + 1];
                let last = spaces
                    & !spaces_next
                    & !(lines_end & lines)
                    & !(digits_are_apart & ahead(&blocks.digits));
                let behind_lines = gaps & behind(&blocks.lines);
                let apostrophes = blocks.apostrophes[at + 1];
                let may_contract = contractions_begin & apostrophes & ahead(&blocks.letters);

                known.begins[at] =
                    words | numbers | mark_runs | space_runs | last | others | gaps & taken_before;
                known.easy[at] = letters
                    | easy_numbers
                    | marks & !marks_before & !may_contract
                    | spaces & !(last & others_next);
                known.doubtful[at] = others
                    | last & others_next
                    | marks & taken_before
                    | contractions_end & apostrophes & letters_before;
                known.behind_lines[at] = lines_end & behind_lines & !taken_before;
                any_behind_lines |= known.behind_lines[at];
            }
        }
        if any_behind_lines != 0 {
            cut_lines(kinds, known, count);
        }
    }
}

/// Adds to what is known of blocks that white space is cut behind its last end of a line.
#[inline(always)]
fn cut_lines(kinds: &Kinds, known: &mut Known, count: usize) {
    let Kinds { blocks, .. } = kinds;
    // What white space at the end of a block goes on to: the end of a line, or what is no ASCII and may be white space.
    let (mut line_ahead, mut rest_ahead) = (0, 0);
    for at in (0..count).rev() {
        let gaps = blocks.blank[at + 1] | blocks.tabs[at + 1];
        let lines = blocks.lines[at + 1];
        let named = blocks.letters[at + 1] | blocks.digits[at + 1] | blocks.marks[at + 1];
        let rest = !(named | gaps | lines);
        if known.behind_lines[at] == 0 {
            // All that matters is what the block begins with.
            let end = (!gaps).trailing_zeros();
            if end < u64::BITS {
                (line_ahead, rest_ahead) = (lines >> end & 1, rest >> end & 1);
            }
            continue;
        }
        // Each step doubles how far something is seen from, through white space.
        let mut line = lines | line_ahead << 63 & gaps;
        let mut rest = rest | rest_ahead << 63 & gaps;
        let mut through = gaps;
        for distance in [1, 2, 4, 8, 16, 32] {
            line |= through & line >> distance;
            rest |= through & rest >> distance;
            through &= through >> distance;
        }
        known.begins[at] |= known.behind_lines[at] & !line;
        known.doubtful[at] |= known.behind_lines[at] & rest;
        (line_ahead, rest_ahead) = (line & 1, rest & 1);
    }
}
