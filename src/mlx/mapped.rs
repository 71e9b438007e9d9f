//! Arrays over bytes that stay where they are: a memory-mapped file, or data in the program.

use std::ffi::c_void;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use mlx_rs::{Array, Dtype};

use super::call;
use crate::error::{Error, Result};

/// A read-only mapped file, or memory that lies as one does.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
    /// There is a file behind it.
    of_file: bool,
}

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        // SAFETY: as with every mapped model file, another process that truncates it while it is
        // used can end this one; nothing is ever written through the mapping.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
        Ok(Self { map, of_file: true })
    }

    /// As [`Bytes::release`].
    fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if self.of_file && range.start < range.end && range.end <= self.map.len() {
            // SAFETY: the mapping is of a file that is never written through it: what is dropped is read again.
            drop(unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.end - range.start,
                )
            });
        }
        #[cfg(not(unix))]
        drop(range);
    }

    /// Memory that lies as a mapped file does, in small pages whatever the allocator does, and holds what
    /// `fill` writes.
    ///
    /// # Errors
    /// [`Error::Mlx`] where the system has no such memory.
    pub fn made(length: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self> {
        let SystemMemory(mut map) = SystemMemory::new(length)?;
        #[cfg(target_os = "linux")]
        // What the kernel refuses here it does not do anyway.
        drop(map.advise(memmap2::Advice::NoHugePage));
        fill(&mut map);
        let of_file = false;
        let map = map.make_read_only();
        map.map(|map| Self { map, of_file })
            .map_err(|error| Error::Mlx(format!("memory cannot be made read-only: {error}")))
    }
}

/// Zeroed memory straight from the system, in whole pages of its own: nothing is lost to an allocator's size
/// classes, and it is given back at once.
#[derive(Debug)]
pub struct SystemMemory(memmap2::MmapMut);

impl SystemMemory {
    /// So many bytes, which are not 0.
    ///
    /// # Errors
    /// [`Error::Mlx`] where the system has none.
    pub fn new(bytes: usize) -> Result<Self> {
        let refused = |error| Error::Mlx(format!("no memory for {bytes} bytes: {error}"));
        memmap2::MmapMut::map_anon(bytes).map(Self).map_err(refused)
    }
}

impl std::ops::Deref for SystemMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for SystemMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Bytes that arrays may lie over: each array keeps them alive.
#[derive(Debug, Clone)]
pub enum Bytes {
    /// A mapped file.
    Mapped(Arc<MappedFile>),
    /// Compiled into the program.
    Static(&'static [u8]),
}

impl Bytes {
    /// Says that some bytes will not be read again soon: they need not stay in memory. A hint.
    pub fn release(&self, range: std::ops::Range<usize>) {
        if let Self::Mapped(file) = self {
            file.release(range);
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => &file.map,
            Self::Static(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// An array over `bytes[range]`, in row-major order. The bytes are not copied where the device
/// computes in the host's memory, the range is aligned for `dtype` and begins after the eighth
/// byte; else they are.
///
/// The bytes may be read-only, and MLX writes results into inputs that nobody else holds: keep the
/// array alive until whatever was computed from it has been evaluated.
///
/// # Errors
/// [`Error::Mlx`] where the range is not that of the shape, or a dimension is out of range.
pub fn array_over(
    bytes: &Bytes,
    range: std::ops::Range<usize>,
    shape: &[usize],
    dtype: Dtype,
) -> Result<Array> {
    let part = bytes
        .get(range)
        .ok_or_else(|| Error::Mlx("a tensor ends past its file".to_owned()))?;
    let dimensions = dimensions(part, shape, dtype)?;
    let item = item_size(dtype);
    let pointer = part.as_ptr().cast_mut().cast::<c_void>();
    // MLX cannot make an array without elements over foreign memory, and its CPU backend reads the
    // eight bytes in front of the data. A library from elsewhere always copies on the CPU.
    let inside = pointer.addr() - bytes.as_ptr().addr() >= size_of::<usize>();
    if part.is_empty() || !inside || !mlx_sys::has_native_parts() || pointer.addr() % item != 0 {
        return super::array_of_bytes(part, shape, dtype);
    }
    let dtype = dtype.into();
    let keep = Box::into_raw(Box::new(bytes.clone())).cast::<c_void>();
    // SAFETY: the data holds exactly the shape's elements, the bytes in front of it belong to the
    // same mapping, and `keep` holds them until `release` drops it.
    call::array(|out| unsafe {
        let (shape, rank) = (dimensions.as_ptr(), dimensions.len());
        mlx_sys::mlxr_array_over(out, pointer, shape, rank, dtype, keep, release)
    })
}

/// The dimensions of an array that has these bytes.
pub(super) fn dimensions(bytes: &[u8], shape: &[usize], dtype: Dtype) -> Result<Vec<i32>> {
    let item = item_size(dtype);
    let size = shape
        .iter()
        .try_fold(item, |size, &dimension| size.checked_mul(dimension));
    if size != Some(bytes.len()) {
        return Err(Error::Mlx(format!(
            "{} bytes are not {shape:?} elements of {item} bytes",
            bytes.len()
        )));
    }
    let dimensions = shape.iter().map(|&dimension| i32::try_from(dimension));
    dimensions
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Mlx(format!("the shape {shape:?} is out of range")))
}

unsafe extern "C" fn release(keep: *mut c_void) {
    // SAFETY: the pointer is the box that `array_over` leaked, and MLX calls this once.
    drop(unsafe { Box::from_raw(keep.cast::<Bytes>()) });
}

/// Bytes of one number.
pub fn item_size(dtype: Dtype) -> usize {
    // SAFETY: takes a number, returns a number.
    unsafe { mlx_sys::mlx_dtype_size(dtype.into()) }
}
