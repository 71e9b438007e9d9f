//! Blocks of GGUF files: their numbers, and the same codes as MLX lays them out. Scalar, since a file is read once.
//!
//! A block of 32 has a scale in half precision in front (and, in `Q4_1`, what is added); codes of four bits lie so that
//! a byte has one of the first half low and one of the second half high. `scale · (code - 8)` (`Q4_0`) and
//! `scale · code` with codes from -128 on (`Q8_0`) are `scale · code + bias` with a bias that is a power of two times the
//! scale, so nothing is rounded.

use half::f16;

use super::super::pool::{Pool, run_each};
use super::Packed;

/// Kinds of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ggml {
    /// Four bits around zero.
    Q4_0,
    /// Four bits from a least number on.
    Q4_1,
    /// Eight bits around zero.
    Q8_0,
    /// Six bits around zero, 256 in 16 groups, whose scales are 8-bit multiples of one.
    Q6K,
}

/// Blocks that are worth a task of their own.
const TASK: usize = 512;

/// Numbers of a group that MLX knows.
const GROUP: usize = 32;

impl Ggml {
    /// Numbers of a block.
    pub fn numbers(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => GROUP,
            Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
            Self::Q6K => 210,
        }
    }

    /// Bits of codes that MLX's affine mode can hold as they are, in groups of 32.
    pub fn bits(self) -> Option<usize> {
        match self {
            Self::Q4_0 | Self::Q4_1 => Some(4),
            Self::Q8_0 => Some(8),
            Self::Q6K => None,
        }
    }
}

/// The numbers of whole blocks in half precision.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_ggml(pool: &Pool, kind: Ggml, blocks: &[u8], out: &mut [u8]) {
    let (bytes, size) = (kind.bytes(), 2 * kind.numbers());
    assert_eq!(blocks.len() / bytes * size, out.len());
    let tasks = blocks.chunks(TASK * bytes).zip(out.chunks_mut(TASK * size));
    run_each(
        pool,
        tasks.collect(),
        |(blocks, out): (&[u8], &mut [u8])| {
            for (block, out) in blocks.chunks_exact(bytes).zip(out.chunks_exact_mut(size)) {
                let mut put = |at: usize, number: f32| {
                    let half = f16::from_f32(number).to_le_bytes();
                    out[2 * at..2 * at + 2].copy_from_slice(&half);
                };
                if kind == Ggml::Q6K {
                    six(block, &mut put);
                    continue;
                }
                let (scale, bias) = scale_and_bias(kind, block);
                for at in 0..GROUP {
                    put(at, scale * f32::from(code(kind, block, at)) + bias);
                }
            }
        },
    );
}

/// Puts the codes of whole blocks where MLX has them, with scales and biases in half precision; whether all of them
/// are finite.
///
/// # Panics
/// If MLX has no such codes, or the lengths do not fit each other.
pub fn repack_ggml(kind: Ggml, blocks: &[u8], out: Packed<'_>) -> bool {
    let Packed {
        codes,
        scales,
        biases,
    } = out;
    let bits = kind.bits().unwrap_or_default();
    let count = blocks.len() / kind.bytes();
    assert_eq!(codes.len(), count * GROUP * bits / 8);
    assert_eq!([scales.len(), biases.len()], [2 * count; 2]);
    let blocks = blocks.chunks_exact(kind.bytes());
    let codes = codes.chunks_exact_mut(GROUP * bits / 8);
    let scales = scales.chunks_exact_mut(2);
    let biases = biases.chunks_exact_mut(2);
    let mut finite = true;
    for (((block, codes), scales), biases) in blocks.zip(codes).zip(scales).zip(biases) {
        let (scale, bias) = scale_and_bias(kind, block);
        let [scale, bias] = [scale, bias].map(f16::from_f32);
        finite &= scale.is_finite() && bias.is_finite();
        scales.copy_from_slice(&scale.to_le_bytes());
        biases.copy_from_slice(&bias.to_le_bytes());
        for (at, byte) in codes.iter_mut().enumerate() {
            *byte = if bits == 8 {
                code(kind, block, at)
            } else {
                code(kind, block, 2 * at) | code(kind, block, 2 * at + 1) << 4
            };
        }
    }
    finite
}

/// What a code from 0 on is multiplied by, and what is added.
fn scale_and_bias(kind: Ggml, block: &[u8]) -> (f32, f32) {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let scale = half(0);
    match kind {
        Ggml::Q4_0 => (scale, -8.0 * scale),
        Ggml::Q4_1 => (scale, half(2)),
        Ggml::Q8_0 | Ggml::Q6K => (scale, -128.0 * scale),
    }
}

/// The code of one number, from 0 on.
fn code(kind: Ggml, block: &[u8], at: usize) -> u8 {
    let codes = match kind {
        Ggml::Q4_1 => &block[4..],
        _ => &block[2..],
    };
    match kind {
        Ggml::Q8_0 | Ggml::Q6K => codes[at] ^ 0x80,
        Ggml::Q4_0 | Ggml::Q4_1 if at < GROUP / 2 => codes[at] & 15,
        Ggml::Q4_0 | Ggml::Q4_1 => codes[at - GROUP / 2] >> 4,
    }
}

/// `Q6_K`: four low bits of 256 codes, two high bits, 16 scales and a scale of these. Each half of a block has 64 bytes
/// of low bits and 32 of high ones, in which four runs of 32 numbers lie beside each other.
fn six(block: &[u8], put: &mut impl FnMut(usize, f32)) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
    for at in 0..256 {
        let (half, run, lane) = (at / 128, at % 128 / 32, at % 32);
        let low = low[64 * half + 32 * (run % 2) + lane] >> (4 * (run / 2)) & 15;
        let high = high[32 * half + lane] >> (2 * run) & 3;
        let code = f32::from(low | high << 4) - 32.0;
        let group = f32::from(scales[at / 16] as i8);
        put(at, scale * group * code);
    }
}
