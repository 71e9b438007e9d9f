//! The kernel beside the operations that it stands for, on a GPU.

use super::*;
use crate::mlx::opens_gpu;
use crate::mlx::{Dtype, to_vec};

#[test]
fn the_kernel_computes_what_operations_compute() {
    if !opens_gpu() {
        return;
    }
    // Whole pieces of 16 bytes, a rest, and one that begins between such pieces.
    for (rows, skipped) in [(8, 0), (7, 0), (7, 1)] {
        let numbers = |slope: f32| {
            let numbers: Vec<f32> = (0..rows * 91 + skipped)
                .map(|i| slope * ((i * 37 % 101) as f32 - 50.0))
                .collect();
            let array = Array::from_slice(&numbers, &[numbers.len() as i32]);
            crate::mlx::slice(&array, 0, skipped..).unwrap()
        };
        for activation in [
            Activation::Silu,
            Activation::GeluTanh,
            Activation::Clamped(2.5),
        ] {
            for (dtype, allowed) in [(Dtype::Float32, 2e-6), (Dtype::Bfloat16, 2e-2)] {
                let gate = numbers(0.11).as_dtype(dtype).unwrap();
                let up = numbers(-0.07).as_dtype(dtype).unwrap();
                let found = to_vec(&by_kernel(activation, &gate, &up).unwrap()).unwrap();
                let expected = by_operations(activation, &gate, &up).unwrap();
                for (found, expected) in found.iter().zip(to_vec(&expected).unwrap()) {
                    let off = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(
                        off < allowed,
                        "{activation:?} {dtype:?}: {found}, {expected}"
                    );
                }
            }
        }
    }
}
