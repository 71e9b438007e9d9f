//! Vectors of eight lanes over the instruction sets of this processor: one trait, one file each.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod chosen;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::OnceLock;

#[cfg(test)]
pub(super) use chosen::{each, inherited, with_each};
pub(super) use math::{exp, load_some, store_some, sum_of_products};
#[cfg(test)]
pub(super) use portable::Portable;

/// Which vector instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// None: plain loops.
    Portable,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI, in vectors of 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same, and AMX's tiles for products of many tokens.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// NEON with `dotprod`.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Instructions {
    /// The best that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Instructions> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Self::available();
            available.last().copied().unwrap_or(Self::Portable)
        })
    }

    /// All that this processor has, the best last.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                found.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                {
                    found.push(Self::Avx512);
                    if amx::is_there() {
                        found.push(Self::Amx);
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            found.push(Self::Neon);
        }
        found
    }

    /// Whether products of many tokens are made by tiles.
    pub(super) fn has_tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Amx => "AVX-512 VNNI, AMX",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
        })
    }
}

/// A kernel with its arguments. Implementations mark `run` as `#[inline(always)]`: it is compiled
/// into a function that has the instructions of `S` switched on.
pub(super) trait Kernel {
    /// What it gives.
    type Output;

    /// Runs over the vectors `S`.
    fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a kernel with the best instructions there are; in tests, with those of `with_each`.
#[inline]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    run_with(current(), kernel)
}

/// The best instructions there are; in tests, those of `with_each`.
#[inline]
pub(super) fn current() -> Instructions {
    #[cfg(test)]
    return chosen::get();
    #[cfg(not(test))]
    Instructions::best()
}

/// Runs a kernel with chosen instructions, which this processor must have: an element of
/// [`Instructions::available`].
#[inline]
pub(super) fn run_with<K: Kernel>(instructions: Instructions, kernel: K) -> K::Output {
    match instructions {
        Instructions::Portable => kernel.run::<portable::Portable>(),
        // SAFETY: only what was detected is passed here.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => unsafe { avx2::run(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 | Instructions::Amx => unsafe { avx512::run(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Instructions::Neon => unsafe { neon::run(kernel) },
    }
}

/// Lanes of one instruction set: a float, an integer, or four bytes in each.
///
/// Pointers need no alignment. Every function must be called from inside a [`Kernel`] that was
/// started by [`run`] or [`run_with`], which makes sure that the processor has the instructions;
/// those that take pointers also need them valid for the number of elements they name.
pub(super) trait Lanes: Copy + 'static {
    /// How many.
    const LANES: usize;

    /// float32.
    type Floats: Copy;
    /// int32.
    type Integers: Copy;
    /// Four bytes for each lane.
    type Bytes: Copy;
    /// Running sums of products of bytes; lane `i` of the finished sums covers bytes `4i..4i+4`.
    type Sums: Copy;

    /// What is subtracted from the codes of eight bits to make them what [`Lanes::dot_wide`] takes.
    const WIDE_OFFSET: u8;
    /// The largest sum of code × 127 × 2 over all steps that [`Lanes::Sums`] holds before it must be
    /// finished.
    const SUMS_LIMIT: usize;

    fn splat(value: f32) -> Self::Floats;
    unsafe fn load(from: *const f32) -> Self::Floats;
    unsafe fn store(to: *mut f32, value: Self::Floats);

    fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, rounded once.
    fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// NaN where `b` is.
    fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// NaN where `b` is.
    fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// To the nearest integer, ties to even; the value must fit.
    fn round(a: Self::Floats) -> Self::Integers;
    fn to_floats(a: Self::Integers) -> Self::Floats;
    fn zero_integers() -> Self::Integers;
    fn add_integers(a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// `a · 2^n` for n from -126 to 127.
    fn scale_by_power(a: Self::Floats, n: Self::Integers) -> Self::Floats;

    unsafe fn load_bytes(from: *const u8) -> Self::Bytes;
    unsafe fn store_bytes(to: *mut u8, value: Self::Bytes);
    /// The same four bytes in each lane.
    unsafe fn splat_word(from: *const i8) -> Self::Bytes;
    fn low_nibbles(a: Self::Bytes) -> Self::Bytes;
    fn high_nibbles(a: Self::Bytes) -> Self::Bytes;
    /// Each byte, at most 15, replaced by its entry in the table.
    fn look_up(table: &[u8; 16], a: Self::Bytes) -> Self::Bytes;
    /// Scales of groups of 16, 32, 64 or 128 columns, each in the lanes that its group's products are in: eight lanes
    /// have those of 64 columns.
    unsafe fn group_scales<const GROUP: usize>(from: *const f32) -> Self::Floats;

    /// The unsigned bytes of index 0, 1, 2 and 3 in each lane, as floats.
    fn unsigned_bytes(a: Self::Bytes) -> [Self::Floats; 4];
    /// In each lane two numbers as bfloat16, the nearest there is, of two the larger: `low`'s in the lower bits.
    fn bfloat_pairs(low: Self::Floats, high: Self::Floats) -> Self::Bytes;
    /// What is lost of numbers where they are rounded as [`Lanes::bfloat_pairs`] does.
    fn bfloat_rest(a: Self::Floats) -> Self::Floats;

    fn zero_sums() -> Self::Sums;
    /// Adds products of unsigned codes, at most 127, with signed bytes.
    fn dot(sums: Self::Sums, codes: Self::Bytes, x: Self::Bytes) -> Self::Sums;
    fn finish(sums: Self::Sums) -> Self::Integers;
    /// Adds products of wide codes with signed bytes from -127 to 127.
    fn dot_wide(sums: Self::Integers, codes: Self::Bytes, x: Self::Bytes) -> Self::Integers;
    /// The finished sums, each times its lane's factor, of [`Simd::factor`].
    fn scaled(sums: Self::Sums, factors: Self::Bytes) -> Self::Floats;
}

