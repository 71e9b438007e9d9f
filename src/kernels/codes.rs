//! The codes of packed weights as vectors of bytes, for products with int8 activations.
//!
//! Codes come in chunks of 64 columns, as two vectors. Formats of four bits give the even and the
//! odd columns of a chunk (that is how nibbles lie in bytes), the others its first and its last 32;
//! activations are laid out in the same order ([`super::activations`]).

use super::simd::{Lanes, Simd};

/// Columns of a chunk.
pub(super) const CHUNK: usize = 64;

/// How the codes of one format become vectors of bytes.
pub(super) trait Codes {
    /// Bytes of a chunk in memory.
    const BYTES: usize;
    /// Even and odd columns, not first and last.
    const SPLIT: bool;
    /// The largest code.
    const LARGEST: usize;
    /// Codes of all eight bits, for [`Lanes::dot_wide`](super::simd::Lanes).
    const WIDE: bool;
    /// What the format's value is, in units of the scale: `code · UNIT + OFFSET`.
    const UNIT: f32 = 1.0;
    /// See [`Codes::UNIT`].
    const OFFSET: f32 = 0.0;
    /// Codes by nibbles, where they are not the same.
    const TABLE: Option<&[u8; 16]> = None;

    /// The chunk at an address.
    ///
    /// # Safety
    /// `from` is valid for [`Codes::BYTES`] bytes.
    unsafe fn chunk<S: Simd>(from: *const u8) -> [S::Bytes; 2];
}

/// Integers of four bits.
pub(super) struct Nibbles;

impl Codes for Nibbles {
    const BYTES: usize = CHUNK / 2;
    const SPLIT: bool = true;
    const LARGEST: usize = 15;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn chunk<S: Simd>(from: *const u8) -> [S::Bytes; 2] {
        // SAFETY: the caller's promise.
        unsafe { nibbles::<S, Self>(from) }
    }
}

/// The codes of as many bytes as are in a vector: those of the low nibbles and those of the high ones.
///
/// # Safety
/// `from` is valid for a vector.
#[inline(always)]
pub(super) unsafe fn nibbles<L: Lanes, C: Codes>(from: *const u8) -> [L::Bytes; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { L::load_bytes(from) };
    let [low, high] = [L::low_nibbles(bytes), L::high_nibbles(bytes)];
    match C::TABLE {
        Some(table) => [L::look_up(table, low), L::look_up(table, high)],
        None => [low, high],
    }
}

/// Floats of four bits (E2M1): twice their value is an integer from -12 to 12.
pub(super) struct Floats4;

impl Codes for Floats4 {
    const BYTES: usize = CHUNK / 2;
    const SPLIT: bool = true;
    const LARGEST: usize = 24;
    const WIDE: bool = false;
    const UNIT: f32 = 0.5;
    const OFFSET: f32 = -6.0;
    /// Twice the value, plus 12.
    const TABLE: Option<&[u8; 16]> =
        Some(&[12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0]);

    #[inline(always)]
    unsafe fn chunk<S: Simd>(from: *const u8) -> [S::Bytes; 2] {
        // SAFETY: the caller's promise.
        unsafe { nibbles::<S, Self>(from) }
    }
}

/// Integers of eight bits, as they are: for the exact products.
pub(super) struct Octets;

impl Codes for Octets {
    const BYTES: usize = CHUNK;
    const SPLIT: bool = false;
    const LARGEST: usize = 255;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn chunk<S: Simd>(from: *const u8) -> [S::Bytes; 2] {
        // SAFETY: the caller's promise.
        unsafe { [S::load_bytes(from), S::load_bytes(from.add(32))] }
    }
}

/// Integers of eight bits, as [`Lanes::dot_wide`](super::simd::Lanes) takes them.
pub(super) struct Wide;

impl Codes for Wide {
    const BYTES: usize = CHUNK;
    const SPLIT: bool = false;
    const LARGEST: usize = 255;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn chunk<S: Simd>(from: *const u8) -> [S::Bytes; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                S::wide(S::load_bytes(from)),
                S::wide(S::load_bytes(from.add(32))),
            ]
        }
    }
}

/// Integers of 2, 3, 5 or 6 bits.
pub(super) struct Bits<const BITS: usize>;

/// Where eight codes lie: bytes at which to read a word for codes 0 to 3 and one for 4 to 7, and how
/// far to shift each code.
#[derive(Clone, Copy)]
struct Windows {
    low: usize,
    high: usize,
    shifts: [i32; 8],
}

impl<const BITS: usize> Bits<BITS> {
    /// The windows of 32 codes. None reaches past the codes' own bytes.
    const WINDOWS: [Windows; 4] = {
        let mut windows = [Windows {
            low: 0,
            high: 0,
            shifts: [0; 8],
        }; 4];
        let mut eight = 0;
        while eight < 4 {
            let (low, high) = if BITS < 4 {
                // Sixteen codes hold one or two words that overlap.
                let at = eight / 2 * 2 * BITS + eight % 2 * (2 * BITS - 4);
                (at, at)
            } else {
                (eight * BITS, eight * BITS + BITS - 4)
            };
            let mut lane = 0;
            while lane < 8 {
                let from = if lane < 4 { low } else { high };
                windows[eight].shifts[lane] = ((8 * eight + lane) * BITS - 8 * from) as i32;
                lane += 1;
            }
            windows[eight].low = low;
            windows[eight].high = high;
            eight += 1;
        }
        windows
    };

    /// # Safety
    /// `from` is valid for `4 · BITS` bytes.
    #[inline(always)]
    unsafe fn half_chunk<S: Simd>(from: *const u8) -> S::Bytes {
        let mut eights = [S::zero_integers(); 4];
        for (eight, windows) in eights.iter_mut().zip(&Self::WINDOWS) {
            // SAFETY: the windows lie within the codes' bytes.
            let (low, high) = unsafe {
                (
                    from.add(windows.low).cast::<u32>().read_unaligned(),
                    from.add(windows.high).cast::<u32>().read_unaligned(),
                )
            };
            *eight = S::spread(low, high, &windows.shifts, (1 << BITS) - 1);
        }
        S::pack(eights)
    }
}

impl<const BITS: usize> Codes for Bits<BITS> {
    const BYTES: usize = CHUNK * BITS / 8;
    const SPLIT: bool = false;
    const LARGEST: usize = (1 << BITS) - 1;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn chunk<S: Simd>(from: *const u8) -> [S::Bytes; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                Self::half_chunk::<S>(from),
                Self::half_chunk::<S>(from.add(4 * BITS)),
            ]
        }
    }
}
