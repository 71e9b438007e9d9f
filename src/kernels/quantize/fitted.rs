//! Integers with a scale and a bias a group, as [`super::affine`] packs them, but with those of several that leave the
//! least squares of what is off. MLX meets the farther edge of a group and zero exactly, at the cost of all others.
//!
//! From ranges that leave out more and more of the edges, codes are taken, and a line is fitted through them (least squares
//! in closed form); another is fitted through the codes of the best. It is kept where it leaves less than MLX's own, both
//! rounded as they are stored. llama.cpp's k-quants search in this way too, for weighted errors.
//!
//! Groups lie side by side, one in each lane, so that what is computed for each of them is computed for all at once.

use super::super::matrix::Number;
use super::super::simd::{Lanes, Simd};
use super::affine::{Edges, GROUPS, LARGEST, Lines};

/// Of a group's range, the shares that are tried.
const SHARES: [f32; 4] = [1.0, 0.94, 0.87, 0.79];

/// How often a line is fitted through the codes of the best of them.
const REFINED: usize = 2;

/// The lines of those tried that leave the least squares, as they are stored.
///
/// # Safety
/// There are [`GROUPS`] groups of a multiple of eight floats, in a kernel.
#[inline(always)]
pub(super) unsafe fn fit<S: Simd>(
    floats: &[f32],
    edges: &Edges,
    bits: usize,
    number: Number,
) -> Lines {
    let codes = ((1_u32 << bits) - 1) as f32;
    let count = (floats.len() / GROUPS) as f32;
    // SAFETY: the caller's promise.
    let columns = unsafe { Columns::of::<S>(floats) };
    let mut likeliest = Lines::default();
    let mut expected = [f32::INFINITY; GROUPS];
    for share in SHARES {
        let mut tried = Lines::default();
        for lane in 0..GROUPS {
            let (least, most) = (edges.least[lane], edges.most[lane]);
            let width = (most - least) * share;
            let (scale, bias) = (width / codes, least / 2.0 + most / 2.0 - width / 2.0);
            // No line is one whose scale is zero: all codes are the same with it, and nothing comes of them.
            let is_there = scale >= f32::MIN_POSITIVE;
            tried.scales[lane] = if is_there { scale } else { 0.0 };
            tried.biases[lane] = if is_there { bias } else { 0.0 };
        }
        // SAFETY: in a kernel.
        let found = unsafe { columns.sums::<S::Widest, true>(&tried, codes) };
        let (lines, off) = found.lines(&tried, count);
        for lane in 0..GROUPS {
            let is_less = off[lane] < expected[lane];
            likeliest.scales[lane] = if is_less {
                lines.scales[lane]
            } else {
                likeliest.scales[lane]
            };
            likeliest.biases[lane] = if is_less {
                lines.biases[lane]
            } else {
                likeliest.biases[lane]
            };
            expected[lane] = if is_less { off[lane] } else { expected[lane] };
        }
    }
    let own = edges.lines(bits);
    let mut best = own.stored::<S>(number);
    // SAFETY: in a kernel.
    let mut lowest = unsafe { columns.sums::<S::Widest, false>(&best, codes) }.off;
    for lane in 0..GROUPS {
        // Too small for the type: whatever the codes are, the bias is what they stand for.
        if best.scales[lane] == 0.0 {
            (best.scales[lane], best.biases[lane]) = (own.scales[lane], own.biases[lane]);
            lowest[lane] = 0.0;
        }
    }
    for round in 0..REFINED {
        let tried = likeliest.stored::<S>(number);
        // SAFETY: in a kernel.
        let found = unsafe {
            if round + 1 < REFINED {
                columns.sums::<S::Widest, true>(&tried, codes)
            } else {
                columns.sums::<S::Widest, false>(&tried, codes)
            }
        };
        for lane in 0..GROUPS {
            let is_less = found.off[lane] < lowest[lane] && tried.scales[lane] != 0.0;
            best.scales[lane] = if is_less {
                tried.scales[lane]
            } else {
                best.scales[lane]
            };
            best.biases[lane] = if is_less {
                tried.biases[lane]
            } else {
                best.biases[lane]
            };
            lowest[lane] = if is_less {
                found.off[lane]
            } else {
                lowest[lane]
            };
        }
        likeliest = found.lines(&tried, count).0;
    }
    best
}

/// What is summed over each group, products and sums rounded each by itself: codes, their squares, what is off in
/// units of the scale and its product with codes.
#[derive(Debug, Default)]
struct Sums {
    codes: [f32; GROUPS],
    squares: [f32; GROUPS],
    rests: [f32; GROUPS],
    products: [f32; GROUPS],
    /// The squares of what is off.
    off: [f32; GROUPS],
}

impl Sums {
    /// The lines through codes and numbers that leave the least squares, and these; scales of zero and infinite squares
    /// where all have the same code.
    #[inline(always)]
    fn lines(&self, tried: &Lines, count: f32) -> (Lines, [f32; GROUPS]) {
        let (mut lines, mut left) = (Lines::default(), [0.0; GROUPS]);
        // Exact: the count is a power of two.
        let inverse = 1.0 / count;
        for lane in 0..GROUPS {
            let (codes, rests, products) =
                (self.codes[lane], self.rests[lane], self.products[lane]);
            let spread = count * self.squares[lane] - codes * codes;
            // What is off is fitted, so that nothing large is taken from something large.
            let more = (count * products - codes * rests) / spread;
            let above = (rests - more * codes) * inverse;
            let off = self.off[lane] - more * products - above * rests;
            let is_there = spread > 0.0;
            lines.scales[lane] = if is_there {
                tried.scales[lane] + more
            } else {
                0.0
            };
            lines.biases[lane] = if is_there {
                tried.biases[lane] + above
            } else {
                0.0
            };
            left[lane] = if is_there { off } else { f32::INFINITY };
        }
        (lines, left)
    }
}

