//! The graph against the kernel of the CPU, which is compared with the plain formulas.

use super::*;
use crate::mlx::{DeviceChoice, open, to_vec};

fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f32 + seed) * 12.9898).sin() * 1.5)
        .collect()
}

fn layer(vector: impl Fn(Vec<f32>, &[i32]) -> Vector) -> GatedDelta {
    let (key_heads, value_heads, key_width, value_width, taps) = (2, 6, 16, 24, 4);
    let channels = 2 * key_heads * key_width + value_heads * value_width;
    let shape = [taps, channels as i32];
    GatedDelta {
        key_heads,
        value_heads,
        key_width,
        value_width,
        taps: vector(numbers(4 * channels, 1.0), &shape),
        decay: vector(numbers(6, 2.0).iter().map(|x| -x.exp()).collect(), &[6]),
        step_bias: vector(numbers(6, 3.0), &[6]),
        norm: RmsNorm {
            weight: vector(numbers(24, 4.0), &[24]),
            epsilon: 1e-6,
        },
        kernel: false,
    }
}

#[test]
fn graphs_of_steps_and_of_chunks_equal_the_kernel_of_the_cpu() {
    open(DeviceChoice::Cpu, None).unwrap();
    let host = layer(|numbers, _| Vector::Host(numbers.into()));
    let device = layer(|numbers, shape| Vector::Device(Array::from_slice(&numbers, shape)));
    let length = 150;
    let widths = [host.channels(), 144, 6, 6];
    let rows: Vec<Vec<f32>> = (0..4)
        .map(|i| numbers(length * widths[i], 5.0 + i as f32))
        .collect();
    let tensor = |i: usize| {
        Tensor::Host(Rows {
            width: widths[i],
            numbers: rows[i].clone().into(),
        })
    };
    let projected = Projected {
        mixed: tensor(0),
        gates: tensor(1),
        corrections: tensor(2),
        steps: tensor(3),
    };
    let mut states = [(length, DeltaState::default())];
    let right = host.on_host(&projected, &mut states).unwrap();
    let right = right.into_numbers().unwrap();
    for pieces in [vec![150], vec![1, 64, 20, 65], vec![1; 150], vec![127, 23]] {
        let (mut first, mut state, mut found) = (0, None, Vec::new());
        for count in pieces {
            let parts = [0, 1, 2, 3].map(|i| {
                let range = first * widths[i]..(first + count) * widths[i];
                Array::from_slice(&rows[i][range], &[count as i32, widths[i] as i32])
            });
            let (out, after) = device.on_device(parts.each_ref(), state).unwrap();
            found.extend(to_vec(&out).unwrap());
            (first, state) = (first + count, Some(after));
        }
        for (found, right) in found.iter().zip(&right) {
            assert!(
                (found - right).abs() <= 2e-3 * (1.0 + right.abs()),
                "{found} {right}"
            );
        }
    }
}
