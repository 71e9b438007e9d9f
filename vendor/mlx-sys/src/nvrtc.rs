//! NVRTC, which compiles kernels for NVIDIA's GPUs: MLX is linked with it where it is made for these.
#![expect(non_snake_case, reason = "NVRTC's names")]

use std::os::raw::{c_char, c_int, c_void};

use crate::loader;

/// A program's handle.
pub type Program = *mut c_void;

/// Whether it came with the library in use.
pub fn is_there() -> bool {
    // SAFETY: the symbol is looked for and not called.
    unsafe { loader::symbol::<unsafe extern "C" fn()>(b"nvrtcCompileProgram\0") }.is_some()
}

crate::optional_api! {
    /// `nvrtcCreateProgram`.
    fn nvrtcCreateProgram(
        program: *mut Program,
        source: *const c_char,
        name: *const c_char,
        header_count: c_int,
        headers: *const *const c_char,
        header_names: *const *const c_char,
    ) -> c_int;
    /// `nvrtcDestroyProgram`.
    fn nvrtcDestroyProgram(program: *mut Program) -> c_int;
    /// `nvrtcCompileProgram`.
    fn nvrtcCompileProgram(
        program: Program,
        option_count: c_int,
        options: *const *const c_char,
    ) -> c_int;
    /// `nvrtcGetProgramLogSize`, with the zero at the end.
    fn nvrtcGetProgramLogSize(program: Program, size: *mut usize) -> c_int;
    /// `nvrtcGetProgramLog`.
    fn nvrtcGetProgramLog(program: Program, log: *mut c_char) -> c_int;
    /// `nvrtcGetCUBINSize`.
    fn nvrtcGetCUBINSize(program: Program, size: *mut usize) -> c_int;
    /// `nvrtcGetCUBIN`.
    fn nvrtcGetCUBIN(program: Program, code: *mut c_char) -> c_int;
    /// `nvrtcVersion`.
    fn nvrtcVersion(major: *mut c_int, minor: *mut c_int) -> c_int;
}
