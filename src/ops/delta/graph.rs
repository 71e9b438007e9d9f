//! The convolution and the recurrence as graphs of MLX's operations: where no kernel can be compiled, and what kernels are compared
//! with.

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, slice};

/// Tokens that are worked on at once, by products of matrices.
const CHUNK: i32 = 64;

/// The convolution of `rows` `[taps - 1 + L, channels]` with `taps` `[taps, channels]` and its activation, `[L,
/// channels]`, float32.
pub(super) fn convolve(rows: &Array, taps: &Array) -> Result<Array> {
    let (count, channels) = (taps.shape()[0], taps.shape()[1]);
    let length = rows.shape()[0] - count + 1;
    let mut sum = ops::zeros_dtype(&[length, channels], Dtype::Float32)?;
    for tap in 0..count {
        let rows = slice(rows, 0, tap..tap + length)?.as_dtype(Dtype::Float32)?;
        let weight = slice(taps, 0, tap..=tap)?.as_dtype(Dtype::Float32)?;
        sum = sum.add(rows.multiply(weight)?)?;
    }
    Ok(sum.multiply(ops::sigmoid(&sum)?)?)
}

/// One token: `queries` and `keys` `[H, 1, Dk]`, `values` `[H, 1, Dv]`, `shares` `[H, 1, 1]`, the logarithms of
/// decays `[H, 1]` and the state `[H, Dk, Dv]` to what is read `[H, 1, Dv]` and the state then.
pub(super) fn step(
    [queries, keys, values, shares]: [&Array; 4],
    decays: &Array,
    state: &Array,
) -> Result<(Array, Array)> {
    let state = state.multiply(decays.exp()?.expand_dims(2)?)?;
    let held = keys.matmul(&state)?;
    let corrections = values.subtract(held)?.multiply(shares)?;
    let state = state.add(keys.swap_axes(1, 2)?.matmul(corrections)?)?;
    Ok((queries.matmul(&state)?, state))
}

/// The same of many tokens, in chunks whose corrections are found together (Yang et al. 2024,
/// arXiv:2406.06484, section 3): within a chunk they solve a triangular system.
pub(super) fn chunks(
    [queries, keys, values, shares]: [&Array; 4],
    decays: &Array,
    state: &Array,
) -> Result<(Array, Array)> {
    let (heads, length) = (decays.shape()[0], decays.shape()[1]);
    let count = (length + CHUNK - 1) / CHUNK;
    // Tokens of zeros that decay nothing change nothing.
    let missing = count * CHUNK - length;
    let chunked = |x: &Array| -> Result<Array> {
        let x = ops::pad(x, &[(0, 0), (0, missing), (0, 0)], None, None)?;
        Ok(x.reshape(&[heads, count, CHUNK, -1])?)
    };
    let [queries, keys, values, shares] = [
        chunked(queries)?,
        chunked(keys)?,
        chunked(values)?,
        chunked(shares)?,
    ];
    // What has decayed since the chunk began, `[H, N, C, 1]`.
    let since = chunked(&decays.expand_dims(2)?)?.cumsum(2, None, None)?;
    let place = ops::arange::<_, i32>(0, CHUNK, 1)?;
    let (row, column) = (place.expand_dims(1)?, place.expand_dims(0)?);
    // Between a token and one before it, `[H, N, C, C]`.
    let between = since.subtract(since.swap_axes(2, 3)?)?;
    let never = Array::from_f32(f32::NEG_INFINITY);
    let between = ops::select(column.le(&row)?, &between, &never)?.exp()?;
    let shared_keys = keys.multiply(&shares)?;
    let turned_keys = keys.swap_axes(2, 3)?;
    let system = shared_keys.matmul(&turned_keys)?.multiply(&between)?;
    let inverse = unit_lower_inverse(&system, &row, &column)?;
    let corrections = inverse.matmul(values.multiply(&shares)?)?;
    let decayed_keys = inverse.matmul(shared_keys.multiply(since.exp()?)?)?;
    let attention = queries.matmul(&turned_keys)?.multiply(&between)?;
    let decayed_queries = queries.multiply(since.exp()?)?;
    let last = slice(&since, 2, CHUNK - 1..)?;
    let late_keys = keys
        .multiply(last.subtract(&since)?.exp()?)?
        .swap_axes(2, 3)?;
    let decay = last.exp()?;

    let mut state = state.clone();
    let mut read = Vec::new();
    for chunk in 0..count {
        let of =
            |x: &Array| -> Result<Array> { Ok(slice(x, 1, chunk..=chunk)?.squeeze_axes(&[1])?) };
        let held = of(&decayed_keys)?.matmul(&state)?;
        let corrections = of(&corrections)?.subtract(held)?;
        let from_state = of(&decayed_queries)?.matmul(&state)?;
        read.push(from_state.add(of(&attention)?.matmul(&corrections)?)?);
        let added = of(&late_keys)?.matmul(&corrections)?;
        state = state.multiply(of(&decay)?)?.add(added)?;
    }
    let read = ops::concatenate(&read, 1)?;
    Ok((slice(&read, 1, ..length)?, state))
}

/// The inverse of the identity plus what is below the diagonal of `system` `[.., C, C]`: blocks on the diagonal
/// of twice the size from those of half, `[[a, 0], [b, c]]` being `[[a', 0], [-c' b a', c']]`.
fn unit_lower_inverse(system: &Array, row: &Array, column: &Array) -> Result<Array> {
    let zero = Array::from_f32(0.0);
    let mut inverse = ops::eye::<f32>(CHUNK, None, None)?;
    let mut size = 1;
    while size < CHUNK {
        let block = |x: &Array, size: i32| x.floor_divide(Array::from_int(size));
        // The lower left quarter of each block of twice the size.
        let same = block(row, 2 * size)?.eq(block(column, 2 * size)?)?;
        let below = block(row, size)?.gt(block(column, size)?)?;
        let quarter = ops::select(same.logical_and(below)?, system, &zero)?;
        inverse = inverse.subtract(inverse.matmul(quarter)?.matmul(&inverse)?)?;
        size *= 2;
    }
    Ok(inverse)
}
