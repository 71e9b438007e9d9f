//! Matrices and vectors of noise in every format, for tests.

use std::sync::Arc;

use half::{bf16, f16};

use super::{Format, Matrix, Number, Part, Storage};

/// Every format there is.
pub(in super::super) fn formats() -> Vec<Format> {
    let numbers = [Number::Float32, Number::Float16, Number::Bfloat16];
    let mut formats = numbers.map(Format::Dense).to_vec();
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            formats.extend(numbers.map(|number| Format::Affine {
                bits,
                group,
                number,
            }));
        }
    }
    formats.extend([Format::Mxfp4, Format::Mxfp8, Format::Nvfp4]);
    formats
}

/// Bytes that look random, from a number.
pub(in super::super) fn bytes(count: usize, seed: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Floats from -2 to 2, from a number.
pub(in super::super) fn floats(count: usize, seed: usize) -> Vec<f32> {
    let words = bytes(2 * count, seed);
    let words = words.chunks_exact(2);
    words
        .map(|word| f32::from(i16::from_le_bytes([word[0], word[1]])) / 16384.0)
        .collect()
}

fn stored(number: Number, floats: impl Iterator<Item = f32>) -> Vec<u8> {
    match number {
        Number::Float32 => floats.flat_map(f32::to_le_bytes).collect(),
        Number::Float16 => floats
            .flat_map(|x| f16::from_f32(x).to_le_bytes())
            .collect(),
        Number::Bfloat16 => floats
            .flat_map(|x| bf16::from_f32(x).to_le_bytes())
            .collect(),
    }
}

/// A matrix of noise whose parts lie at odd addresses.
pub(in super::super) fn matrix(format: Format, [rows, columns]: [usize; 2], seed: usize) -> Matrix {
    let groups = rows * columns / format.group();
    let codes = || bytes(rows * columns * format.bits() / 8, seed);
    let (codes, scales, biases) = match format {
        Format::Dense(number) => {
            let weights = floats(rows * columns, seed).into_iter();
            (stored(number, weights), Vec::new(), Vec::new())
        }
        Format::Affine { bits, number, .. } => {
            let step = 2.0 / f32::from(1_u8 << (bits - 1));
            let scales = floats(groups, seed + 1).into_iter().map(|x| x * step);
            let biases = floats(groups, seed + 2).into_iter();
            (codes(), stored(number, scales), stored(number, biases))
        }
        // Powers from 2^-4 to 2^3.
        Format::Mxfp4 | Format::Mxfp8 => {
            let scales = bytes(groups, seed + 1).into_iter().map(|x| 123 + x % 8);
            (codes(), scales.collect(), Vec::new())
        }
        Format::Nvfp4 => (codes(), bytes(groups, seed + 1), Vec::new()),
    };
    let [codes, scales, biases] = [codes, scales, biases].map(|part| {
        // An allocation for each, so that a tool may see who reads past an end.
        let storage: Storage = Arc::new([&[0xff], part.as_slice()].concat());
        Part::new(storage, 1..1 + part.len()).unwrap()
    });
    Matrix::new([rows, columns], format, codes, scales, biases).unwrap()
}
