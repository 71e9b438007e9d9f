//! Keeps the message of the last error of each thread; MLX's own handler would end the process.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};

use crate::mlx_error_handler_func;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The message of the last failed call on this thread, if none has taken it yet.
pub fn take_error() -> Option<String> {
    LAST.take()
}

struct Forward {
    handler: mlx_error_handler_func,
    data: *mut c_void,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: mlx-c calls a handler from any thread, so its owner must already allow that.
unsafe impl Send for Forward {}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: `data` came with `free` for exactly this.
            unsafe { free(self.data) }
        }
    }
}

static FORWARD: Mutex<Option<Forward>> = Mutex::new(None);

pub(crate) fn forward_to(
    handler: mlx_error_handler_func,
    data: *mut c_void,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
) {
    let forward = Forward {
        handler,
        data,
        free,
    };
    *FORWARD.lock().unwrap_or_else(PoisonError::into_inner) = Some(forward);
}

/// The handler given to mlx-c when a library is loaded.
pub(crate) unsafe extern "C" fn keep(message: *const c_char, _data: *mut c_void) {
    // SAFETY: mlx-c passes a C string that lives as long as the call.
    let text = unsafe { CStr::from_ptr(message) }
        .to_string_lossy()
        .into_owned();
    LAST.set(Some(text));
    let forward = FORWARD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Forward {
        handler: Some(handler),
        data,
        ..
    }) = &*forward
    {
        // SAFETY: as `mlx_set_error_handler` demands of its caller.
        unsafe { handler(message, *data) }
    }
}
