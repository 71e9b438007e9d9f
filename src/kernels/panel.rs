//! Sixteen rows of packed weights as products of many tokens read them: in a panel, in which the codes of one
//! step (four columns) of eight rows lie side by side.

use std::cell::RefCell;

use super::activations::BLOCK;
use super::codes::{CHUNK, Codes};
use super::lines::Lines;
use super::matrix::Matrix;
use super::simd::Simd;

/// Rows of a panel.
pub(super) const PANEL: usize = 16;

/// Vectors of eight rows in a panel.
pub(super) const VECTORS: usize = PANEL / 8;

/// Steps of four columns in a block of 32.
pub(super) const STEPS: usize = BLOCK / 4;

/// Sixteen rows, made ready. Buffers keep their largest size.
#[derive(Default)]
pub(super) struct Panel {
    /// `[chunks][blocks of a chunk][steps][vectors][32]`
    pub(super) codes: Lines<u8>,
    /// `[groups][16]`, times the format's unit.
    pub(super) scales: Lines<f32>,
    /// `[groups][16]`
    pub(super) biases: Lines<f32>,
    /// `[16][groups]`
    row_scales: Lines<f32>,
    /// `[16][groups]`
    row_biases: Lines<f32>,
    pub(super) chunks: usize,
    pub(super) groups: usize,
}

/// Panels are made over and over: each thread keeps one.
pub(super) fn with_panel<R>(work: impl FnOnce(&mut Panel) -> R) -> R {
    thread_local!(static PANEL: RefCell<Panel> = RefCell::default());
    PANEL.with_borrow_mut(work)
}

impl Panel {
    /// Takes the 16 rows from `first` on.
    #[inline(always)]
    pub(super) fn fill<S: Simd, C: Codes, const GROUP: usize>(
        &mut self,
        matrix: &Matrix,
        first: usize,
    ) {
        let columns = matrix.columns();
        let (whole, chunks) = (columns / CHUNK, columns.div_ceil(CHUNK));
        let groups = columns / GROUP;
        (self.chunks, self.groups) = (chunks, groups);
        // Vectors reach past the last group, and past the last of all.
        let padded = groups.next_multiple_of(8);
        self.codes.grow(chunks * CHUNK * PANEL);
        self.scales.grow(padded * PANEL);
        self.biases.grow(padded * PANEL);
        self.row_scales.grow((groups * PANEL).max(padded) + 8);
        self.row_biases.grow((groups * PANEL).max(padded) + 8);
        let row = |lane: usize| (first + lane).min(matrix.rows() - 1);
        let rows = first..(first + PANEL).min(matrix.rows());
        let offset = C::OFFSET
            + if C::WIDE {
                f32::from(S::WIDE_OFFSET)
            } else {
                0.0
            };
        matrix.read_scales::<S>(rows.clone(), &mut self.row_scales);
        matrix.read_biases::<S>(rows, &self.row_scales, offset, &mut self.row_biases);
        // SAFETY: both have 16 rows of `groups` numbers and eight more.
        unsafe {
            transpose::<S>(&self.row_scales, groups, C::UNIT, &mut self.scales);
            transpose::<S>(&self.row_biases, groups, 1.0, &mut self.biases);
        }
        let panel = self;
        for vector in 0..VECTORS {
            let mut rows = [matrix.row_codes(0); 8];
            for (i, codes) in rows.iter_mut().enumerate() {
                *codes = matrix.row_codes(row(8 * vector + i));
            }
            for chunk in 0..chunks {
                let mut tails = [[0; CHUNK]; 8];
                let mut codes = [std::ptr::null(); 8];
                for i in 0..8 {
                    let rest = &rows[i][chunk * C::BYTES..];
                    codes[i] = rest.as_ptr();
                    if chunk == whole {
                        tails[i][..rest.len()].copy_from_slice(rest);
                        codes[i] = tails[i].as_ptr();
                    }
                }
                // The next eight rows follow these in memory; by rows, the processor does not see it.
                let ahead = codes[0].wrapping_add(8 * matrix.row_bytes() + 7 * chunk * C::BYTES);
                for line in 0..C::BYTES / 8 {
                    S::prefetch(ahead.wrapping_add(64 * line));
                }
                // SAFETY: the codes are valid for a chunk, the panel for its 16 steps.
                unsafe {
                    let [mut first, mut last] = [[S::load_bytes(tails[0].as_ptr()); 8]; 2];
                    for i in 0..8 {
                        [first[i], last[i]] = C::chunk::<S>(codes[i]);
                    }
                    let parts = [S::transpose(first), S::transpose(last)];
                    for part in 0..2 {
                        for word in 0..8 {
                            let step = chunk * 2 * STEPS + place::<C>(part, word);
                            let to = panel.codes.as_mut_ptr().add((step * VECTORS + vector) * 32);
                            S::store_bytes(to, parts[part][word]);
                        }
                    }
                }
            }
        }
    }
}

/// `[16][groups]` to `[groups][16]`, times `unit`.
///
/// # Safety
/// `from` holds 16 times `groups` numbers and eight more, `to` 16 times `groups` rounded up to
/// eights.
#[inline(always)]
unsafe fn transpose<S: Simd>(from: &[f32], groups: usize, unit: f32, to: &mut [f32]) {
    for vector in 0..VECTORS {
        for group in (0..groups).step_by(8) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.as_ptr().add(8 * vector * groups + group);
                let mut rows = [S::load_bytes(from.cast()); 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = S::load_bytes(from.add(i * groups).cast());
                }
                let to = to.as_mut_ptr().add(group * PANEL + 8 * vector);
                let columns = S::transpose(rows);
                for (i, column) in columns.into_iter().enumerate() {
                    let to = to.add(i * PANEL);
                    S::store_bytes(to.cast(), column);
                    S::store(to, S::mul(S::load(to), S::splat(unit)));
                }
            }
        }
    }
}

/// Where in a chunk's 16 steps the word `word` of vector `part` goes: blocks one after the other.
#[inline(always)]
fn place<C: Codes>(part: usize, word: usize) -> usize {
    if C::SPLIT {
        word / 4 * STEPS + word % 4 * 2 + part
    } else {
        part * STEPS + word
    }
}

/// The offset in a chunk of activations of a block's step: the inverse of [`place`].
#[inline(always)]
pub(super) fn column<C: Codes>(block: usize, step: usize) -> usize {
    if C::SPLIT {
        step % 2 * 32 + 4 * (4 * block + step / 2)
    } else {
        32 * block + 4 * step
    }
}
