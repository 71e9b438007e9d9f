//! Formats that are read, against what their descriptions say, one number after the other.

#![expect(clippy::float_cmp, reason = "what is kept is the same number")]

use half::{bf16, f16};
use serde_json::json;

use super::*;
use crate::kernels::quantize::Packed;
use crate::mlx::{Bytes, MappedFile};

/// Bytes that look like chance.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(next).collect()
}

/// 8-bit floats without NaN.
fn eights(seed: u64, count: usize) -> Vec<u8> {
    let all = noise(seed, count).into_iter();
    all.map(|code| if code & 0x7f == 0x7f { 0x38 } else { code })
        .collect()
}

fn tensor(name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> StoredTensor {
    let made = MappedFile::made(bytes.len(), |memory| {
        memory[..bytes.len()].copy_from_slice(bytes);
    });
    StoredTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        dtype: dtype.to_owned(),
        path: "model.safetensors".into(),
        bytes: Bytes::Mapped(Arc::new(made.unwrap())),
        range: 0..bytes.len(),
    }
}

fn paired(stored: Vec<StoredTensor>) -> Result<(BTreeMap<String, SourceTensor>, usize)> {
    let fields = json!({"quantization_config": {"weight_block_size": [128, 128]}});
    let config = Config::of("config.json", fields.as_object().unwrap().clone());
    pair::pair(stored, &config).map(|(sources, dropped)| (sources, dropped.len()))
}

/// E4M3 as its definition has it.
fn e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7) / 8.0);
    let size = if exponent == 0 {
        fraction * 2_f32.powi(-6)
    } else {
        (1.0 + fraction) * 2_f32.powi(exponent - 7)
    };
    if code < 128 { size } else { -size }
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| bf16::from_le_bytes(*pair).to_f32())
        .collect()
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

#[test]
fn squares_of_8_bit_floats_are_multiplied_by_their_factors() {
    let (rows, columns) = (200, 300);
    let codes = eights(1, rows * columns);
    let factors: Vec<f32> = (1..=6).map(|n| n as f32 / 7.0).collect();
    for end in ["_scale_inv", "_scale"] {
        let (sources, dropped) = paired(vec![
            tensor("a.weight", "F8_E4M3", &[rows, columns], &codes),
            tensor(&format!("a.weight{end}"), "F32", &[2, 3], &floats(&factors)),
            tensor("a.input_scale", "F32", &[1], &floats(&[1.0])),
        ])
        .unwrap();
        assert_eq!((sources.len(), dropped), (1, 1));
        // Rows on both sides of an edge of squares.
        let first = 120;
        let found = halves(&sources["a.weight"].rows(first..160));
        for (at, &found) in found.iter().enumerate() {
            let (row, column) = (first + at / columns, at % columns);
            let factor = factors[row / 128 * 3 + column / 128];
            let wanted = bf16::from_f32(e4m3(codes[row * columns + column]) * factor).to_f32();
            assert!(found == wanted, "{row}, {column}: {found} {wanted}");
        }
    }
}

#[test]
fn nvfp4_of_both_makers_is_its_code_times_two_scales() {
    const CODES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let (rows, columns) = (6, 96);
    let codes = noise(2, rows * columns / 2);
    let scales: Vec<u8> = eights(3, rows * columns / 16);
    for (weight, global, given) in [
        ("a.weight_packed", "a.weight_global_scale", 40.0),
        ("a.weight", "a.weight_scale_2", 1.0 / 40.0),
    ] {
        let (sources, _) = paired(vec![
            tensor(weight, "U8", &[rows, columns / 2], &codes),
            tensor("a.weight_scale", "F8_E4M3", &[rows, columns / 16], &scales),
            tensor(global, "F32", &[1], &floats(&[given])),
        ])
        .unwrap();
        let source = &sources["a.weight"];
        assert_eq!(source.stored.shape, [rows, columns]);
        let found = halves(&source.rows(2..6));
        for (at, &found) in found.iter().enumerate() {
            let at = at + 2 * columns;
            let code = codes[at / 2] >> (4 * (at % 2)) & 15;
            let size = CODES[usize::from(code & 7)];
            let signed = if code < 8 { size } else { -size };
            let wanted = e4m3(scales[at / 16]) * (1.0 / 40.0) * signed;
            assert!(found == bf16::from_f32(wanted).to_f32(), "{weight} {at}");
        }
    }
}

