//! Packed weights against MLX's own, and against what they stand for.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::matrix::made::{bytes, formats};
use super::super::matrix::{Matrix, Part};
use super::super::pool::for_tests;
use super::super::simd::with_each;
use super::*;
use crate::mlx::{self, Array, DeviceChoice, Dtype, Mode, Packing, array_of_bytes, with_bytes};

const NUMBERS: [(Number, Dtype); 3] = [
    (Number::Float32, Dtype::Float32),
    (Number::Float16, Dtype::Float16),
    (Number::Bfloat16, Dtype::Bfloat16),
];

/// The three parts, made by the kernel.
fn packed(pool: &Pool, weights: &[u8], number: Number, format: Format) -> ([Vec<u8>; 3], bool) {
    packed_by(Scales::Mlx, pool, weights, number, format)
}

fn packed_by(
    scales_of: Scales,
    pool: &Pool,
    weights: &[u8],
    number: Number,
    format: Format,
) -> ([Vec<u8>; 3], bool) {
    let groups = weights.len() / number.size() / format.group();
    let [scale, bias] = match format {
        Format::Affine { .. } => [number.size(); 2],
        _ => [1, 0],
    };
    let mut codes = vec![0; groups * format.group() * format.bits() / 8];
    let (mut scales, mut biases) = (vec![0; groups * scale], vec![0; groups * bias]);
    let out = Packed {
        codes: &mut codes,
        scales: &mut scales,
        biases: &mut biases,
    };
    let finite = quantize(pool, weights, number, format, scales_of, out);
    ([codes, scales, biases], finite)
}

/// The same, made by MLX.
fn by_mlx(weights: &[u8], columns: usize, dtype: Dtype, format: Format) -> [Vec<u8>; 3] {
    mlx::open(DeviceChoice::Cpu, None).unwrap();
    let mode = match format {
        Format::Mxfp4 => Mode::Mxfp4,
        Format::Mxfp8 => Mode::Mxfp8,
        Format::Nvfp4 => Mode::Nvfp4,
        _ => Mode::Affine,
    };
    let packing = Packing {
        mode,
        group_size: format.group() as i32,
        bits: format.bits() as i32,
    };
    let rows = weights.len() / mlx::item_size(dtype) / columns;
    let array = array_of_bytes(weights, &[rows, columns], dtype).unwrap();
    let (codes, scales, biases) = mlx::quantize(&array, packing).unwrap();
    let parts: Vec<Array> = [codes, scales].into_iter().chain(biases).collect();
    let bytes = |parts: &[&[u8]]| {
        [0, 1, 2].map(|i| parts.get(i).map_or_else(Vec::new, |part| part.to_vec()))
    };
    with_bytes(&parts, bytes).unwrap()
}

fn stored(floats: &[f32], number: Number) -> Vec<u8> {
    let one = |&float: &f32| match number {
        Number::Float32 => float.to_le_bytes().to_vec(),
        Number::Float16 => f16::from_f32(float).to_le_bytes().to_vec(),
        Number::Bfloat16 => bf16::from_f32(float).to_le_bytes().to_vec(),
    };
    floats.iter().flat_map(one).collect()
}

/// The formats whose scales and biases are of this type, or that have none.
fn packed_formats(number: Number) -> Vec<Format> {
    let mut formats = formats();
    formats.retain(|format| match format {
        Format::Dense(_) => false,
        Format::Affine { number: other, .. } => *other == number,
        _ => true,
    });
    formats
}

/// Normally distributed, of a deviation that changes along the way, with a few zeros.
fn noise(count: usize, seed: usize) -> Vec<f32> {
    let words = bytes(8 * count, seed);
    let sum = |word: &[u8]| {
        word.iter()
            .map(|&byte| f32::from(byte) - 127.5)
            .sum::<f32>()
    };
    let values = words.chunks_exact(8).enumerate();
    values
        .map(|(at, word)| match word[0] {
            0..4 => 0.0,
            4 => -0.0,
            _ => sum(word) * 2_f32.powi(-13 + (at / 512 % 24) as i32 - 12),
        })
        .collect()
}

/// What is hard: groups of zeros, of one number, of one sign, with numbers that lie between two codes, very small.
fn special() -> Vec<f32> {
    let mut all = Vec::new();
    all.extend([0.0; 128]);
    all.extend([-0.0; 128]);
    all.extend([0.75; 128]);
    all.extend([-3.0; 128]);
    all.extend((0..128).map(|i| i as f32 / 16.0));
    all.extend((0..128).map(|i| i as f32 / -16.0));
    all.extend((0..128).map(|i| (i as f32 - 64.0) / 8.0));
    all.extend((0..128).map(|i| (i % 13) as f32 * 0.25 * if i % 2 == 0 { 6.0 } else { -6.0 }));
    all.extend((0..128).map(|i| (i as f32 - 60.0) * 7.0));
    all.extend((0..128).map(|i| (i as f32 - 60.0) * 1e-9));
    all.extend((0..128).map(|i| (i as f32 - 60.0) * 2_f32.powi(-20)));
    all.extend((0..128).map(|i| if i == 5 { 300.0 } else { 0.01 * i as f32 }));
    all
}

