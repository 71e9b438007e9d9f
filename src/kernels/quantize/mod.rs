//! Packs weights as MLX packs them on the CPU, bit for bit; the formats are those of [`super::matrix`].
//!
//! MLX's GPU kernels differ from its own CPU code in the last bits: they may fuse a product with a sum in affine
//! mode, and round to the nearest even code in the modes of floats, where the CPU takes the smaller one.

mod affine;
mod fitted;
mod floats;
mod ggml;
mod integers;

use half::{bf16, f16};

use super::matrix::{Format, Number};
use super::parts::Parts;
use super::pool::Pool;
use super::simd::{Kernel, Simd, run};
use affine::Affine;
use floats::Floats;

pub use floats::decode_nvfp4;
pub use ggml::{Ggml, decode_ggml, repack_ggml};
pub use integers::{decode_integers, repack_integers};

/// Weights that are worth a task of their own: some microseconds.
const TASK: usize = 16 * 1024;

/// Where packed weights go.
#[derive(Debug)]
pub struct Packed<'a> {
    /// Codes, `weights · bits / 8` bytes.
    pub codes: &'a mut [u8],
    /// A scale for each group: in affine mode a number as the weights are, else a byte.
    pub scales: &'a mut [u8],
    /// A bias for each group as the weights are; nothing but in affine mode.
    pub biases: &'a mut [u8],
}

/// Which scales and biases are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// MLX's.
    Mlx,
    /// Those of several that leave the least squares.
    Fitted,
}

