//! Rows of the tensors of a plan, out of the source.

use std::borrow::Cow;
use std::ops::Range;

use super::plan::{Plan, Planned};
use super::settings::DType;
use super::source::{Encoding, Kept};
use crate::kernels::pool;
use crate::kernels::quantize::{Packed, add, convert};

/// Rows of a tensor as they are packed or written: brought together, raised, in the type that is asked for.
pub(super) fn numbers<'a>(plan: &'a Plan, tensor: &Planned, rows: Range<usize>) -> Cow<'a, [u8]> {
    let mut numbers = gathered(plan, tensor, rows);
    let source = &plan.sources[&tensor.pieces[0]];
    let (Some(from), Some(to)) = (source.dtype(), DType::of(&tensor.dtype)) else {
        return numbers;
    };
    if tensor.raised == Some(from) {
        add(from.0, numbers.to_mut(), 1.0);
    }
    if from != to {
        let mut converted = vec![0; numbers.len() / from.0.size() * to.0.size()];
        convert(pool::shared(), &numbers, from.0, to.0, &mut converted);
        numbers = Cow::Owned(converted);
        if tensor.raised == Some(to) {
            add(to.0, numbers.to_mut(), 1.0);
        }
    }
    numbers
}

/// Rows of a tensor, counted through its pieces, as the source has them.
fn gathered<'a>(plan: &'a Plan, tensor: &Planned, rows: Range<usize>) -> Cow<'a, [u8]> {
    let view = &tensor.view;
    let each = view.count * view.rows;
    let mut out = Vec::new();
    for (piece, range) in pieces(&rows, each) {
        let source = &plan.sources[&tensor.pieces[piece]];
        let is_plain = view.is_contiguous();
        if is_plain {
            let skipped = view.start() / view.columns.max(1);
            let found = source.rows(skipped + range.start..skipped + range.end);
            if range.len() == rows.len() {
                return found;
            }
            out.extend_from_slice(&found);
        } else if let Some(dtype) = source.dtype() {
            let all: usize = source.stored.shape.iter().rev().skip(1).product();
            view.gather(&source.rows(0..all), dtype, range, &mut out);
        }
    }
    Cow::Owned(out)
}

/// Puts the source's codes of some rows, those of each piece, into buffers for codes, scales and biases that hold these
/// rows; whether scales and biases are finite.
pub(super) fn codes(
    plan: &Plan,
    tensor: &Planned,
    kept: &[Kept],
    rows: Range<usize>,
    out: Packed<'_>,
) -> bool {
    let Packed {
        codes,
        scales,
        biases,
    } = out;
    let each = [codes.len(), scales.len(), biases.len()].map(|length| length / rows.len().max(1));
    let (mut done, mut finite) = (0, true);
    for (piece, range) in pieces(&rows, tensor.view.count * tensor.view.rows) {
        let end = done + range.len();
        let of_piece = each.map(|each| each * done..each * end);
        let [of_codes, of_scales, of_biases] = of_piece;
        let out = Packed {
            codes: &mut codes[of_codes],
            scales: &mut scales[of_scales],
            biases: &mut biases[of_biases],
        };
        let source = &plan.sources[&tensor.pieces[piece]];
        finite &= kept[piece].repack(source, range, out);
        done = end;
    }
    finite
}

/// Says that rows were read.
pub(super) fn release(plan: &Plan, tensor: &Planned, rows: Range<usize>) {
    let view = &tensor.view;
    for (piece, range) in pieces(&rows, view.count * view.rows) {
        let source = &plan.sources[&tensor.pieces[piece]];
        if view.is_contiguous() && !matches!(source.encoding, Encoding::Other) {
            let skipped = view.start() / view.columns.max(1);
            source.release(skipped + range.start..skipped + range.end);
        } else {
            source.release(0..source.stored.shape.iter().rev().skip(1).product());
        }
    }
}

/// Of rows that are counted through pieces of so many each, those of each piece.
fn pieces(rows: &Range<usize>, each: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let each = each.max(1);
    let Range { start, end } = *rows;
    let last = if start < end {
        end.div_ceil(each)
    } else {
        start / each
    };
    (start / each..last).map(move |piece| {
        let first = piece * each;
        (
            piece,
            start.max(first) - first..end.min(first + each) - first,
        )
    })
}
