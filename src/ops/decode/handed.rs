//! Who makes the inputs of products, and how they want them where a step has many rows: see `operands.cu`.

use super::builder::Builder;
use super::instruction::{Instruction, Region, Word};
use super::stored::Form;

/// Hidden states whose squares are added up by who makes them; as in the sources.
const SQUARES: i32 = 16;

/// Rows of a step up to which inputs are handed over in float32, as they are.
const FEW: i32 = 4;

/// Words of an instruction that makes inputs; as in the sources.
mod making {
    pub(super) const HIDDEN: usize = 13;
    pub(super) const NORM: usize = 21;
    pub(super) const SQUARES: usize = 22;
    pub(super) const ORDER: usize = 26;
}

/// Words of an instruction that takes inputs; as in the sources.
mod taking {
    pub(super) const SQUARES: usize = 3;
    pub(super) const NARROW: usize = 12;
}

/// Instructions that make what no product has taken yet, and the orders in which regions are taken by products, with whether
/// their rows end within a step.
#[derive(Debug, Default)]
pub(super) struct Handed {
    makers: Vec<(Region, usize)>,
    orders: Vec<(Region, i64, bool)>,
}

impl Builder {
    /// The last instruction makes `width` hidden states of each row.
    pub(super) fn makes_hidden(&mut self, width: i32) {
        let words = [
            (making::HIDDEN, self.scratch.region(Region::Rounded, width)),
            (
                making::SQUARES,
                self.scratch.region(Region::Squares, width / SQUARES),
            ),
        ];
        if let Some(last) = self.instructions.last_mut() {
            for (at, word) in words {
                last[at] = word;
            }
        }
        self.makes(Region::Residual);
    }

    /// The last instruction makes what is in this region.
    pub(super) fn makes(&mut self, region: Region) {
        if let Some(last) = self.instructions.len().checked_sub(1) {
            self.handed.makers.push((region, last));
        }
    }

    /// `taker`, a product with a matrix of this form and such a row, takes what is in this region, multiplied with
    /// weights where they are somewhere.
    pub(super) fn takes(
        &mut self,
        taker: &mut Instruction,
        source: Region,
        (form, inputs): (&Form, i32),
        norm: Option<Word>,
    ) {
        let order = form.order();
        let narrow = match source {
            Region::Residual => Region::Rounded,
            _ => source,
        };
        // Whole steps, of numbers of two bytes in words of four.
        let width = form.steps(inputs) * form.span() / 2;
        taker[taking::NARROW] = self.scratch.region(narrow, width);
        taker[taking::SQUARES] = self.scratch.region(Region::Squares, 0);
        let is_made = self.handed.makers.iter().any(|&(made, _)| made == source);
        for (_, maker) in self
            .handed
            .makers
            .extract_if(.., |(made, _)| *made == source)
        {
            let words = &mut self.instructions[maker];
            words[making::ORDER] = Word::Number(order);
            if let Some(norm) = norm {
                words[making::NORM] = norm;
            }
        }
        // Not so what is taken twice; nor where a row ends within a step, and others leave something else behind it.
        let taken = (source, order, form.is_ragged());
        let known = &mut self.handed.orders;
        let spoils = |&(of, other, is_ragged): &(Region, i64, bool)| {
            of == source && other != order && (is_ragged || form.is_ragged())
        };
        if !is_made || known.iter().any(spoils) {
            self.facts.rows = self.facts.rows.min(FEW);
        }
        if !known.contains(&taken) {
            known.push(taken);
        }
    }
}
