//! Integers with a scale and a bias a group, as MLX makes them (`quantize` in its `backend/cpu/quantized.cpp`):
//! the edge of the group that is farther from zero is met exactly, and so is zero.

use super::super::matrix::Number;
use super::super::simd::{Kernel, Simd};
use super::fitted::fit;
use super::{Packed, Scales, round_to, write};

/// Scales are no smaller.
const SMALLEST: f32 = 1e-7;

/// The largest group.
pub(super) const LARGEST: usize = 128;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Groups that are packed at a time.
pub(super) const GROUPS: usize = 16;

pub(super) struct Affine<'a> {
    pub(super) weights: &'a [u8],
    pub(super) number: Number,
    pub(super) bits: usize,
    pub(super) group: usize,
    pub(super) scales: Scales,
    pub(super) out: Packed<'a>,
}

impl Kernel for Affine<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self) -> bool {
        let Self {
            number,
            bits,
            group,
            ..
        } = self;
        let size = number.size();
        let mut zeros = S::splat(0.0);
        let mut floats = [0.0; GROUPS * LARGEST];
        let floats = &mut floats[..GROUPS * group];
        let weights = self.weights.chunks(GROUPS * group * size);
        let codes = self.out.codes.chunks_mut(GROUPS * group * bits / 8);
        let scales = self.out.scales.chunks_mut(GROUPS * size);
        let biases = self.out.biases.chunks_mut(GROUPS * size);
        for ((weights, codes), (scales, biases)) in weights.zip(codes).zip(scales.zip(biases)) {
            // Packing takes long enough that the processor does not look this far ahead by itself.
            for at in (0..weights.len()).step_by(LINE) {
                S::prefetch(weights.as_ptr().wrapping_add(weights.len() + at));
            }
            number.read::<S>(weights, &mut floats[..weights.len() / size]);
            let mut edges = Edges::default();
            for (index, floats) in floats[..weights.len() / size]
                .chunks_exact(group)
                .enumerate()
            {
                // SAFETY: groups are of whole vectors.
                unsafe { edges.put::<S>(index, floats, &mut zeros) };
            }
            let lines = match self.scales {
                Scales::Mlx => edges.lines(bits),
                // SAFETY: there are sixteen groups of whole vectors.
                Scales::Fitted => unsafe { fit::<S>(floats, &edges, bits, number) },
            };
            // SAFETY: as above.
            unsafe {
                match bits {
                    2 => pack::<S, 2>(floats, &lines, codes),
                    3 => pack::<S, 3>(floats, &lines, codes),
                    4 => pack::<S, 4>(floats, &lines, codes),
                    5 => pack::<S, 5>(floats, &lines, codes),
                    6 => pack::<S, 6>(floats, &lines, codes),
                    _ => pack::<S, 8>(floats, &lines, codes),
                }
            }
            for (floats, out) in [(&lines.scales, scales), (&lines.biases, biases)] {
                let mut written = [0; 4 * GROUPS];
                write::<S>(number, floats, &mut written[..GROUPS * size]);
                out.copy_from_slice(&written[..out.len()]);
            }
        }
        S::sum(zeros) == 0.0
    }
}

/// What the codes of some groups are multiplied by, and what is added.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lines {
    pub(super) scales: [f32; GROUPS],
    pub(super) biases: [f32; GROUPS],
}

impl Lines {
    /// The same, rounded as they are stored.
    #[inline(always)]
    pub(super) fn stored<S: Simd>(mut self, number: Number) -> Self {
        for numbers in [&mut self.scales, &mut self.biases] {
            for eight in numbers.as_chunks_mut::<8>().0 {
                round_to::<S>(number, eight);
            }
        }
        self
    }
}

/// The least and the largest numbers of some groups.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) least: [f32; GROUPS],
    pub(super) most: [f32; GROUPS],
}

