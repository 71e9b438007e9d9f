//! Rows of a matrix by their numbers.

use super::codes::CHUNK;
use super::floats::{is_split, unpack_row};
use super::matrix::Matrix;
use super::pool::{self, Pool};

/// `out[i]` is row `ids[i]`, `[T, columns]`. A row that there is not is zeros: the token that stands
/// for "no token".
pub fn look_up(pool: &Pool, matrix: &Matrix, ids: &[i32], out: &mut [f32]) {
    let columns = matrix.columns();
    let rows = ids.iter().zip(out.chunks_exact_mut(columns));
    pool::run_each(pool, rows.collect(), |(&id, out): (&i32, &mut [f32])| {
        let Some(row) = usize::try_from(id).ok().filter(|&row| row < matrix.rows()) else {
            return out.fill(0.0);
        };
        let mut unpacked = vec![0.0; columns.next_multiple_of(CHUNK)];
        unpack_row(matrix, row, &mut unpacked);
        if !is_split(matrix.format()) {
            return out.copy_from_slice(&unpacked[..columns]);
        }
        for (out, chunk) in out.chunks_mut(CHUNK).zip(unpacked.chunks_exact(CHUNK)) {
            let (even, odd) = chunk.split_at(CHUNK / 2);
            for (pair, (even, odd)) in out.chunks_exact_mut(2).zip(even.iter().zip(odd)) {
                pair.copy_from_slice(&[*even, *odd]);
            }
        }
    });
}

#[cfg(test)]
mod tests;