/// Vectors of eight lanes, 32 bytes, and what is done with them beside.
pub(super) trait Simd: Lanes {
    /// The widest lanes that these processors are fastest with, for products of many rows, codes of four bits and what each
    /// lane does by itself; 8 or 16.
    type Widest: Lanes;

    /// Vectors that registers hold.
    const REGISTERS: usize;

    /// How far ahead of the reading memory is asked for, in bytes; 0 where the processor itself looks
    /// far enough ahead.
    const AHEAD: usize;

    /// What [`Simd::dot_unsigned`] subtracts from codes.
    const UNSIGNED_OFFSET: u8 = Self::WIDE_OFFSET;

    /// Eight lanes and, where there are more, zeros.
    fn widened(a: Self::Floats) -> <Self::Widest as Lanes>::Floats;
    /// Where there are sixteen lanes, the sums of the first and the last eight.
    fn folded(a: <Self::Widest as Lanes>::Floats) -> Self::Floats;
    /// Eight IEEE half floats.
    unsafe fn load_half(from: *const u8) -> Self::Floats;
    unsafe fn store_half(to: *mut u8, value: Self::Floats);
    /// Eight bfloat16.
    unsafe fn load_bfloat(from: *const u8) -> Self::Floats;
    /// Eight FP8 numbers of form E4M3.
    unsafe fn load_e4m3(from: *const u8) -> Self::Floats;
    /// Eight unsigned bytes as floats.
    unsafe fn load_codes(from: *const u8) -> Self::Floats;

    fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn abs(a: Self::Floats) -> Self::Floats;
    /// The sum of all lanes.
    fn sum(a: Self::Floats) -> f32;
    /// The largest lane.
    fn largest(a: Self::Floats) -> f32;
    /// The sums of each of four vectors.
    fn sum4(a: [Self::Floats; 4]) -> [f32; 4];

    /// The 8×8 floats of eight vectors, transposed.
    fn transpose_floats(rows: [Self::Floats; 8]) -> [Self::Floats; 8];

    fn splat_integer(value: i32) -> Self::Integers;
    /// The low bytes of 32 lanes, in order; each lane is from -128 to 127.
    fn pack(from: [Self::Integers; 4]) -> Self::Bytes;
    /// Lanes 0 to 3 of `low`, 4 to 7 of `high`, each shifted right by its own count and masked.
    fn spread(low: u32, high: u32, shifts: &[i32; 8], mask: i32) -> Self::Integers;

    /// Of the 64 bytes of two vectors, those of even and those of odd index.
    fn deinterleave(a: Self::Bytes, b: Self::Bytes) -> [Self::Bytes; 2];
    /// Codes of eight bits as [`Lanes::dot_wide`] takes them.
    fn wide(a: Self::Bytes) -> Self::Bytes;
    /// Products of wide codes with signed bytes from -127 to 127; nothing more may be added.
    fn products_wide(codes: Self::Bytes, x: Self::Bytes) -> Self::Sums;
    /// Adds products of codes of all eight bits, each [`Simd::UNSIGNED_OFFSET`] less, with signed bytes:
    /// the sizes of two neighbours, the first at an even index, must add up to at most 128.
    #[inline(always)]
    fn dot_unsigned(sums: Self::Integers, codes: Self::Bytes, x: Self::Bytes) -> Self::Integers {
        Self::dot_wide(sums, Self::wide(codes), x)
    }
    /// A factor, at most 32767, as one lane of what [`Lanes::scaled`] takes.
    fn factor(value: u16) -> [u8; 4];
    /// The 8×8 words of eight vectors, transposed.
    fn transpose(rows: [Self::Bytes; 8]) -> [Self::Bytes; 8];

    /// Sixteen signed bytes as numbers of 16 bits, two in each lane.
    unsafe fn load_pairs(from: *const u8) -> Self::Bytes;
    /// The numbers of two vectors of lanes in order, as 16 bits; each must fit.
    fn pack_pairs(low: Self::Integers, high: Self::Integers) -> Self::Bytes;
    /// Adds to each lane the products of its two numbers of 16 bits.
    fn dot_pairs(sums: Self::Integers, a: Self::Bytes, b: Self::Bytes) -> Self::Integers;
    /// The first and the second numbers of 16 bits of all lanes, as floats.
    fn pair_floats(a: Self::Bytes) -> [Self::Floats; 2];

    /// Asks for the cache line at an address that need not be valid, into the nearest cache.
    fn prefetch(at: *const u8);
    /// The same for what is further ahead: into the second cache where that has room for more requests.
    fn prefetch_far(at: *const u8);
}
