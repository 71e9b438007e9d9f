//! CUDA's driver, with which MLX is linked where it is made for NVIDIA's GPUs: memory that several processes' kernels
//! know, and what the card's copy engine knows of matrices.
#![expect(
    non_snake_case,
    clippy::too_many_arguments,
    reason = "CUDA's names, and as many as it asks for"
)]

use std::os::raw::{c_char, c_int, c_uint, c_void};

/// What another process opens memory by.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct IpcMemHandle {
    /// Known to the driver alone.
    pub reserved: [c_char; 64],
}

/// What the card's copy engine knows a tensor by.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct TensorMap {
    /// Known to the driver and the card alone.
    pub words: [i64; 16],
}

crate::optional_api! {
    /// `cuTensorMapEncodeTiled`. Enumerations are integers.
    fn cuTensorMapEncodeTiled(
        map: *mut TensorMap,
        data_type: c_int,
        rank: c_uint,
        address: *mut c_void,
        sizes: *const u64,
        strides: *const u64,
        box_sizes: *const c_uint,
        element_strides: *const c_uint,
        interleave: c_int,
        swizzle: c_int,
        promotion: c_int,
        fill: c_int,
    ) -> c_int;
    /// `cuDevicePrimaryCtxRetain`.
    fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> c_int;
    /// `cuCtxSetCurrent`.
    fn cuCtxSetCurrent(context: *mut c_void) -> c_int;
    /// `cuCtxSynchronize`.
    fn cuCtxSynchronize() -> c_int;
    /// `cuMemAlloc`.
    fn cuMemAlloc_v2(address: *mut u64, size: usize) -> c_int;
    /// `cuMemFree`.
    fn cuMemFree_v2(address: u64) -> c_int;
    /// `cuMemsetD8`.
    fn cuMemsetD8_v2(address: u64, byte: u8, size: usize) -> c_int;
    /// `cuIpcGetMemHandle`.
    fn cuIpcGetMemHandle(handle: *mut IpcMemHandle, address: u64) -> c_int;
    /// `cuIpcOpenMemHandle`.
    fn cuIpcOpenMemHandle_v2(address: *mut u64, handle: IpcMemHandle, flags: c_uint) -> c_int;
    /// `cuIpcCloseMemHandle`.
    fn cuIpcCloseMemHandle(address: u64) -> c_int;
}
