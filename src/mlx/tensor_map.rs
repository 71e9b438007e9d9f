//! Matrices as the copy engine of NVIDIA's cards knows them, from compute capability 9.0 on.

use std::ffi::c_void;
use std::ptr;

use mlx_sys::cuda;

use crate::error::{Error, Result};

/// Words of a map.
pub const MAP_WORDS: usize = 16;

/// Bytes of a row that are copied side by side.
const HALF: u64 = 64;
/// Rows of a box.
const ROWS: u32 = 8;
/// Times that these bytes are in one of its rows.
const HALVES: u32 = 8;

/// `CU_TENSOR_MAP_DATA_TYPE_UINT8`.
const BYTES: i32 = 0;
/// `CU_TENSOR_MAP_L2_PROMOTION_L2_128B`.
const LINES: i32 = 2;

/// A matrix of so many rows of so many bytes, which are a multiple of 64, at an address on the card. What is copied at once
/// are boxes of 8 rows and 512 bytes, each 64 of them by themselves: `[8, 8, 64]` of a tensor `[bytes / 64, rows, 64]`.
///
/// # Errors
/// [`Error::Mlx`] where the driver takes no such matrix.
pub fn tensor_map(address: i64, rows: i64, bytes: i64) -> Result<[i64; MAP_WORDS]> {
    let mut map = cuda::TensorMap {
        words: [0; MAP_WORDS],
    };
    let (rows, bytes) = (rows.cast_unsigned(), bytes.cast_unsigned());
    let sizes = [HALF, rows, bytes / HALF];
    let strides = [bytes, HALF];
    let (boxes, steps) = ([HALF as u32, ROWS, HALVES], [1; 3]);
    // SAFETY: all are valid for the call, three numbers each and two strides; the address is not read.
    let status = unsafe {
        cuda::cuTensorMapEncodeTiled(
            &raw mut map,
            BYTES,
            3,
            ptr::without_provenance_mut::<c_void>(address as usize),
            sizes.as_ptr(),
            strides.as_ptr(),
            boxes.as_ptr(),
            steps.as_ptr(),
            0,
            0,
            LINES,
            0,
        )
    };
    if status == 0 {
        return Ok(map.words);
    }
    Err(Error::Mlx(format!(
        "CUDA's driver could not describe a matrix of {rows} rows of {bytes} bytes: status {status}"
    )))
}
