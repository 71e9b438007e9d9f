//! What becomes of a product: where the kernel puts it, or adds it to what several processes have of it.

use std::sync::Arc;

use super::ROWS;
use super::builder::Builder;
use super::instruction::{Instruction, Region, Word, begun, code, float};
use super::stored::stored;
use crate::error::Result;
use crate::kernels::gate::Activation;
use crate::mlx::Group;
use crate::ops::linear::Linear;
use crate::ops::norm::RmsNorm;

/// Processes that may compute together; as in the sources.
const RANKS: usize = 8;

/// What becomes of a product.
pub(super) enum Then {
    Store(Region),
    Add,
    Gate(Activation),
    Logits(Option<f32>),
    /// Sent to all of a group, which add up what each has of it: to hidden states, or by itself.
    Share(Arc<Group>, Region),
}

impl Then {
    /// What becomes of a product of which each of a group has a part, or of a whole one.
    pub(super) fn add(group: Option<&Arc<Group>>) -> Self {
        group.map_or(Self::Add, |group| {
            Self::Share(Arc::clone(group), Region::Residual)
        })
    }
}

impl Builder {
    /// What becomes of a product with so many rows, as the kernel knows it, and where it goes; `None` where the kernel
    /// does not know it.
    pub(super) fn destination(
        &mut self,
        then: &Then,
        rows: i32,
        words: &mut Instruction,
    ) -> Option<(i64, Word)> {
        Some(match then {
            Then::Store(region) => (0, self.scratch.region(*region, rows)),
            Then::Add => (1, self.scratch.region(Region::Residual, rows)),
            Then::Gate(activation) => {
                words[9] = Word::Number(match activation {
                    Activation::Silu => 0,
                    Activation::GeluTanh => 1,
                    Activation::Clamped(limit) => {
                        words[13] = float(*limit);
                        2
                    }
                });
                (2, self.scratch.region(Region::Gated, rows))
            }
            Then::Logits(soft_cap) => {
                words[13] = float(soft_cap.unwrap_or(0.0));
                (3, Word::Number(0))
            }
            Then::Share(group, _) => {
                let buffer = self.mail(group, rows)?;
                words[9] = Word::Number(self.facts.sums);
                (4, Word::Number(buffer))
            }
        })
    }

    /// A product to the residual stream, normalized before where there is a norm after it.
    pub(super) fn lead_back(
        &mut self,
        linear: &Linear,
        source: Region,
        after: Option<&RmsNorm>,
    ) -> Result<bool> {
        let Some(norm) = after else {
            let add = Then::add(linear.group.as_ref());
            return self.multiply(None, &[linear], source, &add);
        };
        let (Some(matrix), Some(weight)) = (stored(&linear.matrix), self.vector(&norm.weight)?)
        else {
            return Ok(false);
        };
        let store = match &linear.group {
            Some(group) => Then::Share(Arc::clone(group), Region::Made),
            None => Then::Store(Region::Made),
        };
        if !self.multiply(None, &[linear], source, &store)? {
            return Ok(false);
        }
        let width = matrix.rows;
        let mut words = begun(code::ADD_NORMED);
        words[1] = Word::Number(width.into());
        words[4] = self.scratch.region(Region::Made, width);
        words[5] = weight;
        words[6] = float(norm.epsilon);
        words[8] = self.scratch.region(Region::Residual, width);
        self.instructions.push(words);
        self.makes_hidden(width);
        Ok(true)
    }

    /// What all of a group have sent, added to the residual stream or put elsewhere.
    pub(super) fn add_up(&mut self, mail: Word, width: i32, to: Region) {
        let mut words = begun(code::SUM);
        words[1] = Word::Number(width.into());
        words[4] = mail;
        words[5] = Word::Number(self.facts.sums);
        words[6] = Word::Number((to != Region::Residual).into());
        words[8] = self.scratch.region(to, width);
        self.instructions.push(words);
        if to == Region::Residual {
            self.makes_hidden(width);
        }
    }

    /// Where in the mail of each rank the next rows of this width are, which come into two buffers in turn: whoever
    /// writes the first one again has the numbers of the second, which all sent when they had added up the first. `None` where the kernel knows no such group.
    pub(super) fn mail(&mut self, group: &Group, width: i32) -> Option<i64> {
        let facts = &mut self.facts;
        let buffer = (group.size() * ROWS) as i64 * i64::from(width);
        if group.size() > RANKS || (facts.sums > 0 && facts.buffer != buffer) {
            return None;
        }
        facts.buffer = buffer;
        facts.constants.ranks = group.size() as i32;
        facts.sums += 1;
        Some((facts.sums + 1) % 2 * buffer)
    }
}
