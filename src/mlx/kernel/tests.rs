//! Kernels on a GPU of NVIDIA.

use std::fs;

use super::*;
use crate::mlx::{opens_gpu, to_vec};

/// `a + n`, with `n` from the launch and a constant.
static ADDS: GpuKernel = GpuKernel::for_cuda(
    c"adds",
    &[c"a"],
    &[c"b"],
    c"template <typename T> __device__ T sum(T x, int n) { return T(float(x) + n); }",
    c"if (threadIdx.x < count) b[threadIdx.x] = sum(a[threadIdx.x], count + MORE);",
)
.with_numbers(&[c"count"]);

fn add(dtype: Dtype, more: i32) -> Result<Vec<f32>> {
    let numbers = Array::from_slice(&[1f32, 2.0, -3.5], &[3]);
    let made = ADDS.launch(&Launch {
        inputs: &[&numbers.as_dtype(dtype)?],
        outputs: &[(&[3], dtype)],
        numbers: &[3],
        constants: &[(c"MORE", more)],
        grid: [32, 1, 1],
        block: [32, 1, 1],
    })?;
    to_vec(&made[0])
}

#[test]
fn a_kernel_is_compiled_for_types_and_constants_and_kept() {
    if !opens_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    keep_kernels(Some(folder.path()));
    for dtype in [Dtype::Float32, Dtype::Bfloat16, Dtype::Float16] {
        assert_eq!(add(dtype, 0).unwrap(), [4.0, 5.0, -0.5]);
        assert_eq!(add(dtype, 1).unwrap(), [5.0, 6.0, 0.5]);
        assert_eq!(add(dtype, 0).unwrap(), [4.0, 5.0, -0.5]);
    }
    keep_kernels(None);
    let names = fs::read_dir(folder.path()).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let ours = names.filter(|name| name.starts_with("adds-"));
    assert_eq!(ours.count(), 6);
}

#[test]
fn what_is_wrong_with_a_source_is_told() {
    static WRONG: GpuKernel =
        GpuKernel::for_cuda(c"wrong", &[c"a"], &[c"b"], c"", c"b[0] = missing;");
    if !opens_gpu() {
        return;
    }
    let launched = WRONG.launch(&Launch {
        inputs: &[&Array::from_slice(&[1f32], &[1])],
        outputs: &[(&[1], Dtype::Float32)],
        numbers: &[],
        constants: &[],
        grid: [1, 1, 1],
        block: [1, 1, 1],
    });
    let error = launched.unwrap_err().to_string();
    assert!(
        error.contains("wrong") && error.contains("\"missing\" is undefined"),
        "{error}"
    );
}
