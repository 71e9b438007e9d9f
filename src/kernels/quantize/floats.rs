//! Floats of four and eight bits with a scale a group, as MLX 0.32.2 makes them on the CPU: scales and quotients are
//! rounded to the type of the weights on the way, powers of two are rounded up, and between two codes the smaller
//! is taken.

use half::bf16;

use super::super::matrix::{Format, Number};
use super::super::pool::{Pool, run_each};
use super::super::simd::{Kernel, Simd};
use super::affine::squeeze;
use super::{Packed, round_to};

/// The largest floats of four bits (E2M1) and of eight (E4M3).
const LARGEST_4: f32 = 6.0;
const LARGEST_8: f32 = 448.0;

/// The code of the latter.
const LARGEST_E4M3: u8 = 0x7e;

/// Above these a number is nearer to the next of 0, 0.5, 1, 1.5, 2, 3, 4 and 6 than to the one before.
const STEPS: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];

pub(super) struct Floats<'a> {
    pub(super) weights: &'a [u8],
    pub(super) number: Number,
    pub(super) format: Format,
    /// Of the scales near MLX's, that which leaves the least squares of what is off.
    pub(super) fitted: bool,
    pub(super) out: Packed<'a>,
}

impl Kernel for Floats<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self) -> bool {
        let Self { number, format, .. } = self;
        let (group, bits) = (format.group(), format.bits());
        let mut finite = true;
        let groups = self.weights.chunks_exact(group * number.size());
        let codes = self.out.codes.chunks_exact_mut(group * bits / 8);
        for ((weights, codes), scale) in groups.zip(codes).zip(self.out.scales.iter_mut()) {
            let mut floats = [0.0; 32];
            let floats = &mut floats[..group];
            number.read::<S>(weights, floats);
            let floats = &*floats;
            let largest = largest(floats);
            finite &= largest.is_finite();
            let (byte, divisor) = if format == Format::Nvfp4 {
                scale_e4m3::<S>(largest, number)
            } else {
                scale_e8m0::<S>(largest, bits, number)
            };
            *scale = byte;
            let mut chosen = coded::<S>(floats, divisor, bits, number);
            if self.fitted && divisor > 0.0 {
                let mut lowest = off(floats, &chosen, divisor, bits);
                let near = if format == Format::Nvfp4 { 3 } else { 1 };
                for byte in byte.saturating_sub(near).max(1)..=byte.saturating_add(near) {
                    let divisor = match format {
                        Format::Nvfp4 if byte > LARGEST_E4M3 => continue,
                        Format::Nvfp4 => from_e4m3(byte),
                        _ if byte == u8::MAX => continue,
                        _ => f32::from_bits(u32::from(byte) << 23),
                    };
                    let tried = coded::<S>(floats, divisor, bits, number);
                    let off = off(floats, &tried, divisor, bits);
                    if off < lowest {
                        (*scale, chosen, lowest) = (byte, tried, off);
                    }
                }
            }
            let (eights, _) = chosen.as_chunks::<8>();
            for (eight, out) in eights.iter().zip(codes.chunks_exact_mut(bits)) {
                let word = squeeze(u64::from_le_bytes(*eight), bits).to_le_bytes();
                out.copy_from_slice(&word[..bits]);
            }
        }
        finite
    }
}

/// What codes of four bits stand for.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// Decodes 4-bit floats, the first of a byte low, to bfloat16: each times the 8-bit float (E4M3) of its 16 and times
/// `factor`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_nvfp4(pool: &Pool, codes: &[u8], scales: &[u8], factor: f32, out: &mut [u8]) {
    type Task<'a> = ((&'a [u8], &'a [u8]), &'a mut [u8]);
    const GROUP: usize = 16;
    /// Groups that are worth a task of their own.
    const TASK: usize = 1024;
    assert_eq!([codes.len(), out.len() / 4], [scales.len() * GROUP / 2; 2]);
    let tasks = scales.chunks(TASK).zip(codes.chunks(TASK * GROUP / 2));
    let tasks = tasks.zip(out.chunks_mut(TASK * GROUP * 2));
    run_each(pool, tasks.collect(), |((scales, codes), out): Task<'_>| {
        let groups = codes
            .chunks_exact(GROUP / 2)
            .zip(out.chunks_exact_mut(2 * GROUP));
        for (&scale, (codes, out)) in scales.iter().zip(groups) {
            let scale = from_e4m3(scale) * factor;
            for (at, out) in out.chunks_exact_mut(2).enumerate() {
                let code = codes[at / 2] >> (4 * (at % 2)) & 15;
                let size = E2M1[usize::from(code & 7)];
                let value = scale * if code & 8 == 0 { size } else { -size };
                out.copy_from_slice(&bf16::from_f32(value).to_le_bytes());
            }
        }
    });
}