impl Edges {
    /// Takes those of one group. `zeros` stays zero where all numbers are finite.
    ///
    /// # Safety
    /// There is a multiple of eight, in a kernel.
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, index: usize, floats: &[f32], zeros: &mut S::Floats) {
        let zero = S::splat(0.0);
        // SAFETY: the caller's promise.
        let first = unsafe { S::load(floats.as_ptr()) };
        let (mut least, mut most, mut own) = (first, first, zero);
        for at in (0..floats.len()).step_by(8) {
            // SAFETY: as above.
            let value = unsafe { S::load(floats.as_ptr().add(at)) };
            least = S::min(least, value);
            most = S::max(most, value);
            own = S::fma(value, zero, own);
        }
        // Added at the end, so that groups need not wait for each other.
        *zeros = S::add(*zeros, own);
        self.least[index] = -S::largest(S::sub(zero, least));
        self.most[index] = S::largest(most);
    }

    /// MLX's lines for codes from 0 on.
    #[inline(always)]
    pub(super) fn lines(&self, bits: usize) -> Lines {
        let mut lines = Lines::default();
        for index in 0..GROUPS {
            let line = scale_and_bias(self.least[index], self.most[index], bits);
            (lines.scales[index], lines.biases[index]) = line;
        }
        lines
    }
}

/// What codes from 0 on are multiplied by and what is added, for numbers between two edges.
#[inline(always)]
fn scale_and_bias(least: f32, most: f32, bits: usize) -> (f32, f32) {
    let codes = ((1_u32 << bits) - 1) as f32;
    let low = least.abs() > most.abs();
    let width = (most - least) / codes;
    let scale = if width > SMALLEST { width } else { SMALLEST };
    let scale = if low { scale } else { -scale };
    let edge = if low { least } else { most };
    let code = (edge / scale).round_ties_even();
    if code == 0.0 {
        (scale, 0.0)
    } else {
        (edge / code, edge)
    }
}

/// # Safety
/// There are [`GROUPS`] groups of a multiple of 32 floats, in a kernel.
#[inline(always)]
unsafe fn pack<S: Simd, const BITS: usize>(floats: &[f32], lines: &Lines, out: &mut [u8]) {
    // Vectors of bytes are packed from signed ones.
    let wide = BITS == 8;
    let offset = S::splat_integer(if wide { -128 } else { 0 });
    let flip = if wide { 0x8080_8080_8080_8080 } else { 0 };
    let (zero, most) = (S::splat(0.0), S::splat(((1_u32 << BITS) - 1) as f32));
    let group = floats.len() / GROUPS;
    let (words, _) = out.as_chunks_mut::<BITS>();
    let groups = floats.chunks_exact(group).zip(words.chunks_mut(group / 8));
    for (index, (floats, words)) in groups.enumerate() {
        let (scale, bias) = (S::splat(lines.scales[index]), S::splat(lines.biases[index]));
        for (floats, words) in floats.chunks_exact(32).zip(words.chunks_exact_mut(4)) {
            let mut eights = [S::zero_integers(); 4];
            for (i, eight) in eights.iter_mut().enumerate() {
                // SAFETY: there are 32.
                let value = unsafe { S::load(floats.as_ptr().add(8 * i)) };
                let value = S::div(S::sub(value, bias), scale);
                let value = S::min(S::max(value, zero), most);
                *eight = S::add_integers(S::round(value), offset);
            }
            let mut codes = [0; 32];
            // SAFETY: they are 32 bytes.
            unsafe { S::store_bytes(codes.as_mut_ptr(), S::pack(eights)) };
            let (codes, _) = codes.as_chunks::<8>();
            for (codes, word) in codes.iter().zip(words) {
                let packed = squeeze(u64::from_le_bytes(*codes) ^ flip, BITS).to_le_bytes();
                word.copy_from_slice(&packed[..BITS]);
            }
        }
    }
}

/// Eight codes, one in each byte, side by side in the low bits: the first lowest.
#[inline(always)]
pub(super) fn squeeze(codes: u64, bits: usize) -> u64 {
    let pairs = (codes & 0x00ff_00ff_00ff_00ff) | (codes >> 8 & 0x00ff_00ff_00ff_00ff) << bits;
    let fours =
        (pairs & 0x0000_ffff_0000_ffff) | (pairs >> 16 & 0x0000_ffff_0000_ffff) << (2 * bits);
    (fours & 0xffff_ffff) | fours >> 32 << (4 * bits)
}
