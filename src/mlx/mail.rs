//! Memory on each process's GPU that the kernels of all of them write to.

use std::ffi::{c_char, c_int};
use std::ptr;

use mlx_sys::cuda;

use super::group::Group;
use crate::error::{Error, Result};

/// Opens memory of a GPU that this one reaches, whether or not this process knows it.
const LAZY_PEER_ACCESS: u32 = 1;

/// The driver parts so much, and other processes get the whole of a part.
const UNIT: usize = 2 << 20;

/// Words of a handle.
const WORDS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Mail {
    /// Where each process's memory is for this one, by rank.
    addresses: Vec<u64>,
    rank: usize,
}

impl Mail {
    /// So many bytes of zeros for each process. All must ask for it.
    ///
    /// # Errors
    /// Where a GPU has no room, or cannot reach another one's memory: then on all of them.
    pub fn new(group: &Group, bytes: usize) -> Result<Self> {
        let (rank, size) = (group.rank(), group.size());
        let mut made = Self {
            addresses: vec![0; size],
            rank,
        };
        let own = made.allocate(bytes.next_multiple_of(UNIT));
        agreed(group, own.is_ok())?;
        let mut words = vec![0; size * WORDS];
        for (word, bytes) in words[rank * WORDS..].iter_mut().zip(own?.chunks_exact(4)) {
            *word = i32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[i].cast_unsigned()));
        }
        let handles = group.sum_words(&words)?;
        let opened = made.open_others(&handles);
        agreed(group, opened.is_ok())?;
        opened.map(|()| made)
    }

    /// Where each process's memory is for this process's kernels, by rank.
    pub fn addresses(&self) -> &[u64] {
        &self.addresses
    }

    /// The handle of the process's own.
    fn allocate(&mut self, bytes: usize) -> Result<[c_char; 64]> {
        enter()?;
        let mut address = 0;
        let mut handle = cuda::IpcMemHandle { reserved: [0; 64] };
        // SAFETY: writes one address.
        told(unsafe { cuda::cuMemAlloc_v2(&raw mut address, bytes) })?;
        self.addresses[self.rank] = address;
        // SAFETY: the memory is ours, and so large.
        told(unsafe { cuda::cuMemsetD8_v2(address, 0, bytes) })?;
        // SAFETY: no arguments.
        told(unsafe { cuda::cuCtxSynchronize() })?;
        // SAFETY: writes one handle.
        told(unsafe { cuda::cuIpcGetMemHandle(&raw mut handle, address) })?;
        Ok(handle.reserved)
    }

    fn open_others(&mut self, handles: &[i32]) -> Result<()> {
        for (rank, words) in handles.chunks_exact(WORDS).enumerate() {
            if rank == self.rank {
                continue;
            }
            let mut handle = cuda::IpcMemHandle { reserved: [0; 64] };
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            for (to, byte) in handle.reserved.iter_mut().zip(bytes) {
                *to = c_char::from_ne_bytes([byte]);
            }
            let address = &raw mut self.addresses[rank];
            // SAFETY: writes one address.
            told(unsafe { cuda::cuIpcOpenMemHandle_v2(address, handle, LAZY_PEER_ACCESS) })?;
        }
        Ok(())
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        if enter().is_err() {
            return;
        }
        for (rank, &address) in self.addresses.iter().enumerate() {
            // SAFETY: the memory is ours to close or to free, where there is some. Neither can fail in a way that we
            // could act on.
            unsafe {
                match (address, rank == self.rank) {
                    (0, _) => 0,
                    (_, true) => cuda::cuMemFree_v2(address),
                    (_, false) => cuda::cuIpcCloseMemHandle(address),
                }
            };
        }
    }
}

/// Makes the context of the first GPU, which MLX uses, that of this thread.
fn enter() -> Result<()> {
    let mut context = ptr::null_mut();
    // SAFETY: writes one pointer. It is held as long as the process lives, as MLX holds it.
    told(unsafe { cuda::cuDevicePrimaryCtxRetain(&raw mut context, 0) })?;
    // SAFETY: the context is valid.
    told(unsafe { cuda::cuCtxSetCurrent(context) })
}

/// Fails on all where one has failed.
fn agreed(group: &Group, is_well: bool) -> Result<()> {
    let well = group.sum_words(&[i32::from(is_well)])?;
    if well == [group.size() as i32] {
        return Ok(());
    }
    Err(Error::Mlx(
        "the GPUs do not reach each other's memory".to_owned(),
    ))
}

fn told(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    Err(Error::Mlx(format!("CUDA: status {status}")))
}
