//! Integers with a scale and a bias a group, as [`super::affine`] packs them, but with those of several that leave the
//! least squares of what is off. MLX meets the farther edge of a group and zero exactly, at the cost of all others.
//!
//! From ranges that leave out more and more of the edges, codes are taken, and a line is fitted through them (least squares
//! in closed form); another is fitted through the codes of the best. It is kept where it leaves less than MLX's own, both
//! rounded as they are stored. llama.cpp's k-quants search in this way too, for weighted errors.

use super::super::matrix::Number;
use super::super::simd::{Kernel, Simd};
use super::affine::{LARGEST, edges, pack, put_scales, scale_and_bias};
use super::{Packed, round_to};

/// Of a group's range, the shares that are tried.
const SHARES: [f32; 4] = [1.0, 0.94, 0.87, 0.79];

/// How often a line is fitted through the codes of the best of them.
const REFINED: usize = 2;

pub(super) struct Fitted<'a> {
    pub(super) weights: &'a [u8],
    pub(super) number: Number,
    pub(super) bits: usize,
    pub(super) group: usize,
    pub(super) out: Packed<'a>,
}

impl Kernel for Fitted<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self) -> bool {
        let Self { number, bits, .. } = self;
        let size = number.size();
        let mut finite = true;
        let mut floats = [0.0; LARGEST];
        let floats = &mut floats[..self.group];
        // Scales and biases are written eight at a time.
        let (mut scales, mut biases) = ([0.0; 8], [0.0; 8]);
        let groups = self.weights.chunks_exact(self.group * size);
        let codes = self.out.codes.chunks_exact_mut(self.group * bits / 8);
        for (index, (weights, codes)) in groups.zip(codes).enumerate() {
            number.read::<S>(weights, floats);
            // SAFETY: groups are of whole vectors.
            let (least, most, all) = unsafe { edges::<S>(floats) };
            finite &= all;
            // SAFETY: as above.
            let (scale, bias) = unsafe { best::<S>(floats, least, most, bits, number) };
            // SAFETY: as above, and codes take as many bytes as follow from the group.
            unsafe { pack::<S>(floats, scale, bias, bits, codes) };
            let lane = index % 8;
            (scales[lane], biases[lane]) = (scale, bias);
            let out = [&mut *self.out.scales, &mut *self.out.biases];
            put_scales::<S>(number, index, &scales, &biases, out);
        }
        finite
    }
}

/// The scale and the bias of those tried that leave the least squares, as they are stored.
///
/// # Safety
/// There is a multiple of 32 floats, in a kernel.
#[inline(always)]
unsafe fn best<S: Simd>(
    floats: &[f32],
    least: f32,
    most: f32,
    bits: usize,
    number: Number,
) -> (f32, f32) {
    let codes = ((1_u32 << bits) - 1) as f32;
    let (scale, bias) = scale_and_bias(least, most, bits);
    let mut best = stored::<S>(scale, bias, number);
    if best.0 == 0.0 {
        // Too small for the type: whatever the codes are, the bias is what they stand for.
        return (scale, bias);
    }
    let middle = least / 2.0 + most / 2.0;
    let count = floats.len() as f32;
    let (mut likeliest, mut expected) = (None, f32::INFINITY);
    for share in SHARES {
        let width = (most - least) * share;
        let tried = (width / codes, middle - width / 2.0);
        if tried.0 < f32::MIN_POSITIVE {
            continue;
        }
        // SAFETY: the caller's promise.
        let found = unsafe { sums::<S>(floats, tried, codes) };
        if let Some((line, off)) = found.line(tried, count)
            && off < expected
        {
            (likeliest, expected) = (Some(line), off);
        }
    }
    // SAFETY: the caller's promise.
    let mut lowest = unsafe { sums::<S>(floats, best, codes) }.off;
    for _ in 0..REFINED {
        let Some(line) = likeliest else {
            break;
        };
        let tried = stored::<S>(line.0, line.1, number);
        // SAFETY: as above.
        let found = unsafe { sums::<S>(floats, tried, codes) };
        if found.off < lowest && tried.0 != 0.0 {
            (best, lowest) = (tried, found.off);
        }
        likeliest = found.line(tried, count).map(|(line, _)| line);
    }
    best
}

/// What is summed over a group, products and sums rounded each by itself: codes, their squares, what is off in units of the scale and its product with codes.
struct Sums {
    codes: f32,
    squares: f32,
    rests: f32,
    products: f32,
    /// The squares of what is off.
    off: f32,
}

impl Sums {
    /// The line through codes and numbers that leaves the least squares, and these; none where all have the same code.
    #[inline(always)]
    fn line(&self, (scale, bias): (f32, f32), count: f32) -> Option<((f32, f32), f32)> {
        let spread = count * self.squares - self.codes * self.codes;
        if spread <= 0.0 {
            return None;
        }
        // What is off is fitted, so that nothing large is taken from something large.
        let more = (count * self.products - self.codes * self.rests) / spread;
        let above = (self.rests - more * self.codes) / count;
        let off = self.off - more * self.products - above * self.rests;
        Some(((scale + more, bias + above), off))
    }
}

/// # Safety
/// There is a multiple of eight floats, in a kernel.
#[inline(always)]
unsafe fn sums<S: Simd>(floats: &[f32], (scale, bias): (f32, f32), most: f32) -> Sums {
    let nothing = S::splat(0.0);
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let (factor, scale, bias) = (S::splat(inverse), S::splat(scale), S::splat(bias));
    let most = S::splat(most);
    let [mut codes, mut squares, mut rests, mut products, mut off] = [nothing; 5];
    for at in (0..floats.len()).step_by(8) {
        // SAFETY: the caller's promise.
        let value = unsafe { S::load(floats.as_ptr().add(at)) };
        let value = S::sub(value, bias);
        let code = S::min(S::max(S::mul(value, factor), nothing), most);
        let code = S::to_floats(S::round(code));
        let rest = S::sub(value, S::mul(code, scale));
        codes = S::add(codes, code);
        squares = S::add(squares, S::mul(code, code));
        rests = S::add(rests, rest);
        products = S::add(products, S::mul(code, rest));
        off = S::add(off, S::mul(rest, rest));
    }
    let all = [
        codes, squares, rests, products, off, nothing, nothing, nothing,
    ];
    // Lanes are added in the same order on every machine: which scale is taken may hang on the last bit.
    let [a, b, c, d, e, f, g, h] = S::transpose_floats(all);
    let pairs = [S::add(a, e), S::add(b, f), S::add(c, g), S::add(d, h)];
    let sum = S::add(S::add(pairs[0], pairs[1]), S::add(pairs[2], pairs[3]));
    let mut lanes = [0.0; 8];
    // SAFETY: they are eight.
    unsafe { S::store(lanes.as_mut_ptr(), sum) };
    let [codes, squares, rests, products, off, ..] = lanes;
    Sums {
        codes,
        squares,
        rests,
        products,
        off,
    }
}

/// A scale and a bias, rounded as they are stored.
#[inline(always)]
fn stored<S: Simd>(scale: f32, bias: f32, number: Number) -> (f32, f32) {
    let mut eight = [0.0; 8];
    [eight[0], eight[1]] = [scale, bias];
    round_to::<S>(number, &mut eight);
    (eight[0], eight[1])
}
