//! Processes that compute one model together, by MLX's distributed backends.

use std::ffi::CStr;
use std::ops::Range;

use mlx_rs::{Array, Stream};

use super::call::{array, check, stream};
use super::device::Device;
use crate::error::{Error, Result};

/// All processes that compute together, of which this is one.
#[derive(Debug)]
pub struct Group {
    /// Between the host's memories, by sockets: MLX's ring.
    hosts: Handle,
    /// Between GPUs, each process having one of its own: NCCL.
    gpus: Option<Handle>,
    rank: usize,
    size: usize,
}

#[derive(Debug)]
struct Handle(mlx_sys::mlx_distributed_group);

// SAFETY: what the handle points to is never changed, and counts its owners atomically.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Group {
    /// Waits until all others have joined. MLX reads from `MLX_RANK` which of them this is, from a file that
    /// `MLX_HOSTFILE` names where they all are, and, to compute on GPUs, from `MLX_WORLD_SIZE`, `NCCL_HOST_IP` and
    /// `NCCL_PORT` where they meet.
    ///
    /// # Errors
    /// [`Error::Mlx`] where the environment does not tell, or the others cannot be reached, and [`Error::Ranks`] where
    /// some compute on a GPU and some do not.
    pub fn join(device: Device) -> Result<Self> {
        let hosts = Handle::join(c"ring")?;
        // SAFETY: the handle is valid.
        let (rank, size) = unsafe {
            (
                mlx_sys::mlx_distributed_group_rank(hosts.0),
                mlx_sys::mlx_distributed_group_size(hosts.0),
            )
        };
        let mut group = Self {
            hosts,
            gpus: None,
            rank: rank as usize,
            size: size as usize,
        };
        let with_gpu = group.sum_words(&[i32::from(device == Device::Gpu)])?;
        group.gpus = match with_gpu.first() {
            Some(0) => None,
            Some(&count) if count == size => Some(Handle::join(c"nccl")?),
            _ => {
                return Err(Error::Ranks(format!(
                    "{size} processes need as many GPUs, or --device cpu"
                )));
            }
        };
        Ok(group)
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
        self.gpus.as_ref().unwrap_or(&self.hosts).sum(x, &stream())
    }

    /// The sums of numbers that the hosts have, wherever the model computes: what is queued there is not waited for.
    ///
    /// # Errors
    /// What MLX says.
    pub fn sum_words(&self, words: &[i32]) -> Result<Vec<i32>> {
        let hosts = Stream::try_default_on_device(&mlx_rs::Device::cpu())?;
        let words = Array::from_slice(words, &[words.len() as i32]);
        let sums = self.hosts.sum(&words, &hosts)?;
        sums.to_vec_exact()
            .map_err(|error| Error::Mlx(error.to_string()))
    }
}

impl Handle {
    fn join(backend: &CStr) -> Result<Self> {
        // SAFETY: makes an empty handle.
        let mut handle = Self(unsafe { mlx_sys::mlx_distributed_group_new() });
        // SAFETY: writes one handle; the name is a C string.
        let status =
            unsafe { mlx_sys::mlx_distributed_init(&raw mut handle.0, true, backend.as_ptr()) };
        check(status).map(|()| handle)
    }

    fn sum(&self, x: &Array, stream: &Stream) -> Result<Array> {
        // SAFETY: all handles are valid.
        array(|out| unsafe {
            mlx_sys::mlx_distributed_all_sum(out, x.as_ptr(), self.0, stream.as_ptr())
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours. Freeing cannot fail in a way that we could act on.
        unsafe { mlx_sys::mlx_distributed_group_free(self.0) };
    }
}
