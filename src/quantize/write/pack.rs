//! Some rows of a tensor after the other, as they are written.

use std::borrow::Cow;
use std::ops::Range;

use super::super::layout::parts;
use super::super::plan::{Codes, Plan, Planned};
use super::super::read::{codes, numbers};
use super::super::settings::DType;
use super::{format_of, rows_of};
use crate::error::{Error, Result};
use crate::kernels::pool;
use crate::kernels::quantize::{Packed, quantize};

/// Bytes of numbers that are packed at a time where they lie side by side: what they become is then still in the
/// processor's cache when it is written.
const NEAR: usize = 8 << 20;

/// Rows of a tensor as they are written.
pub(super) struct Block<'a> {
    /// Which of the plan's tensors it is.
    pub(super) tensor: usize,
    /// Of the rows that are read.
    pub(super) rows: Range<usize>,
    /// The bytes of each part.
    pub(super) parts: Vec<Cow<'a, [u8]>>,
}

pub(super) struct Packer<'a> {
    pub(super) plan: &'a Plan,
    /// Bytes of numbers that are packed at a time, at most.
    pub(super) block: usize,
}

impl<'a> Packer<'a> {
    /// Gives `take` the blocks of some of the plan's tensors, in order, until it wants no more.
    ///
    /// # Errors
    /// [`Error::Weights`] where numbers are not finite.
    pub(super) fn each(&self, tensors: &[usize], take: impl Fn(Block<'a>) -> bool) -> Result<()> {
        for &index in tensors {
            let tensor = &self.plan.tensors[index];
            let all = rows_of(tensor);
            // What lies apart is looked for in all of a tensor each time: better seldom.
            let block = if tensor.view.is_contiguous() {
                self.block.min(NEAR)
            } else {
                self.block
            };
            let each = (block / (tensor.view.columns * 4).max(1)).clamp(1, all.max(1));
            let mut first = 0;
            loop {
                let rows = first..all.min(first + each);
                let block = Block {
                    tensor: index,
                    rows: rows.clone(),
                    parts: self.pack(tensor, rows)?,
                };
                if !take(block) {
                    return Ok(());
                }
                first += each;
                if first >= all {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The parts of some rows.
    fn pack(&self, tensor: &Planned, rows: Range<usize>) -> Result<Vec<Cow<'a, [u8]>>> {
        let Some(packing) = &tensor.packing else {
            return Ok(vec![numbers(self.plan, tensor, rows)]);
        };
        let refuse = |problem: &str| Error::Weights {
            path: self.plan.sources[&tensor.pieces[0]].stored.path.clone(),
            problem: format!("tensor {} {problem}", tensor.pieces[0]),
        };
        let number = DType::of(&tensor.dtype)
            .ok_or_else(|| refuse("is not of floats"))?
            .0;
        let all = rows_of(tensor).max(1);
        let mut buffers = parts(tensor)
            .iter()
            .map(|part| vec![0; part.bytes / all * rows.len()])
            .collect::<Vec<_>>();
        let mut bytes = buffers.iter_mut().map(Vec::as_mut_slice);
        let [codes_out, scales, biases] = [(); 3].map(|()| bytes.next().unwrap_or_default());
        let out = Packed {
            codes: codes_out,
            scales,
            biases,
        };
        let is_finite = match &tensor.codes {
            Codes::Source(kept) => codes(self.plan, tensor, kept, rows, out),
            Codes::Made(scales) => {
                let numbers = numbers(self.plan, tensor, rows);
                let format = format_of(packing, number);
                quantize(pool::shared(), &numbers, number, format, *scales, out)
            }
        };
        if is_finite {
            return Ok(buffers.into_iter().map(Cow::Owned).collect());
        }
        Err(refuse("holds NaN or infinite numbers"))
    }
}
