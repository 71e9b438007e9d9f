//! The room against the real library on the CPU.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn cpu() {
    open(DeviceChoice::Cpu, None).unwrap();
}

#[test]
fn an_explicit_library_that_is_not_there_is_an_error_that_names_it() {
    // Loading happens once in a process: nothing may have loaded before, as under nextest.
    if library_version().is_some() {
        return;
    }
    match open(DeviceChoice::Cpu, Some(Path::new("/nowhere/libmlxc.so"))) {
        Err(Error::MlxLibrary { tried }) => assert_eq!(tried[0].0, "/nowhere/libmlxc.so"),
        Ok(_) => assert!(library_version().is_some(), "another test loaded it"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_come_back_as_errors_without_source_places() {
    cpu();
    let a = Array::from_slice(&[1f32, 2.0, 3.0], &[3]);
    let b = Array::from_slice(&[1f32, 2.0], &[2]);
    let error = Error::from(a.add(&b).unwrap_err()).to_string();
    assert!(error.contains("cannot be broadcast"), "{error}");
    assert!(!error.contains(".cpp"), "{error}");
    let packing = Packing {
        mode: Mode::Affine,
        group_size: 7,
        bits: 4,
    };
    let error = quantize(&a, packing).unwrap_err().to_string();
    assert!(
        error.starts_with("MLX: ") && !error.contains(".cpp"),
        "{error}"
    );
}

#[test]
fn arrays_lie_over_a_mapped_file() {
    cpu();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for value in [0f32, 0.0, 1.5, -2.0, 3.25] {
        file.write_all(&value.to_le_bytes()).unwrap();
    }
    let bytes = Bytes::Mapped(Arc::new(MappedFile::open(file.path()).unwrap()));
    let before = memory::usage().unwrap().active;
    let array = array_over(&bytes, 8..20, &[3], Dtype::Float32).unwrap();
    assert_eq!(
        memory::usage().unwrap().active,
        before,
        "aligned: nothing is copied"
    );
    drop(bytes);
    assert_eq!(to_vec(&array).unwrap(), [1.5, -2.0, 3.25]);
}

#[test]
fn misaligned_and_empty_ranges_are_copied_and_lying_shapes_refused() {
    cpu();
    let bytes = Bytes::Static(&[9, 0, 0, 128, 63, 0, 0, 0, 64, 9, 9, 9]);
    let array = array_over(&bytes, 1..9, &[2, 1], Dtype::Float32).unwrap();
    assert_eq!(to_vec(&array).unwrap(), [1.0, 2.0]);
    assert_eq!(
        array_over(&bytes, 4..4, &[0, 5], Dtype::Float32)
            .unwrap()
            .shape(),
        [0, 5]
    );
    assert!(array_over(&bytes, 0..8, &[3], Dtype::Float32).is_err());
    assert!(array_over(&bytes, 8..16, &[2], Dtype::Float32).is_err());
    assert!(array_over(&bytes, 0..8, &[usize::MAX, 2], Dtype::Float32).is_err());
}

#[test]
fn memory_is_counted_and_its_bounds_are_kept() {
    cpu();
    let big = ops::zeros_dtype(&[1 << 20], Dtype::Float32).unwrap();
    eval([&big]).unwrap();
    let used = memory::usage().unwrap();
    assert!(
        used.active >= 4 << 20 && used.peak >= used.active,
        "{used:?}"
    );
    let before = memory::limit_total(77 << 30).unwrap();
    assert_eq!(memory::limit_total(before).unwrap(), 77 << 30);
}

#[test]
fn packed_weights_come_back_in_every_mode() {
    cpu();
    let weights: Vec<f32> = (0..4 * 64)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
        .collect();
    let w = Array::from_slice(&weights, &[4, 64]);
    let x = Array::from_slice(&weights[..64], &[1, 64]);
    let affine = [2, 3, 4, 5, 6, 8].map(|bits| Packing {
        mode: Mode::Affine,
        group_size: 32,
        bits,
    });
    let floats = [
        (Mode::Mxfp4, 32, 4),
        (Mode::Mxfp8, 32, 8),
        (Mode::Nvfp4, 16, 4),
    ]
    .map(|(mode, group_size, bits)| Packing {
        mode,
        group_size,
        bits,
    });
    for packing in affine.into_iter().chain(floats) {
        let (packed, scales, biases) = quantize(&w, packing).unwrap();
        assert_eq!(biases.is_some(), packing.mode == Mode::Affine);
        let back = dequantize(&packed, &scales, biases.as_ref(), packing, Dtype::Float32).unwrap();
        let product = quantized_matmul(&x, &packed, &scales, biases.as_ref(), packing).unwrap();
        let expected = x.matmul(back.transpose().unwrap()).unwrap();
        for (a, b) in to_vec(&product)
            .unwrap()
            .iter()
            .zip(to_vec(&expected).unwrap())
        {
            assert!((a - b).abs() < 1e-3, "{packing:?}: {a} and {b}");
        }
        let worst = to_vec(&back)
            .unwrap()
            .iter()
            .zip(&weights)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        let step = if packing.mode == Mode::Affine {
            2.0 / f32::powi(2.0, packing.bits)
        } else {
            0.25
        };
        assert!(worst <= step, "{packing:?}: off by {worst}");
    }
}

/// Python's `list(range(length))[start:stop]`, written as the language reference says it.
fn python_slice(start: Option<i32>, stop: Option<i32>, length: i32) -> Vec<i32> {
    let index = |value: i32| i64::from(value) + if value < 0 { i64::from(length) } else { 0 };
    let (start, stop) = (
        start.map_or(0, index),
        stop.map_or(i64::from(length), index),
    );
    (0..length)
        .filter(|&i| i64::from(i) >= start && i64::from(i) < stop)
        .collect()
}

proptest! {
    #[test]
    fn slices_mean_what_they_mean_in_python(
        length in 0..12i32,
        start in proptest::option::of(prop_oneof![-15..15i32, Just(i32::MIN), Just(i32::MAX)]),
        stop in proptest::option::of(prop_oneof![-15..15i32, Just(i32::MIN), Just(i32::MAX)]),
    ) {
        use std::ops::Bound;
        cpu();
        let values: Vec<i32> = (0..length).collect();
        let array = Array::from_slice(&values, &[1, length]);
        let range = (
            start.map_or(Bound::Unbounded, Bound::Included),
            stop.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let expected = python_slice(start, stop, length);
        let part = slice(&array, 1, range).unwrap();
        prop_assert_eq!(part.shape(), &[1, expected.len() as i32]);
        let found: Vec<i32> = to_vec(&part).unwrap().iter().map(|&value| value as i32).collect();
        prop_assert_eq!(&found, &expected);
        let update = mlx_rs::ops::zeros_like(&part).unwrap();
        let updated = to_vec(&slice_update(&array, &update, 1, range).unwrap()).unwrap();
        for (i, value) in updated.iter().enumerate() {
            let zeroed = expected.contains(&(i as i32));
            prop_assert_eq!(*value as i32, if zeroed { 0 } else { i as i32 });
        }
    }
}

#[test]
fn bytes_of_an_array_make_the_same_array() {
    open(DeviceChoice::Cpu, None).unwrap();
    let numbers: Vec<f32> = (0..24).map(|number| number as f32 / 3.0).collect();
    let whole = Array::from_slice(&numbers, &[2, 3, 4]);
    for dtype in [Dtype::Float32, Dtype::Bfloat16, Dtype::Uint32] {
        // A part that does not lie in one piece.
        let part = slice(&whole.as_dtype(dtype).unwrap(), 1, 1..3).unwrap();
        let bytes = with_bytes(std::slice::from_ref(&part), |bytes| bytes[0].to_vec()).unwrap();
        assert_eq!(bytes.len(), 16 * item_size(dtype));
        let again = array_of_bytes(&bytes, &[2, 2, 4], dtype).unwrap();
        assert_eq!(to_vec(&again).unwrap(), to_vec(&part).unwrap());
    }
    assert!(array_of_bytes(&[0; 7], &[2], Dtype::Float32).is_err());
}

#[test]
fn staged_bytes_make_arrays_of_several_types() {
    open(DeviceChoice::Cpu, None).unwrap();
    let mut staging = Staging::default();
    for round in 0..3_u8 {
        let bytes: Vec<u8> = (0..9 * (round + 1)).collect();
        let floats: Vec<u8> = (0..50)
            .flat_map(|number| (number as f32 + f32::from(round)).to_le_bytes())
            .collect();
        let count = bytes.len();
        let parts = [
            (&bytes[..], &[3, count / 3][..], Dtype::Uint8),
            (&[], &[0, 2], Dtype::Float32),
            (&floats, &[5, 10], Dtype::Float32),
        ];
        let arrays = staging.put(&parts).unwrap();
        let right: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte)).collect();
        assert_eq!(to_vec(&arrays[0]).unwrap(), right);
        assert_eq!((arrays[1].size(), arrays[2].shape()), (0, &[5, 10][..]));
        let right: Vec<f32> = (0..50)
            .map(|number| number as f32 + f32::from(round))
            .collect();
        assert_eq!(to_vec(&arrays[2]).unwrap(), right);
    }
    assert!(staging.put(&[(&[0; 7], &[2], Dtype::Float32)]).is_err());
    assert!(staging.put(&[]).unwrap().is_empty());
}
