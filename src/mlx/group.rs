//! Processes that compute one model together, by MLX's distributed backends.

use std::ops::Range;

use mlx_rs::Array;

use super::call::{array, check, stream};
use crate::error::{Error, Result};

/// All processes that compute together, of which this is one.
#[derive(Debug)]
pub struct Group {
    handle: mlx_sys::mlx_distributed_group,
    rank: usize,
    size: usize,
}

// SAFETY: what the handle points to is never changed, and counts its owners atomically.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

impl Group {
    /// Waits until all others have joined, by sockets between them: MLX's ring, which reads from `MLX_RANK` which of them
    /// this is, and from a file that `MLX_HOSTFILE` names where they all are.
    ///
    /// # Errors
    /// [`Error::Mlx`] where the environment does not tell, or the others cannot be reached.
    pub fn join() -> Result<Self> {
        // SAFETY: makes an empty handle.
        let mut handle = unsafe { mlx_sys::mlx_distributed_group_new() };
        // SAFETY: writes one handle; the name is a C string.
        check(unsafe { mlx_sys::mlx_distributed_init(&raw mut handle, true, c"ring".as_ptr()) })?;
        // SAFETY: the handle is valid.
        let (rank, size) = unsafe {
            (
                mlx_sys::mlx_distributed_group_rank(handle),
                mlx_sys::mlx_distributed_group_size(handle),
            )
        };
        Ok(Self {
            handle,
            rank: rank as usize,
            size: size as usize,
        })
    }

    /// Which of the processes this is, from 0 on.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// This process's part of so many numbers, each having as many.
    ///
    /// # Errors
    /// [`Error::Ranks`] where they cannot be parted so.
    pub fn part(&self, count: usize) -> Result<Range<usize>> {
        if !count.is_multiple_of(self.size) {
            return Err(Error::Ranks(format!(
                "{count} numbers cannot be parted among {} processes",
                self.size
            )));
        }
        let each = count / self.size;
        Ok(self.rank * each..(self.rank + 1) * each)
    }

    /// The sum of what all processes give, the same on each of them. All must ask for it, with arrays of one shape.
    ///
    /// # Errors
    /// What MLX says.
    pub fn sum(&self, x: &Array) -> Result<Array> {
        // SAFETY: all handles are valid.
        array(|out| unsafe {
            mlx_sys::mlx_distributed_all_sum(out, x.as_ptr(), self.handle, stream().as_ptr())
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the handle is ours. Freeing cannot fail in a way that we could act on.
        unsafe { mlx_sys::mlx_distributed_group_free(self.handle) };
    }
}
