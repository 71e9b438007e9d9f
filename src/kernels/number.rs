//! How numbers of the key/value cache are stored: float32 or IEEE half, as bytes of any alignment.

use half::f16;

use super::simd::{Simd, load_some, store_some};

/// How a cache stores its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheNumber {
    /// float32, four bytes.
    F32,
    /// IEEE half, two bytes; from 65520 on it is infinite.
    F16,
}

impl CacheNumber {
    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A [`CacheNumber`] that the compiler knows.
pub(super) trait Number: Copy + 'static {
    const BYTES: usize;

    /// Eight numbers.
    ///
    /// # Safety
    /// The pointer is valid for eight.
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats;

    /// The first `count` of eight numbers, at least 1; the rest are 0.
    ///
    /// # Safety
    /// The pointer is valid for `count`.
    unsafe fn load_some<S: Simd>(from: *const u8, count: usize) -> S::Floats;

    /// Stores the first `count` of eight numbers.
    ///
    /// # Safety
    /// The pointer is valid for `count`.
    unsafe fn store_some<S: Simd>(to: *mut u8, value: S::Floats, count: usize);
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Single;

impl Number for Single {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_some<S: Simd>(from: *const u8, count: usize) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { load_some::<S>(from.cast(), count) }
    }

    #[inline(always)]
    unsafe fn store_some<S: Simd>(to: *mut u8, value: S::Floats, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { store_some::<S>(to.cast(), value, count) }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Half;

impl Number for Half {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_half(from) }
    }

    #[inline(always)]
    unsafe fn load_some<S: Simd>(from: *const u8, count: usize) -> S::Floats {
        // SAFETY: the caller's promise; the buffer holds eight.
        unsafe {
            if count >= 8 {
                return S::load_half(from);
            }
            let mut eight = [f16::ZERO; 8];
            std::ptr::copy_nonoverlapping(from, eight.as_mut_ptr().cast(), 2 * count);
            S::load_half(eight.as_ptr().cast())
        }
    }

    #[inline(always)]
    unsafe fn store_some<S: Simd>(to: *mut u8, value: S::Floats, count: usize) {
        // SAFETY: the caller's promise; the buffer holds eight.
        unsafe {
            if count >= 8 {
                return S::store_half(to, value);
            }
            let mut eight = [f16::ZERO; 8];
            S::store_half(eight.as_mut_ptr().cast(), value);
            std::ptr::copy_nonoverlapping(eight.as_ptr().cast(), to, 2 * count);
        }
    }
}
