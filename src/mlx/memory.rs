//! What MLX's allocator holds, and its limits. All figures are bytes.

use super::call::{check, value};
use crate::error::Result;

/// What MLX's allocator holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// In arrays that are alive. Arrays over mapped files count only where they were copied.
    pub active: usize,
    /// Kept for reuse.
    pub pool: usize,
    /// The largest `active` since the last [`reset_peak`].
    pub peak: usize,
}

/// The figures of this moment.
///
/// # Errors
/// What MLX says.
pub fn usage() -> Result<Usage> {
    // SAFETY: each call writes one integer.
    unsafe {
        Ok(Usage {
            active: value(|out| mlx_sys::mlx_get_active_memory(out))?,
            pool: value(|out| mlx_sys::mlx_get_cache_memory(out))?,
            peak: value(|out| mlx_sys::mlx_get_peak_memory(out))?,
        })
    }
}

/// Starts a new measurement of the peak.
///
/// # Errors
/// What MLX says.
pub fn reset_peak() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { mlx_sys::mlx_reset_peak_memory() })
}

/// Gives the pool back to the system.
///
/// # Errors
/// What MLX says.
pub fn clear_pool() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { mlx_sys::mlx_clear_cache() })
}

/// Bounds what MLX allocates in all: past it, allocating waits for running work and then clears
/// the pool. Returns the bound before.
///
/// # Errors
/// What MLX says.
pub fn limit_total(bytes: usize) -> Result<usize> {
    // SAFETY: writes one integer.
    value(|out| unsafe { mlx_sys::mlx_set_memory_limit(out, bytes) })
}

/// The memory that MLX would allocate on the device at most, where nobody bounds it: about what it has.
///
/// # Errors
/// What MLX says.
pub fn of_device() -> Result<usize> {
    // SAFETY: writes one integer.
    value(|out| unsafe { mlx_sys::mlx_get_memory_limit(out) })
}

/// Whether GPUs compute in the host's memory.
///
/// # Errors
/// What MLX says.
pub fn is_shared() -> Result<bool> {
    super::kernel::is_metal()
}
