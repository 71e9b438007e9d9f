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
    pub(super) const PITCH: usize = 28;
}

/// Words of an instruction that takes inputs; as in the sources.
mod taking {
    pub(super) const PITCH: usize = 2;
    pub(super) const SQUARES: usize = 3;
    pub(super) const NARROW: usize = 12;
}

/// In which order inputs are, and how far apart their rows: whole steps.
type Order = (i64, i32);

/// Instructions that make what no product has taken yet, and how what lies in a region was ordered before.
#[derive(Debug, Default)]
pub(super) struct Handed {
    makers: Vec<(Region, usize)>,
    orders: Vec<(Region, Order)>,
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
        let pitch = form.steps(inputs) * form.span();
        let order = (form.order(), pitch);
        let narrow = match source {
            Region::Residual => Region::Rounded,
            _ => source,
        };
        // Numbers of two bytes in words of four.
        taker[taking::NARROW] = self.scratch.region(narrow, (pitch + 1) / 2);
        taker[taking::PITCH] = Word::Number(pitch.into());
        taker[taking::SQUARES] = self.scratch.region(Region::Squares, 0);
        let mut is_made = false;
        for &(_, maker) in self
            .handed
            .makers
            .iter()
            .filter(|(region, _)| *region == source)
        {
            is_made = true;
            let words = &mut self.instructions[maker];
            words[making::ORDER] = Word::Number(order.0);
            words[making::PITCH] = Word::Number(pitch.into());
            if let Some(norm) = norm {
                words[making::NORM] = norm;
            }
        }
        self.handed.makers.retain(|(region, _)| *region != source);
        // What is taken twice, or has other things behind it where a row ends within a step, is not made so.
        let orders = &mut self.handed.orders;
        let is_new = orders
            .iter()
            .all(|(region, known)| *region != source || *known == order);
        if !is_made || (!is_new && form.is_ragged()) {
            self.facts.rows = self.facts.rows.min(FEW);
        }
        if is_new {
            orders.push((source, order));
        }
    }
}