/// Packs `weights`, whole groups of numbers one after the other, as MLX does; whether all were finite. What was not makes no
/// sense packed.
///
/// # Panics
/// If `format` is dense, or the lengths do not fit each other.
pub fn quantize(
    pool: &Pool,
    weights: &[u8],
    number: Number,
    format: Format,
    scales_of: Scales,
    out: Packed<'_>,
) -> bool {
    let (bits, group) = (format.bits(), format.group());
    let [scale, bias] = match format {
        Format::Affine { number, .. } => [number.size(); 2],
        _ => [1, 0],
    };
    let group_bytes = group * number.size();
    assert!(group > 1 && weights.len().is_multiple_of(group_bytes));
    let groups = weights.len() / group_bytes;
    assert_eq!(out.codes.len(), groups * group * bits / 8);
    assert_eq!(out.scales.len(), groups * scale);
    assert_eq!(out.biases.len(), groups * bias);
    let each = TASK / group;
    let [codes, scales, biases] = [out.codes, out.scales, out.biases].map(Parts::new);
    let finite = std::sync::atomic::AtomicBool::new(true);
    pool.run(groups.div_ceil(each), |task| {
        let first = task * each;
        let count = each.min(groups - first);
        // SAFETY: each task has its own groups.
        let out = unsafe {
            Packed {
                codes: codes.part(first * group * bits / 8, count * group * bits / 8),
                scales: scales.part(first * scale, count * scale),
                biases: biases.part(first * bias, count * bias),
            }
        };
        let weights = &weights[first * group_bytes..(first + count) * group_bytes];
        let all = match format {
            Format::Affine { .. } => run(Affine {
                weights,
                number,
                bits,
                group,
                scales: scales_of,
                out,
            }),
            _ => run(Floats {
                weights,
                number,
                format,
                fitted: scales_of == Scales::Fitted,
                out,
            }),
        };
        if !all {
            finite.store(false, std::sync::atomic::Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

/// Writes numbers in the type `number`, rounded to nearest, ties to even; a multiple of eight of them.
#[inline(always)]
fn write<S: Simd>(number: Number, floats: &[f32], out: &mut [u8]) {
    let size = number.size();
    for (floats, out) in floats.chunks_exact(8).zip(out.chunks_exact_mut(8 * size)) {
        match number {
            // SAFETY: both hold eight numbers.
            Number::Float16 => unsafe { S::store_half(out.as_mut_ptr(), S::load(floats.as_ptr())) },
            Number::Float32 => {
                for (float, out) in floats.iter().zip(out.chunks_exact_mut(4)) {
                    out.copy_from_slice(&float.to_le_bytes());
                }
            }
            Number::Bfloat16 => {
                for (float, out) in floats.iter().zip(out.chunks_exact_mut(2)) {
                    out.copy_from_slice(&((to_bfloat(*float) >> 16) as u16).to_le_bytes());
                }
            }
        }
    }
}

/// The nearest bfloat16 of a finite number, as the bits of a float32.
#[inline(always)]
fn to_bfloat(float: f32) -> u32 {
    let bits = float.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000
}

/// Rounds eight finite numbers to the type `number`.
#[inline(always)]
fn round_to<S: Simd>(number: Number, floats: &mut [f32; 8]) {
    match number {
        Number::Float32 => {}
        Number::Bfloat16 => {
            for float in floats {
                *float = f32::from_bits(to_bfloat(*float));
            }
        }
        Number::Float16 => {
            let mut halves = [0_u8; 16];
            // SAFETY: both hold eight numbers.
            unsafe {
                S::store_half(halves.as_mut_ptr(), S::load(floats.as_ptr()));
                S::store(floats.as_mut_ptr(), S::load_half(halves.as_ptr()));
            }
        }
    }
}

/// Converts `weights` from one type of floats to another, rounded to nearest, ties to even.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn convert(pool: &Pool, weights: &[u8], from: Number, to: Number, out: &mut [u8]) {
    let count = weights.len() / from.size();
    assert_eq!(weights.len(), count * from.size());
    assert_eq!(out.len(), count * to.size());
    let parts = Parts::new(out);
    pool.run(count.div_ceil(TASK), |task| {
        let first = task * TASK;
        let count = TASK.min(count - first);
        // SAFETY: each task has its own numbers.
        let out = unsafe { parts.part(first * to.size(), count * to.size()) };
        let weights = &weights[first * from.size()..(first + count) * from.size()];
        run(Convert {
            weights,
            from,
            to,
            out,
        });
    });
}

/// Adds `what` to each number of some bytes, rounded to nearest, ties to even.
pub fn add(number: Number, numbers: &mut [u8], what: f32) {
    for bytes in numbers.chunks_exact_mut(number.size()) {
        put(number, number.one(bytes) + what, bytes);
    }
}

/// Writes one number, rounded to nearest, ties to even.
fn put(number: Number, value: f32, out: &mut [u8]) {
    match number {
        Number::Float32 => out.copy_from_slice(&value.to_le_bytes()),
        Number::Float16 => out.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
        Number::Bfloat16 => out.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
    }
}

/// Decodes 8-bit floats (E4M3) `[rows, columns]` to bfloat16: each times the factor of its square, which are
/// `[ceil(rows / side), ceil(columns / side)]` of the whole matrix; the first row is row `first` of that.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_blocks(
    pool: &Pool,
    codes: &[u8],
    first: usize,
    columns: usize,
    factors: &[f32],
    side: usize,
    out: &mut [u8],
) {
    assert_eq!(out.len(), 2 * codes.len());
    let squares = columns.div_ceil(side);
    let rows = codes
        .chunks_exact(columns)
        .zip(out.chunks_exact_mut(2 * columns));
    let rows: Vec<_> = rows.enumerate().collect();
    super::pool::run_each(
        pool,
        rows,
        |(row, (codes, out)): (usize, (&[u8], &mut [u8]))| {
            let factors = &factors[(first + row) / side * squares..][..squares];
            let numbers = codes.iter().zip(out.chunks_exact_mut(2)).enumerate();
            for (column, (&code, out)) in numbers {
                let value = bf16::from_f32(floats::from_e4m3(code) * factors[column / side]);
                out.copy_from_slice(&value.to_le_bytes());
            }
        },
    );
}

struct Convert<'a> {
    weights: &'a [u8],
    from: Number,
    to: Number,
    out: &'a mut [u8],
}

impl Kernel for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let [from, to] = [self.from.size(), self.to.size()];
        for (weights, out) in self
            .weights
            .chunks(8 * from)
            .zip(self.out.chunks_mut(8 * to))
        {
            let (mut floats, mut written) = ([0.0; 8], [0; 32]);
            self.from
                .read::<S>(weights, &mut floats[..weights.len() / from]);
            write::<S>(self.to, &floats, &mut written[..8 * to]);
            out.copy_from_slice(&written[..out.len()]);
        }
    }
}

#[cfg(test)]
mod tests;
