//! mlx-c's functions, each one found in a shared library when the program first needs MLX.
//!
//! Takes the place of the published crate of this name and version, which links Apple frameworks.
//! Types and signatures are those of mlx-c ([`load`] says which library serves, and where it is
//! looked for). Nothing is loaded before [`load`] or the first call.
#![expect(unsafe_code, reason = "declarations of C functions and calls to them")]

pub mod cuda;
mod error;
mod loader;
pub mod nvrtc;

pub use error::take_error;
pub use loader::{Attempt, Loaded, Machine, Search, load, loaded};

use std::os::raw::{c_char, c_int};

/// A C function that the library in use does not have.
fn absent(name: &str) -> ! {
    panic!("the MLX library has no function {name}")
}

/// Declares a function table and, for each entry, a function of the same name that calls through it.
///
/// The functions of the first list must all be in a library for it to be accepted; those of the
/// second may be missing and then panic when called.
macro_rules! dynamic_api {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?;)*) => {
        crate::dynamic_table! {
            $(fn $name($($arg: $type),*) $(-> $result)?;)*
        }
    };
}

/// The half of [`dynamic_api`] that both lists share.
macro_rules! dynamic_table {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that a library must have.
        #[derive(Debug)]
        pub(crate) struct Table {
            $(pub(crate) $name: unsafe extern "C" fn($($type),*) $(-> $result)?,)*
        }

        impl Table {
            /// Resolves every function, or names the first that is missing.
            pub(crate) fn resolve(library: &libloading::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the signature was generated from mlx-c's header.
                        let symbol = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) };
                        *symbol.map_err(|_| stringify!($name))?
                    },)*
                })
            }
        }

        $(
            #[doc = concat!("`", stringify!($name), "` of mlx-c.")]
            ///
            /// # Safety
            /// As the C function's documentation says.
            pub unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: passed on to the caller.
                unsafe { (crate::loader::table().$name)($($arg),*) }
            }
        )*
    };
}
use dynamic_table;

/// Types and functions as bindgen reads them from mlx-c's headers.
#[expect(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    clippy::doc_lazy_continuation,
    clippy::pedantic,
    reason = "generated from C"
)]
mod bindings {
    include!("bindings.rs");
}
pub use bindings::*;

/// The bits of a float16.
#[expect(non_camel_case_types, reason = "mlx-c's name")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct float16_t(pub u16);

/// The bits of a bfloat16.
#[expect(non_camel_case_types, reason = "mlx-c's name")]
pub type bfloat16_t = u16;

/// Declares functions that not every library has.
macro_rules! optional_api {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As for a function of mlx-c: handles and pointers must be valid.
            ///
            /// # Panics
            /// Where the library in use does not have it.
            pub unsafe fn $name($($arg: $type),*) $(-> $result)? {
                type Function = unsafe extern "C" fn($($type),*) $(-> $result)?;
                static FUNCTION: std::sync::OnceLock<Option<Function>> = std::sync::OnceLock::new();
                let found = FUNCTION.get_or_init(|| {
                    // SAFETY: the signature is that of native/*.cpp.
                    unsafe { crate::loader::symbol(concat!(stringify!($name), "\0").as_bytes()) }
                });
                let function = found.unwrap_or_else(|| crate::absent(stringify!($name)));
                // SAFETY: passed on to the caller.
                unsafe { function($($arg),*) }
            }
        )*
    };
}

use optional_api;

/// Frees what an array was given to keep.
pub type HostDrop = unsafe extern "C" fn(context: *mut std::ffi::c_void);

/// How a compiled kernel is launched. It takes inputs, outputs and numbers, in this order.
#[derive(Debug)]
#[repr(C)]
pub struct mlxr_launch {
    /// The kernel's name in its code.
    pub name: *const c_char,
    /// A cubin.
    pub code: *const c_char,
    /// Its bytes.
    pub code_size: usize,
    /// Arrays.
    pub inputs: mlx_vector_array,
    /// The shapes of all outputs, one behind the other.
    pub shapes: *const c_int,
    /// How many numbers each of these has.
    pub ndims: *const usize,
    /// The type of each output.
    pub dtypes: *const mlx_dtype,
    /// How many there are.
    pub outputs: usize,
    /// Integers that the kernel takes by value.
    pub numbers: *const c_int,
    /// How many there are.
    pub number_count: usize,
    /// Threads in all.
    pub grid: [c_int; 3],
    /// Threads of a block.
    pub block: [c_int; 3],
    /// Bytes of dynamic shared memory that a block has.
    pub shared_memory: c_int,
}

optional_api! {
    /// The value of a float16 scalar.
    fn mlx_array_item_float16(result: *mut float16_t, array: mlx_array) -> c_int;
    /// The value of a bfloat16 scalar.
    fn mlx_array_item_bfloat16(result: *mut bfloat16_t, array: mlx_array) -> c_int;
    /// The elements of an evaluated float16 array.
    fn mlx_array_data_float16(array: mlx_array) -> *const float16_t;
    /// The elements of an evaluated bfloat16 array.
    fn mlx_array_data_bfloat16(array: mlx_array) -> *const bfloat16_t;
    /// Makes an array over `data` in row-major order, without a copy where the backend can.
    /// `release(keep)` is called, also on failure, once the data is no longer used. The eight
    /// bytes in front of `data` must be readable.
    fn mlxr_array_over(
        result: *mut mlx_array,
        data: *mut std::ffi::c_void,
        shape: *const c_int,
        ndim: usize,
        dtype: mlx_dtype,
        keep: *mut std::ffi::c_void,
        release: HostDrop,
    ) -> c_int;
    /// Operations that are to be done for arrays that are not computed yet: each once, and none that only
    /// looks at memory in another way.
    fn mlxr_count_operations(result: *mut usize, arrays: mlx_vector_array) -> c_int;
    /// Launches a kernel that is compiled already, on NVIDIA's GPUs.
    fn mlxr_compiled_kernel(
        result: *mut mlx_vector_array,
        launch: *const mlxr_launch,
        stream: mlx_stream,
    ) -> c_int;
}

/// Whether the library in use was made here and has the functions `mlxr_*`; one that a system or a
/// package manager brings has not.
pub fn has_native_parts() -> bool {
    // SAFETY: the symbols are looked for and not called.
    let has = |name: &[u8]| unsafe { loader::symbol::<unsafe extern "C" fn()>(name) }.is_some();
    let mut names = [
        b"mlxr_array_over\0".as_slice(),
        b"mlxr_compiled_kernel\0",
        b"mlxr_count_operations\0",
    ]
    .into_iter();
    names.all(has)
}

/// Installs `handler` beside this crate's own, which keeps the message for [`take_error`].
///
/// # Safety
/// `handler` must accept a C string and `data` from any thread.
pub unsafe fn mlx_set_error_handler(
    handler: mlx_error_handler_func,
    data: *mut std::ffi::c_void,
    free: Option<unsafe extern "C" fn(*mut std::ffi::c_void)>,
) {
    error::forward_to(handler, data, free);
}

/// mlx-rs names this clock of macOS; elsewhere the monotonic clock serves.
#[cfg(not(target_os = "macos"))]
#[unsafe(no_mangle)]
pub extern "C" fn mach_approximate_time() -> u64 {
    use std::time::Instant;
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