/// The codes of a group's numbers, a byte each.
#[inline(always)]
fn coded<S: Simd>(floats: &[f32], divisor: f32, bits: usize, number: Number) -> [u8; 32] {
    let mut codes = [0; 32];
    if divisor == 0.0 {
        // MLX finds no quotient nearer to one code than to another, and takes the first.
        return codes;
    }
    let (eights, _) = floats.as_chunks::<8>();
    for (eight, codes) in eights.iter().zip(codes.chunks_exact_mut(8)) {
        let mut eight = *eight;
        for value in &mut eight {
            *value /= divisor;
        }
        round_to::<S>(number, &mut eight);
        for (value, code) in eight.iter().zip(codes) {
            *code = if bits == 4 {
                e2m1(*value)
            } else {
                e4m3(*value)
            };
        }
    }
    codes
}

/// The squares of what is off.
#[inline(always)]
fn off(floats: &[f32], codes: &[u8; 32], divisor: f32, bits: usize) -> f32 {
    let mut sum = 0.0;
    for (float, &code) in floats.iter().zip(codes) {
        let value = if bits == 4 {
            let size = E2M1[usize::from(code & 7)];
            if code & 8 == 0 { size } else { -size }
        } else {
            from_e4m3(code)
        };
        let rest = float - value * divisor;
        sum += rest * rest;
    }
    sum
}

/// The largest size of some numbers; what is not finite stays so.
#[inline(always)]
fn largest(floats: &[f32]) -> f32 {
    let mut largest = 0_u32;
    for float in floats {
        // Sizes are in the order of their bits, and infinities and NaNs are beyond all numbers.
        largest = largest.max(float.to_bits() & 0x7fff_ffff);
    }
    f32::from_bits(largest)
}

/// The byte of a scale that is an E4M3, and what numbers are divided by.
#[inline(always)]
fn scale_e4m3<S: Simd>(largest: f32, number: Number) -> (u8, f32) {
    let scale = e4m3(rounded::<S>(largest / LARGEST_4, number));
    (scale, from_e4m3(scale))
}

/// The byte of a scale that is a power of two, and what numbers are divided by.
#[inline(always)]
fn scale_e8m0<S: Simd>(largest: f32, bits: usize, number: Number) -> (u8, f32) {
    let most = if bits == 4 { LARGEST_4 } else { LARGEST_8 };
    let scale = rounded::<S>(largest / most, number);
    if scale == 0.0 {
        return (127, 1.0);
    }
    // The next power that is not smaller.
    let bits = scale.to_bits();
    let power = (bits >> 23) + u32::from(bits & 0x007f_ffff != 0);
    // MLX wraps around below the smallest power, and makes one of the largest of it.
    let power = if bits < 1 << 23 { 0 } else { power };
    // Below the normal floats there are halves of the smallest.
    let divisor = f32::from_bits(if power == 0 { 1 << 22 } else { power << 23 });
    (power as u8, divisor)
}

#[inline(always)]
fn rounded<S: Simd>(value: f32, number: Number) -> f32 {
    let mut eight = [0.0; 8];
    eight[0] = value;
    round_to::<S>(number, &mut eight);
    eight[0]
}

#[inline(always)]
fn e2m1(value: f32) -> u8 {
    let size = value.abs();
    let mut code = 0;
    for step in STEPS {
        code += u8::from(size > step);
    }
    let sign = u8::from(value < 0.0 && code > 0) << 3;
    code | sign
}

/// The nearest number of eight bits, ties to even; 448 for what is larger.
#[inline(always)]
fn e4m3(value: f32) -> u8 {
    /// 2⁻⁶, the smallest that is not below the normal numbers.
    const NORMAL: u32 = 121 << 23;
    /// Added to what is smaller, it leaves multiples of 2⁻⁹ in the last bits.
    const SHIFT: f32 = 16384.0;
    let bits = value.to_bits();
    let sign = (bits >> 24 & 0x80) as u8;
    let bits = bits & 0x7fff_ffff;
    let small = (f32::from_bits(bits) + SHIFT)
        .to_bits()
        .wrapping_sub(SHIFT.to_bits());
    let odd = bits >> 20 & 1;
    let normal = bits.wrapping_add(0x7ffff + odd).wrapping_sub(120 << 23) >> 20;
    let code = if bits >= LARGEST_8.to_bits() {
        0x7e
    } else if bits < NORMAL {
        small
    } else {
        normal
    };
    code as u8 | sign
}

/// What a byte stands for.
#[inline(always)]
pub(super) fn from_e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (u32::from(code >> 3 & 15), u32::from(code & 7));
    let size = match (exponent, fraction) {
        (15, 7) => f32::NAN,
        (0, _) => fraction as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | fraction << 20),
    };
    if code & 0x80 == 0 { size } else { -size }
}