#[test]
fn integers_of_compressed_tensors_are_kept_as_they_are() {
    let (rows, columns) = (4, 256);
    for (bits, groups, group) in [(4, 2, 128), (4, 8, 32), (8, 1, 128), (8, 4, 64)] {
        let codes = noise(4, rows * columns * bits / 8);
        let scales: Vec<bf16> = (1..=rows * groups)
            .map(|n| bf16::from_f32(n as f32 / 300.0))
            .collect();
        let bytes: Vec<u8> = scales
            .iter()
            .flat_map(|scale| scale.to_le_bytes())
            .collect();
        let shape: Vec<u8> = [rows as i64, columns as i64]
            .iter()
            .flat_map(|size| size.to_le_bytes())
            .collect();
        let (sources, _) = paired(vec![
            tensor(
                "a.weight_packed",
                "I32",
                &[rows, columns * bits / 32],
                &codes,
            ),
            tensor("a.weight_scale", "BF16", &[rows, groups], &bytes),
            tensor("a.weight_shape", "I64", &[2], &shape),
        ])
        .unwrap();
        let source = &sources["a.weight"];
        let as_is = source.kept().unwrap();
        assert_eq!(
            (as_is.packing.bits, as_is.packing.group_size),
            (bits, group)
        );
        let code = |at: usize| {
            let byte = i32::from(codes[at * bits / 8]);
            let code = byte >> (at * bits % 8) & ((1 << bits) - 1);
            (code - (1 << (bits - 1))) as f32
        };
        let wanted = |at: usize| code(at) * scales[at / (columns / groups)].to_f32();
        let found = halves(&source.rows(1..4));
        for (at, found) in found.iter().enumerate() {
            let wanted = bf16::from_f32(wanted(at + columns)).to_f32();
            assert!(*found == wanted, "{bits} {at}");
        }
        let count = 3 * columns;
        let (mut kept, mut made) = (vec![0; count * bits / 8], vec![0; 2 * count / group]);
        let mut biases = made.clone();
        let out = Packed {
            codes: &mut kept,
            scales: &mut made,
            biases: &mut biases,
        };
        assert!(as_is.repack(source, 1..4, out));
        let (made, biases) = (halves(&made), halves(&biases));
        for at in 0..count {
            let byte = u32::from(kept[at * bits / 8]);
            let code = (byte >> (at * bits % 8) & ((1 << bits) - 1)) as f32;
            let found = made[at / group] * code + biases[at / group];
            assert!(found == wanted(at + columns), "{bits} {at}");
        }
    }
}

#[test]
fn blocks_of_gguf_are_the_same_numbers_kept_or_read() {
    for (kind, bytes) in [(Ggml::Q4_0, 18), (Ggml::Q4_1, 20), (Ggml::Q8_0, 34)] {
        let (rows, blocks) = (4, 3);
        let mut raw = noise(5, rows * blocks * bytes);
        for (index, block) in raw.chunks_exact_mut(bytes).enumerate() {
            let scale = f16::from_f32(index as f32 / 100.0 - 0.05).to_le_bytes();
            block[..2].copy_from_slice(&scale);
            if kind == Ggml::Q4_1 {
                block[2..4].copy_from_slice(&f16::from_f32(-0.3).to_le_bytes());
            }
        }
        let stored = tensor("a.weight", "Q", &[rows, 32 * blocks], &raw);
        let source = SourceTensor::new(stored, Encoding::Ggml(kind));
        let read = source.rows(1..4);
        let (pairs, _) = read.as_chunks::<2>();
        let bits = kind.bits().unwrap();
        let count = 3 * 32 * blocks;
        let (mut codes, mut scales) = (vec![0; count * bits / 8], vec![0; 2 * count / 32]);
        let mut biases = scales.clone();
        let out = Packed {
            codes: &mut codes,
            scales: &mut scales,
            biases: &mut biases,
        };
        assert!(source.kept().unwrap().repack(&source, 1..4, out));
        let half = |bytes: &[u8], at: usize| {
            f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32()
        };
        for at in 0..count {
            let byte = u32::from(codes[at * bits / 8]);
            let code = (byte >> (at * bits % 8) & ((1 << bits) - 1)) as f32;
            let kept = half(&scales, at / 32) * code + half(&biases, at / 32);
            let block = &raw[(blocks + at / 32) * bytes..][..bytes];
            let (scale, lane) = (half(block, 0), at % 32);
            let nibble = |codes: &[u8]| f32::from(codes[lane % 16] >> (lane / 16 * 4) & 15);
            let wanted = match kind {
                Ggml::Q4_0 => scale * (nibble(&block[2..]) - 8.0),
                Ggml::Q4_1 => scale * nibble(&block[4..]) + half(block, 1),
                _ => scale * f32::from(block[2 + lane].cast_signed()),
            };
            assert!(kept == wanted, "{kind:?} {at}: {kept} {wanted}");
            let read = f16::from_le_bytes(pairs[at]);
            assert!(read == f16::from_f32(wanted), "{kind:?} {at}");
        }
    }
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    let codes = || tensor("a.weight_packed", "U8", &[2, 16], &[0; 32]);
    let scales = |columns: usize| {
        tensor(
            "a.weight_scale",
            "F8_E4M3",
            &[2, columns],
            &vec![0; 2 * columns],
        )
    };
    let global = |factor: f32| tensor("a.weight_global_scale", "F32", &[1], &floats(&[factor]));
    let shape = tensor("a.weight_shape", "I64", &[2], &[0xff; 16]);
    let words = tensor("a.weight_packed", "I32", &[2, 4], &[0; 32]);
    let zeros = tensor("a.weight_zero_point", "I32", &[2, 1], &[0; 8]);
    for (stored, words) in [
        (vec![codes(), global(1.0)], "a.weight_scale is missing"),
        (vec![codes(), scales(2)], "a.weight_global_scale is missing"),
        (vec![codes(), scales(3), global(1.0)], "not those of scales"),
        (vec![codes(), scales(2), global(0.0)], "one number above 0"),
        (
            vec![codes(), scales(2), global(f32::NAN)],
            "one number above 0",
        ),
        (
            vec![words.clone(), scales(2), shape],
            "integers of 4 and 8 bits",
        ),
        (vec![words, scales(2), zeros], "not around zero"),
        (
            vec![tensor("a.weight", "F8_E4M3", &[2, 2], &[0; 4])],
            "factors are missing",
        ),
        (
            vec![tensor("a.scales", "F16", &[1], &[0; 2])],
            "mlx-lm's format",
        ),
    ] {
        let error = paired(stored).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
