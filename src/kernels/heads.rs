//! Linear layers of which each head has its own.

use super::linear::{Arithmetic, Input, Product, Then, multiply_each};
use super::matrix::Matrix;
use super::pool::Pool;

/// `out[t][h] = W[h] x[t][h]`: `x` is `[T, H, inputs]`, `out` `[T, H, outputs]`, with a matrix
/// `[outputs, inputs]` for each head.
///
/// # Panics
/// Where a slice has not the size that its shape gives, or matrices differ in shape.
pub fn multiply_heads(
    pool: &Pool,
    x: &[f32],
    arithmetic: Arithmetic,
    matrices: &[Matrix],
    out: &mut [f32],
) {
    let Some(first) = matrices.first() else {
        return;
    };
    let (heads, inputs, outputs) = (matrices.len(), first.columns(), first.rows());
    let tokens = x.len() / (heads * inputs);
    assert_eq!(x.len(), tokens * heads * inputs, "whole tokens");
    assert_eq!(out.len(), tokens * heads * outputs, "an output's size");
    let of_heads: Vec<Input> = matrices
        .iter()
        .enumerate()
        .map(|(head, matrix)| {
            assert_eq!([matrix.columns(), matrix.rows()], [inputs, outputs]);
            let rows = x.chunks_exact(heads * inputs);
            let rows = rows.flat_map(|row| &row[head * inputs..(head + 1) * inputs]);
            let rows: Vec<f32> = rows.copied().collect();
            Input::new(pool, &rows, arithmetic, std::iter::once((matrix, tokens)))
        })
        .collect();
    // `[H, T, outputs]`
    let mut made = vec![0.0; out.len()];
    let parts = made.chunks_exact_mut((tokens * outputs).max(1));
    let products = matrices.iter().zip(&of_heads).zip(parts);
    let products = products.map(|((matrix, input), out)| {
        let product = Product {
            matrix,
            bias: None,
            then: Then::Store,
            out,
        };
        (input, product)
    });
    multiply_each(pool, arithmetic, products);
    for (token, out) in out.chunks_exact_mut(heads * outputs).enumerate() {
        for (head, out) in out.chunks_exact_mut(outputs).enumerate() {
            out.copy_from_slice(&made[(head * tokens + token) * outputs..][..outputs]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::linear::plain::product;
    use super::super::matrix::made::{floats, formats, matrix};
    use super::super::pool::for_tests;
    use super::*;

    #[test]
    fn each_head_is_a_product_of_its_own() {
        for format in formats() {
            let (heads, outputs) = (3, 24);
            let inputs = format.group().max(16);
            let matrices: Vec<Matrix> = (0..heads)
                .map(|head| matrix(format, [outputs, inputs], head))
                .collect();
            for (tokens, arithmetic) in [
                (0, Arithmetic::Int8),
                (1, Arithmetic::Int8),
                (11, Arithmetic::Float32),
            ] {
                let x = floats(tokens * heads * inputs, 7);
                let mut out = vec![f32::NAN; tokens * heads * outputs];
                multiply_heads(for_tests()[1], &x, arithmetic, &matrices, &mut out);
                for (i, out) in out.chunks_exact(outputs).enumerate() {
                    let x = &x[i * inputs..(i + 1) * inputs];
                    let right = product(&matrices[i % heads], x, arithmetic, None);
                    for (found, right) in out.iter().zip(right) {
                        let off = (f64::from(*found) - right.value).abs();
                        assert!(off <= 2.0 * right.off, "{format:?} {found} {right:?}");
                    }
                }
            }
        }
    }
}
