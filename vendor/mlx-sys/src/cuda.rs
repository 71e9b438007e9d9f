//! CUDA's driver, with which MLX is linked where it is made for NVIDIA's GPUs: memory that several processes' kernels
//! know.
#![expect(non_snake_case, reason = "CUDA's names")]

use std::os::raw::{c_char, c_int, c_uint, c_void};

/// What another process opens memory by.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct IpcMemHandle {
    /// Known to the driver alone.
    pub reserved: [c_char; 64],
}

crate::optional_api! {
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
