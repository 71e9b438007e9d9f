//! The kernel beside float32, on a GPU.

use super::*;
use crate::mlx::opens_gpu;
use crate::mlx::{dequantize, eval, quantize, to_vec};

/// Numbers between -1 and 1 that look like chance.
fn numbers(shape: &[i32], seed: f32) -> Array {
    let count: i32 = shape.iter().product();
    let number = |i: i32| ((i as f32 + 17.0 * seed) * 12.9898).sin() * 43_758.547;
    let all: Vec<f32> = (0..count)
        .map(|i| 2.0 * (number(i) - number(i).floor()) - 1.0)
        .collect();
    Array::from_slice(&all, shape)
}

/// `‖a - b‖ / ‖b‖`.
fn distance(a: &Array, b: &Array) -> f32 {
    let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
    assert_eq!(a.len(), b.len());
    let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>();
    let off = squares(&mut a.iter().zip(&b).map(|(a, b)| a - b));
    (off / squares(&mut b.iter().copied())).sqrt()
}

/// The formats that the kernels know.
const FORMATS: [(Mode, i32, i32, Dtype); 7] = [
    (Mode::Affine, 4, 32, Dtype::Bfloat16),
    (Mode::Affine, 4, 64, Dtype::Bfloat16),
    (Mode::Affine, 4, 128, Dtype::Float16),
    (Mode::Affine, 8, 32, Dtype::Float16),
    (Mode::Affine, 8, 64, Dtype::Bfloat16),
    (Mode::Mxfp4, 4, 32, Dtype::Bfloat16),
    (Mode::Nvfp4, 4, 16, Dtype::Bfloat16),
];

/// Packed numbers of this shape, and what is packed in float32.
fn packed(
    shape: &[i32],
    (mode, bits, group_size, dtype): (Mode, i32, i32, Dtype),
) -> (Matrix, Array) {
    let packing = Packing {
        mode,
        group_size,
        bits,
    };
    let all = numbers(shape, 1.0).as_dtype(dtype).unwrap();
    let (weight, scales, biases) = quantize(&all, packing).unwrap();
    let dense = dequantize(&weight, &scales, biases.as_ref(), packing, Dtype::Float32);
    let matrix = Matrix::Packed {
        weight,
        scales,
        biases,
        packing,
    };
    (matrix, dense.unwrap())
}

#[test]
fn the_kernel_unpacks_as_float32_does() {
    if !opens_gpu() {
        return;
    }
    for format in FORMATS {
        // Not as many as whole blocks have.
        let (matrix, dense) = packed(&[37, 384], format);
        let off = distance(&unpack(&matrix, format.3).unwrap(), &dense);
        eprintln!("{format:?}: {off:.1e}");
        assert!(
            off < if format.3 == Dtype::Float16 {
                3e-4
            } else {
                3e-3
            },
            "{format:?}: {off}"
        );
    }
}

#[test]
fn few_rows_are_multiplied_as_float32_does() {
    if !opens_gpu() {
        return;
    }
    // More inputs than are in a block's memory at once, too.
    for (format, inputs) in FORMATS
        .into_iter()
        .zip([512, 768, 1024, 512, 16_384, 448, 448])
    {
        let (matrix, dense) = packed(&[208, inputs], format);
        for rows in [4, 8, 9, 16] {
            let x = numbers(&[rows, inputs], 2.0).as_dtype(format.3).unwrap();
            let found = multiply_few(&x, &matrix).unwrap();
            if format.3 == Dtype::Float16 {
                assert!(found.is_none(), "{format:?}");
                continue;
            }
            let wide = x.as_dtype(Dtype::Float32).unwrap();
            let right = wide.matmul(dense.transpose().unwrap()).unwrap();
            let off = distance(&found.unwrap(), &right);
            eprintln!("{format:?}, {rows} rows: {off:.1e}");
            assert!(off < 3e-3, "{format:?} {rows}: {off}");
        }
    }
    let (matrix, _) = packed(&[208, 512], FORMATS[0]);
    for rows in [3, 17] {
        let x = numbers(&[rows, 512], 2.0)
            .as_dtype(Dtype::Bfloat16)
            .unwrap();
        assert!(multiply_few(&x, &matrix).unwrap().is_none());
    }
}

#[test]
fn the_kernel_multiplies_as_float32_does() {
    if !opens_gpu() {
        return;
    }
    let (count, outputs) = (5, 200);
    for (format, inputs) in FORMATS.into_iter().zip([384, 448, 384, 416, 384, 448, 416]) {
        let dtype = format.3;
        let (matrix, dense) = packed(&[count, outputs, inputs], format);
        assert!(takes(&[&matrix], dtype).unwrap());
        for rows in [2, 64, 333] {
            let x = numbers(&[rows + 3, inputs], 2.0).as_dtype(dtype).unwrap();
            // None has the second matrix; which row is whose is known by its number alone.
            let matrices: Vec<u32> = (0..rows as u32)
                .map(|row| [0, 2, 3, 4][(row * 4 / rows as u32) as usize])
                .collect();
            let sources: Vec<i32> = (0..rows).map(|row| (row * 7 + 3) % (rows + 3)).collect();
            let matrices = Array::from_slice(&matrices, &[rows]);
            let sources = Array::from_slice(&sources, &[rows]);
            let tiles = Tiles::of_sorted(&matrices, count).unwrap();
            let found = multiply(&x, &sources, &matrix, &tiles).unwrap();
            let wide = x
                .take_axis(&sources, 0)
                .unwrap()
                .as_dtype(Dtype::Float32)
                .unwrap();
            let own = dense.take_axis(&matrices, 0).unwrap();
            let right = own.matmul(wide.expand_dims(2).unwrap()).unwrap();
            let right = right.squeeze_axes(&[2]).unwrap();
            eval([&found, &right]).unwrap();
            let off = distance(&found, &right);
            eprintln!("{format:?}, {rows} rows: {off:.1e}");
            assert!(off < 5e-3, "{format:?} {rows}: {off}");
        }
    }
}
