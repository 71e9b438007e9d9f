//! Bytes of tensors where they lie, and the floats in them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use super::simd::Simd;

/// Whoever owns the bytes that a [`Part`] lies in.
pub type Storage = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Bytes of a tensor, of any alignment.
#[derive(Clone)]
pub struct Part {
    /// Keeps the bytes.
    storage: Storage,
    bytes: *const [u8],
}

// SAFETY: the bytes belong to the storage, which may be shared between threads, and never change.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Part {
    /// The bytes `range` of `storage`; `None` where it has fewer.
    pub fn new(storage: Storage, range: Range<usize>) -> Option<Self> {
        let bytes: *const [u8] = storage.as_ref().as_ref().get(range)?;
        Some(Self { storage, bytes })
    }

    /// Some of the bytes; `None` where there are fewer.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        let bytes: *const [u8] = self.get(range)?;
        Some(Self {
            storage: Arc::clone(&self.storage),
            bytes,
        })
    }

    /// Nothing.
    pub fn empty() -> Self {
        let bytes: &'static [u8] = &[];
        Self {
            storage: Arc::new(bytes),
            bytes,
        }
    }
}

impl std::ops::Deref for Part {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the storage lives as long as `self` and hands out the same bytes always.
        unsafe { &*self.bytes }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// Types of floats in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// IEEE single.
    Float32,
    /// IEEE half.
    Float16,
    /// The upper half of a single.
    Bfloat16,
}

impl Number {
    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 | Self::Bfloat16 => 2,
        }
    }

    /// Reads as many numbers as `out` holds.
    #[inline(always)]
    pub(super) fn read<S: Simd>(self, bytes: &[u8], out: &mut [f32]) {
        let (eights, rest) = out.as_chunks_mut::<8>();
        let (whole, tail) = bytes.split_at(8 * self.size() * eights.len());
        // SAFETY: `whole` holds as many numbers as `eights`.
        unsafe {
            match self {
                Self::Float32 => read_eights::<S, Single>(whole, eights),
                Self::Float16 => read_eights::<S, Half>(whole, eights),
                Self::Bfloat16 => read_eights::<S, Bfloat>(whole, eights),
            }
        }
        for (out, bytes) in rest.iter_mut().zip(tail.chunks_exact(self.size())) {
            *out = self.one(bytes);
        }
    }

    /// All numbers of some bytes.
    pub fn floats(self, bytes: &[u8]) -> Vec<f32> {
        let numbers = bytes.chunks_exact(self.size());
        numbers.map(|one| self.one(one)).collect()
    }

    pub(super) fn one(self, bytes: &[u8]) -> f32 {
        match *bytes {
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
            [a, b] if self == Self::Float16 => f16::from_le_bytes([a, b]).to_f32_const(),
            [a, b] => bf16::from_le_bytes([a, b]).to_f32(),
            _ => f32::NAN,
        }
    }
}

/// One type of floats, eight at a time.
pub(super) trait Eight {
    /// Bytes of one number.
    const SIZE: usize;

    /// Loads eight.
    ///
    /// # Safety
    /// The pointer is valid for as many.
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats;
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Single;
#[derive(Debug, Clone, Copy)]
pub(super) struct Half;
#[derive(Debug, Clone, Copy)]
pub(super) struct Bfloat;
#[derive(Debug, Clone, Copy)]
pub(super) struct E4m3;

impl Eight for Single {
    const SIZE: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load(from.cast()) }
    }
}

impl Eight for Half {
    const SIZE: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_half(from) }
    }
}

impl Eight for Bfloat {
    const SIZE: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_bfloat(from) }
    }
}

impl Eight for E4m3 {
    const SIZE: usize = 1;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_e4m3(from) }
    }
}

/// # Safety
/// There are as many numbers as floats.
#[inline(always)]
unsafe fn read_eights<S: Simd, E: Eight>(numbers: &[u8], floats: &mut [[f32; 8]]) {
    for (i, floats) in floats.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let eight = E::load::<S>(numbers.as_ptr().add(8 * E::SIZE * i));
            S::store(floats.as_mut_ptr(), eight);
        }
    }
}