#[test]
fn every_bit_is_mlx_s() {
    for (number, dtype) in NUMBERS {
        for (floats, columns) in [
            (noise(96 * 512, 1), 512),
            (special(), 128),
            (noise(640, 2), 128),
        ] {
            let weights = stored(&floats, number);
            for format in packed_formats(number) {
                let expected = by_mlx(&weights, columns, dtype, format);
                for pool in for_tests() {
                    let (found, finite) = packed(pool, &weights, number, format);
                    assert!(finite);
                    for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
                        assert_eq!(
                            (found.len(), differs),
                            (expected.len(), None),
                            "{format:?} of {number:?}, part {part}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_bfloat16_of_eight_bits_and_four_is_mlx_s() {
    // Each with a group of its own: the scale is then that of one number. Below, MLX's scales wrap around; above,
    // no scale of nvfp4 is large enough, and MLX takes its numbers for zeros.
    let all = (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f32());
    let normal = all.filter(|x| (1e-35..1e5).contains(&x.abs()));
    let floats: Vec<f32> = normal.flat_map(|x| [x; 32]).collect();
    let weights = stored(&floats, Number::Bfloat16);
    for format in [Format::Mxfp4, Format::Mxfp8, Format::Nvfp4] {
        let expected = by_mlx(&weights, 32, Dtype::Bfloat16, format);
        let (found, _) = packed(for_tests()[1], &weights, Number::Bfloat16, format);
        assert!(found == expected, "{format:?}");
    }
}

#[test]
fn all_instructions_give_the_same() {
    for (number, _) in NUMBERS {
        let weights = stored(&noise(8 * 128, 3), number);
        for format in packed_formats(number) {
            for scales in [Scales::Mlx, Scales::Fitted] {
                let mut seen = Vec::new();
                with_each(|_| {
                    let pool = for_tests()[0];
                    seen.push(packed_by(scales, pool, &weights, number, format));
                    Ok::<(), ()>(())
                })
                .unwrap();
                assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{format:?}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_told_of() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (number, _) in NUMBERS {
            for format in packed_formats(number) {
                for at in [0, 7, 127] {
                    let mut floats = noise(128, 4);
                    floats[at] = bad;
                    let weights = stored(&floats, number);
                    for scales in [Scales::Mlx, Scales::Fitted] {
                        let pool = for_tests()[0];
                        let (_, finite) = packed_by(scales, pool, &weights, number, format);
                        assert!(!finite, "{bad} as {format:?} of {number:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn conversions_round_to_nearest_even() {
    let floats = noise(1003, 5);
    let weights = stored(&floats, Number::Float32);
    for (to, _) in NUMBERS {
        let mut out = vec![0; floats.len() * to.size()];
        convert(for_tests()[1], &weights, Number::Float32, to, &mut out);
        assert!(out == stored(&floats, to), "{to:?}");
    }
}

/// The numbers that packed ones stand for, of one row.
fn undone([codes, scales, biases]: [Vec<u8>; 3], format: Format) -> Vec<f32> {
    let part = |bytes: Vec<u8>| {
        let length = bytes.len();
        Part::new(Arc::new(bytes), 0..length).unwrap()
    };
    let columns = codes.len() * 8 / format.bits();
    let [codes, scales, biases] = [codes, scales, biases].map(part);
    let matrix = Matrix::new([1, columns], format, codes, scales, biases).unwrap();
    let mut found = vec![0.0; columns];
    super::super::embedding::look_up(for_tests()[0], &matrix, &[0], &mut found);
    found
}

#[test]
fn fitted_scales_leave_less_than_mlx_s_in_every_group() {
    for (number, _) in NUMBERS {
        for (floats, is_noise) in [(noise(96 * 512, 6), true), (special(), false)] {
            let weights = stored(&floats, number);
            for format in packed_formats(number) {
                let (bits, group) = (format.bits(), format.group());
                let wanted = number.floats(&weights);
                let [mlx, fitted] = [Scales::Mlx, Scales::Fitted].map(|scales| {
                    let (parts, finite) =
                        packed_by(scales, for_tests()[1], &weights, number, format);
                    assert!(finite);
                    let found = undone(parts, format);
                    let off = found
                        .iter()
                        .zip(&wanted)
                        .map(|(a, b)| f64::from(a - b).powi(2));
                    off.collect::<Vec<f64>>()
                });
                let groups = mlx.chunks(group).zip(fitted.chunks(group)).enumerate();
                for (index, (mlx, fitted)) in groups {
                    let [mlx, fitted] = [mlx, fitted].map(|off| off.iter().sum::<f64>());
                    // Between two codes as near, a rounding decides.
                    let most = mlx * 1.001 + 1e-15;
                    assert!(fitted <= most, "{format:?} group {index}: {fitted} {mlx}");
                }
                let [mlx, fitted] = [mlx, fitted].map(|off| off.iter().sum::<f64>());
                assert!(
                    bits == 8 || !is_noise || fitted < mlx * 0.97,
                    "{format:?}: {fitted} {mlx}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn packed_weights_are_within_half_a_step(
        floats in prop::collection::vec(-4_f32..4.0, 128),
        bits in prop::sample::select(vec![2_usize, 3, 4, 5, 6, 8]),
        group in prop::sample::select(vec![32_usize, 64, 128]),
    ) {
        let number = Number::Float32;
        let format = Format::Affine { bits, group, number };
        let weights = stored(&floats, number);
        let (parts, _) = packed(for_tests()[0], &weights, number, format);
        let parts = parts.map(|part| {
            let length = part.len();
            Part::new(Arc::new(part), 0..length).unwrap()
        });
        let [codes, scales, biases] = parts;
        let scale = number.floats(&scales);
        let matrix = Matrix::new([1, 128], format, codes, scales, biases).unwrap();
        let mut found = vec![0.0; 128];
        super::super::embedding::look_up(for_tests()[0], &matrix, &[0], &mut found);
        for (at, (found, wanted)) in found.iter().zip(&floats).enumerate() {
            // Zero is met exactly, which may move the other edge by half a step.
            let step = scale[at / group].abs();
            prop_assert!((found - wanted).abs() <= step * 1.01 + 1e-6, "{found} for {wanted}, step {step}");
        }
    }
}
