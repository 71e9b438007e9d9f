//! What numbers and packed weights stand for, against their definitions.

use super::made::{bytes, formats, matrix};
use super::*;

#[test]
fn small_floats_are_what_their_specification_says() {
    for byte in 0..=255_u8 {
        let sign = if byte < 128 { 1.0 } else { -1.0 };
        let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
        let right = if exponent == 0 {
            sign * mantissa / 8.0 * 2_f32.powi(-6)
        } else {
            sign * (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7)
        };
        assert_eq!(e4m3(byte).to_bits(), right.to_bits(), "{byte}");
        let right = (f64::from(byte) - 127.0).exp2();
        let found = f64::from(power_of_two(byte));
        let same = found.to_bits() == right.to_bits();
        assert!(same || byte == 255 && found.is_nan(), "{byte}");
    }
    for (code, found) in (0_u8..).zip(E2M1) {
        let sign = if code < 8 { 1.0 } else { -1.0 };
        let (exponent, mantissa) = (i32::from(code >> 1 & 3), f32::from(code & 1));
        let right = if exponent == 0 {
            sign * mantissa / 2.0
        } else {
            sign * (1.0 + mantissa / 2.0) * 2_f32.powi(exponent - 1)
        };
        assert_eq!(found.to_bits(), right.to_bits(), "{code}");
    }
}

#[test]
fn codes_are_bit_strings() {
    let codes = bytes(40, 1);
    for bits in [2, 3, 4, 5, 6, 8] {
        let bit = |at: usize| u16::from(codes[at / 8] >> (at % 8) & 1);
        for i in 0..8 * codes.len() / bits {
            let right: u16 = (0..bits).map(|j| bit(i * bits + j) << j).sum();
            assert_eq!(u16::from(bits_at(&codes, i * bits, bits)), right);
        }
    }
}

#[test]
fn parts_of_other_sizes_are_refused() {
    for format in formats() {
        let Matrix {
            codes,
            scales,
            biases,
            ..
        } = matrix(format, [3, 256], 0);
        let make = |rows, columns| {
            let (codes, scales) = (codes.clone(), scales.clone());
            Matrix::new([rows, columns], format, codes, scales, biases.clone())
        };
        assert!(make(3, 256).is_ok());
        for (rows, columns) in [(2, 256), (4, 256), (3, 128), (3, 250), (0, 256), (3, 0)] {
            assert!(make(rows, columns).is_err(), "{format:?} {rows} {columns}");
        }
    }
    let storage: Storage = Arc::new([0_u8; 64]);
    let part = Part::new(storage.clone(), 0..64).unwrap();
    assert!(Part::new(storage, 60..65).is_none());
    let format = Format::Affine {
        bits: 7,
        group: 64,
        number: Number::Float16,
    };
    let [scales, biases] = [Part::empty(), Part::empty()];
    assert!(Matrix::new([1, 64], format, part, scales, biases).is_err());
}