/// Groups side by side: the first numbers of as many as there are lanes, then the second ones, and so on; then the same
/// of the next.
struct Columns {
    floats: [f32; GROUPS * LARGEST],
    /// Numbers of a group.
    group: usize,
}

impl Columns {
    /// # Safety
    /// As for [`fit`].
    #[inline(always)]
    unsafe fn of<S: Simd>(rows: &[f32]) -> Self {
        let mut floats = [0.0; GROUPS * LARGEST];
        let (group, lanes) = (rows.len() / GROUPS, S::Widest::LANES);
        for first in (0..GROUPS).step_by(8) {
            for at in (0..group).step_by(8) {
                let mut eight = [S::splat(0.0); 8];
                for (index, row) in eight.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *row = unsafe { S::load(rows.as_ptr().add((first + index) * group + at)) };
                }
                let to = first / lanes * lanes * group + first % lanes;
                for (index, column) in S::transpose_floats(eight).into_iter().enumerate() {
                    // SAFETY: this is less than `GROUPS * group`, with eight lanes of a column left.
                    unsafe { S::store(floats.as_mut_ptr().add(to + (at + index) * lanes), column) };
                }
            }
        }
        Self { floats, group }
    }

    /// What is off, and where `ALL` is so what lines are made of.
    ///
    /// # Safety
    /// In a kernel.
    #[inline(always)]
    unsafe fn sums<W: Lanes, const ALL: bool>(&self, tried: &Lines, most: f32) -> Sums {
        let mut sums = Sums::default();
        let mut inverses = [0.0; GROUPS];
        for (inverse, &scale) in inverses.iter_mut().zip(&tried.scales) {
            *inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        }
        for first in (0..GROUPS).step_by(W::LANES) {
            // SAFETY: there are as many lanes after the first.
            unsafe {
                let line = Line::<W> {
                    inverse: W::load(inverses.as_ptr().add(first)),
                    scale: W::load(tried.scales.as_ptr().add(first)),
                    bias: W::load(tried.biases.as_ptr().add(first)),
                    most: W::splat(most),
                };
                let columns = &self.floats[first * self.group..][..W::LANES * self.group];
                let (codes, rests) = line.sums::<ALL>(columns);
                W::store(sums.codes.as_mut_ptr().add(first), codes[0]);
                W::store(sums.squares.as_mut_ptr().add(first), codes[1]);
                W::store(sums.rests.as_mut_ptr().add(first), rests[0]);
                W::store(sums.products.as_mut_ptr().add(first), rests[1]);
                W::store(sums.off.as_mut_ptr().add(first), rests[2]);
            }
        }
        sums
    }
}

/// A scale and a bias in each lane.
struct Line<W: Lanes> {
    inverse: W::Floats,
    scale: W::Floats,
    bias: W::Floats,
    /// The largest code.
    most: W::Floats,
}

impl<W: Lanes> Line<W> {
    /// Sums of codes and their squares, which are exact in any order, and of rests, their products with codes and their
    /// squares: those of each eighth of a group first, then eighths in pairs. The order is the same for any number
    /// of lanes: which scale is taken may hang on the last bit.
    ///
    /// # Safety
    /// There is a multiple of eight columns, in a kernel.
    #[inline(always)]
    unsafe fn sums<const ALL: bool>(&self, columns: &[f32]) -> ([W::Floats; 2], [W::Floats; 3]) {
        let mut codes = [W::splat(0.0); 2];
        let mut pairs = [[W::splat(0.0); 3]; 4];
        for (first, pair) in pairs.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let one = self.eighth::<ALL>(columns, first, &mut codes);
                let other = self.eighth::<ALL>(columns, first + 4, &mut codes);
                *pair = Self::added(one, other);
            }
        }
        let [a, b, c, d] = pairs;
        (codes, Self::added(Self::added(a, b), Self::added(c, d)))
    }

    /// Every eighth column, from one on.
    ///
    /// # Safety
    /// As for [`Self::sums`].
    #[inline(always)]
    unsafe fn eighth<const ALL: bool>(
        &self,
        columns: &[f32],
        first: usize,
        codes: &mut [W::Floats; 2],
    ) -> [W::Floats; 3] {
        let nothing = W::splat(0.0);
        let [mut rests, mut products, mut off] = [nothing; 3];
        for at in (first * W::LANES..columns.len()).step_by(8 * W::LANES) {
            // SAFETY: the caller's promise.
            let value = W::sub(unsafe { W::load(columns.as_ptr().add(at)) }, self.bias);
            let code = W::min(W::max(W::mul(value, self.inverse), nothing), self.most);
            let code = W::to_floats(W::round(code));
            let rest = W::sub(value, W::mul(code, self.scale));
            if ALL {
                codes[0] = W::add(codes[0], code);
                codes[1] = W::fma(code, code, codes[1]);
                rests = W::add(rests, rest);
                products = W::add(products, W::mul(code, rest));
            }
            off = W::add(off, W::mul(rest, rest));
        }
        [rests, products, off]
    }

    #[inline(always)]
    fn added(a: [W::Floats; 3], b: [W::Floats; 3]) -> [W::Floats; 3] {
        [W::add(a[0], b[0]), W::add(a[1], b[1]), W::add(a[2], b[2])]
    }
}
