//! Rows that are looked up against the same rows unpacked plainly.

use super::super::matrix::made::{formats, matrix};
use super::super::pool::for_tests;
use super::super::simd::with_each;
use super::look_up;

#[test]
fn rows_are_those_of_the_matrix_in_every_format() {
    for (i, format) in formats().into_iter().enumerate() {
        for units in [1, 3, 4, 5] {
            let columns = format.group().max(8) * units + usize::from(format.group() == 1);
            let weights = matrix(format, [9, columns], i);
            let ids = [3, 0, 8, -1, 3, 9, i32::MAX, i32::MIN];
            let right = ids.map(|id| match id {
                0..9 => weights.dense_row(id as usize),
                _ => vec![0.0; columns],
            });
            with_each(|instructions| {
                for pool in for_tests() {
                    let mut out = vec![f32::NAN; ids.len() * columns];
                    look_up(pool, &weights, &ids, &mut out);
                    for (found, right) in out.iter().zip(right.iter().flatten()) {
                        // What is multiplied before it is added may be rounded once more.
                        if (found - right).abs() > 8.0 * f32::EPSILON * right.abs().max(1.0) {
                            return Err(format!("{format:?} {instructions}: {found} {right}"));
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
        }
    }
}
