//! How caches are read in tests: in the plainest way, over the layouts that [`CacheNumber`] names.

use half::{bf16, f16};
use proptest::prelude::*;

use super::super::simd::{Instructions, Kernel, run_with};
use super::*;

/// Keys or values of one head.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Stored<'a> {
    pub(in super::super) number: CacheNumber,
    /// From the first position on.
    pub(in super::super) bytes: &'a [u8],
    pub(in super::super) width: usize,
}

impl<'a> Stored<'a> {
    /// Those of a head, of a cache with so many places.
    pub(in super::super) fn of_head(
        number: CacheNumber,
        cache: &'a [u8],
        width: usize,
        capacity: usize,
        head: usize,
    ) -> Self {
        let size = capacity * number.row_bytes(width);
        Self {
            number,
            bytes: &cache[head * size..][..size],
            width,
        }
    }

    /// All bytes that the key of a position has.
    pub(in super::super) fn key_bytes(self, position: usize) -> Vec<u8> {
        let (codes, scales) = match self.eight(position) {
            Ok(eight) => eight,
            Err(row) => return row.to_vec(),
        };
        let codes = codes.chunks(4).skip(position % 8).step_by(8);
        let scales = scales.chunks(2).skip(position % 8).step_by(8);
        codes.chain(scales).flatten().copied().collect()
    }

    /// All bytes that the value of a position has.
    pub(in super::super) fn value_bytes(self, position: usize) -> Vec<u8> {
        let (codes, scales) = match self.eight(position) {
            Ok(eight) => eight,
            Err(row) => return row.to_vec(),
        };
        let pair = codes.chunks(codes.len() / 4).nth(position % 8 / 2).unwrap();
        let codes = pair.iter().skip(position % 2).step_by(2);
        let scales = scales.chunks(2).skip(position % 8).step_by(8).flatten();
        codes.chain(scales).copied().collect()
    }

    /// The codes and the scales of the eight positions that a position lies among, or its own row.
    fn eight(self, position: usize) -> Result<(&'a [u8], &'a [u8]), &'a [u8]> {
        let size = self.number.row_bytes(self.width);
        if self.number != CacheNumber::I8 {
            return Err(&self.bytes[position * size..][..size]);
        }
        let block = &self.bytes[position / 8 * 8 * size..][..8 * size];
        Ok(block.split_at(8 * self.width.next_multiple_of(32)))
    }

    /// A column of the key of a position.
    pub(in super::super) fn key(self, position: usize, column: usize) -> f64 {
        match self.eight(position) {
            Ok((codes, _)) => {
                let code = codes[(column / 4 * 8 + position % 8) * 4 + column % 4];
                (f64::from(code) - 128.0) * self.scale(position, column)
            }
            Err(row) => self.float(row, column),
        }
    }

    /// A column of the value of a position.
    pub(in super::super) fn value(self, position: usize, column: usize) -> f64 {
        match self.eight(position) {
            Ok((codes, _)) => {
                let pair = &codes[position % 8 / 2 * codes.len() / 4..];
                let code = pair[2 * column + position % 2].cast_signed();
                f64::from(code) * self.scale(position, column)
            }
            Err(row) => self.float(row, column),
        }
    }

    /// What a column's code is multiplied by, in int8.
    pub(in super::super) fn scale(self, position: usize, column: usize) -> f64 {
        let Ok((_, scales)) = self.eight(position) else {
            return 1.0;
        };
        let at = (column / 32 * 8 + position % 8) * 2;
        bf16::from_le_bytes([scales[at], scales[at + 1]]).to_f64()
    }

    fn float(self, row: &[u8], column: usize) -> f64 {
        if self.number == CacheNumber::F16 {
            return f16::from_le_bytes([row[2 * column], row[2 * column + 1]]).to_f64();
        }
        let number = row[4 * column..4 * column + 4].try_into().unwrap();
        f64::from(f32::from_le_bytes(number))
    }
}

pub(in super::super) fn numbers() -> impl Strategy<Value = CacheNumber> {
    prop_oneof![
        Just(CacheNumber::F32),
        Just(CacheNumber::F16),
        Just(CacheNumber::I8)
    ]
}

/// Stores rows as keys and as values, from position 0 on, with chosen instructions.
pub(in super::super) fn stored(
    instructions: Instructions,
    number: CacheNumber,
    rows: &[f32],
    width: usize,
) -> [Vec<u8>; 2] {
    let positions = (rows.len() / width).next_multiple_of(number.block());
    let bytes = positions * number.row_bytes(width);
    let mut out = [vec![0; bytes], vec![0; bytes]];
    let store = Store {
        number,
        rows,
        width,
        out: &mut out,
    };
    run_with(instructions, store);
    out
}

struct Store<'a> {
    number: CacheNumber,
    rows: &'a [f32],
    width: usize,
    out: &'a mut [Vec<u8>; 2],
}

impl Store<'_> {
    fn all<S: Simd, N: Number>(self) {
        let [keys, values] = self.out;
        for (position, row) in self.rows.chunks_exact(self.width).enumerate() {
            // SAFETY: there are whole blocks for all positions.
            unsafe {
                N::store_key::<S>(row, keys.as_mut_ptr(), position);
                N::store_value::<S>(row, values.as_mut_ptr(), position);
            }
        }
    }
}

impl Kernel for Store<'_> {
    type Output = ();

    fn run<S: Simd>(self) {
        match self.number {
            CacheNumber::F32 => self.all::<S, Single>(),
            CacheNumber::F16 => self.all::<S, Half>(),
            CacheNumber::I8 => self.all::<S, Byte>(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_stored_is_close(
        number in numbers(),
        width in 1_usize..140,
        positions in 1_usize..20,
        size in -30_i32..30,
    ) {
        let size = 2_f32.powi(size / 3);
        let rows: Vec<f32> = (0..positions * width)
            .map(|i| (i as f32 * 12.9898).sin() * size)
            .collect();
        for instructions in Instructions::available() {
            let [keys, values] = stored(instructions, number, &rows, width);
            for (position, row) in rows.chunks_exact(width).enumerate() {
                for (column, &right) in row.iter().enumerate() {
                    let block = &row[column / 32 * 32..width.min(column / 32 * 32 + 32)];
                    let largest = block.iter().fold(0_f32, |a, b| a.max(b.abs()));
                    // Half a step of the codes; the scale is up to a 128th above the least.
                    let off = match number {
                        CacheNumber::F32 => 0.0,
                        CacheNumber::F16 => right.abs() / 2048.0 + 1e-7,
                        CacheNumber::I8 => largest / 254.0 * (1.0 + 1.0 / 128.0),
                    };
                    let [key, value] = [&keys, &values].map(|bytes| Stored { number, bytes, width });
                    for found in [key.key(position, column), value.value(position, column)] {
                        let close = (found - f64::from(right)).abs() <= f64::from(off);
                        prop_assert!(close, "{instructions}: {found} {right}, {off}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_none() {
    for instructions in Instructions::available() {
        for number in [CacheNumber::F32, CacheNumber::F16, CacheNumber::I8] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut row = vec![1.0; 40];
                row[33] = bad;
                let [keys, values] = stored(instructions, number, &row, 40);
                let [key, value] = [&keys, &values].map(|bytes| Stored {
                    number,
                    bytes,
                    width: 40,
                });
                assert!(!key.key(0, 33).is_finite() && !value.value(0, 33).is_finite());
                assert!(
                    (key.key(0, 3) - 1.0).abs() < 0.01 && (value.value(0, 3) - 1.0).abs() < 0.01
                );
            }
        }
    }
}
