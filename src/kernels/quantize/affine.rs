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
        let mut finite = true;
        let mut floats = [0.0; GROUPS * LARGEST];
        let floats = &mut floats[..GROUPS * group];
        let weights = self.weights.chunks(GROUPS * group * size);
        let codes = self.out.codes.chunks_mut(GROUPS * group * bits / 8);
        let scales = self.out.scales.chunks_mut(GROUPS * size);
        let biases = self.out.biases.chunks_mut(GROUPS * size);
        for ((weights, codes), (scales, biases)) in weights.zip(codes).zip(scales.zip(biases)) {
            number.read::<S>(weights, &mut floats[..weights.len() / size]);
            let mut edges = Edges::default();
            for (index, floats) in floats[..weights.len() / size]
                .chunks_exact(group)
                .enumerate()
            {
                // SAFETY: groups are of whole vectors.
                finite &= unsafe { edges.put::<S>(index, floats) };
            }
            let lines = match self.scales {
                Scales::Mlx => edges.lines(bits),
                // SAFETY: there are sixteen groups of whole vectors.
                Scales::Fitted => unsafe { fit::<S>(floats, &edges, bits, number) },
            };
            let groups = floats.chunks_exact(group);
            let packed = codes.chunks_exact_mut(group * bits / 8);
            for (index, (floats, codes)) in groups.zip(packed).enumerate() {
                let (scale, bias) = (lines.scales[index], lines.biases[index]);
                // SAFETY: as above, and codes take as many bytes as follow from the group.
                unsafe { pack::<S>(floats, scale, bias, bits, codes) };
            }
            for (floats, out) in [(&lines.scales, scales), (&lines.biases, biases)] {
                let mut written = [0; 4 * GROUPS];
                write::<S>(number, floats, &mut written[..GROUPS * size]);
                out.copy_from_slice(&written[..out.len()]);
            }
        }
        finite
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
    /// Takes those of one group; whether all of its numbers are finite.
    ///
    /// # Safety
    /// There is a multiple of eight, in a kernel.
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, index: usize, floats: &[f32]) -> bool {
        // SAFETY: the caller's promise.
        let (least, most, all) = unsafe { edges::<S>(floats) };
        (self.least[index], self.most[index]) = (least, most);
        all
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

/// The least and the largest of some numbers, and whether all are finite.
///
/// # Safety
/// There is a multiple of eight, in a kernel.
#[inline(always)]
unsafe fn edges<S: Simd>(floats: &[f32]) -> (f32, f32, bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let first = S::load(floats.as_ptr());
        let zero = S::splat(0.0);
        let (mut least, mut most, mut zeros) = (first, first, zero);
        for at in (0..floats.len()).step_by(8) {
            let value = S::load(floats.as_ptr().add(at));
            least = S::min(least, value);
            most = S::max(most, value);
            // Not zero for what is not finite.
            zeros = S::fma(value, zero, zeros);
        }
        let mut lanes = [0.0; 8];
        S::store(lanes.as_mut_ptr(), least);
        let mut smallest = lanes[0];
        for lane in lanes {
            smallest = if lane < smallest { lane } else { smallest };
        }
        (smallest, S::largest(most), S::sum(zeros) == 0.0)
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
/// There is a multiple of 32 floats, and `bits / 8` bytes for each, in a kernel.
#[inline(always)]
unsafe fn pack<S: Simd>(floats: &[f32], scale: f32, bias: f32, bits: usize, out: &mut [u8]) {
    // Vectors of bytes are packed from signed ones.
    let wide = bits == 8;
    let offset = S::splat_integer(if wide { -128 } else { 0 });
    let flip = if wide { 0x8080_8080_8080_8080 } else { 0 };
    let (scale, bias) = (S::splat(scale), S::splat(bias));
    let (zero, most) = (S::splat(0.0), S::splat(((1_u32 << bits) - 1) as f32));
    for at in (0..floats.len()).step_by(32) {
        let mut eights = [S::zero_integers(); 4];
        for (i, eight) in eights.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let value = unsafe { S::load(floats.as_ptr().add(at + 8 * i)) };
            let value = S::div(S::sub(value, bias), scale);
            let value = S::min(S::max(value, zero), most);
            *eight = S::add_integers(S::round(value), offset);
        }
        let mut codes = [0; 32];
        // SAFETY: they are 32 bytes.
        unsafe { S::store_bytes(codes.as_mut_ptr(), S::pack(eights)) };
        let (words, _) = codes.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            let word = squeeze(u64::from_le_bytes(*word) ^ flip, bits).to_le_bytes();
            let from = (at + 8 * i) * bits / 8;
            out[from..from + bits].copy_from_slice(&word[..bits]);
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
