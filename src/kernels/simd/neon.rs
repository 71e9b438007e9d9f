//! NEON with products of bytes summed in 32 bits (`dotprod`): two vectors of 128 bits make one.
//!
//! Conversions of half floats, sums of products and prefetching are written in assembly: their
//! intrinsics are not stable.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Kernel, Lanes, Simd};

/// Runs a kernel with NEON.
///
/// # Safety
/// The processor has `dotprod`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Neon;

/// Applies an instruction to both halves of each argument.
macro_rules! both {
    ($vector:ident, $instruction:path, $($argument:expr),+) => {
        $vector(
            $instruction($($argument.0),+),
            $instruction($($argument.1),+),
        )
    };
}

// SAFETY (all blocks of this file): the functions are called from `run` alone, where the
// instructions are there; pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Lanes for Neon {
    const LANES: usize = 8;
    type Floats = float32x4x2_t;
    type Integers = int32x4x2_t;
    type Bytes = uint8x16x2_t;
    /// Eight sums of four products each.
    type Sums = int32x4x2_t;
    const WIDE_OFFSET: u8 = 128;
    const SUMS_LIMIT: usize = i32::MAX as usize;

    #[inline(always)]
    fn splat(value: f32) -> float32x4x2_t {
        unsafe { float32x4x2_t(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4x2_t {
        unsafe { vld1q_f32_x2(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: float32x4x2_t) {
        unsafe { vst1q_f32_x2(to, value) }
    }

    #[inline(always)]
    fn add(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vaddq_f32, a, b) }
    }

    #[inline(always)]
    fn sub(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vsubq_f32, a, b) }
    }

    #[inline(always)]
    fn mul(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vmulq_f32, a, b) }
    }

    #[inline(always)]
    fn fma(a: float32x4x2_t, b: float32x4x2_t, c: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vfmaq_f32, c, a, b) }
    }

    #[inline(always)]
    fn max(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vmaxq_f32, a, b) }
    }

    #[inline(always)]
    fn min(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vminq_f32, a, b) }
    }

    #[inline(always)]
    fn round(a: float32x4x2_t) -> int32x4x2_t {
        unsafe { both!(int32x4x2_t, vcvtnq_s32_f32, a) }
    }

    #[inline(always)]
    fn to_floats(a: int32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vcvtq_f32_s32, a) }
    }

    #[inline(always)]
    fn zero_integers() -> int32x4x2_t {
        unsafe { int32x4x2_t(vdupq_n_s32(0), vdupq_n_s32(0)) }
    }

    #[inline(always)]
    fn add_integers(a: int32x4x2_t, b: int32x4x2_t) -> int32x4x2_t {
        unsafe { both!(int32x4x2_t, vaddq_s32, a, b) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> uint8x16x2_t {
        unsafe { vld1q_u8_x2(from) }
    }

    #[inline(always)]
    unsafe fn splat_word(from: *const i8) -> uint8x16x2_t {
        unsafe {
            let word = vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned()));
            uint8x16x2_t(word, word)
        }
    }

    #[inline(always)]
    fn low_nibbles(a: uint8x16x2_t) -> uint8x16x2_t {
        unsafe {
            let mask = vdupq_n_u8(15);
            uint8x16x2_t(vandq_u8(a.0, mask), vandq_u8(a.1, mask))
        }
    }

    #[inline(always)]
    fn high_nibbles(a: uint8x16x2_t) -> uint8x16x2_t {
        unsafe { both!(uint8x16x2_t, vshrq_n_u8::<4>, a) }
    }

    #[inline(always)]
    fn look_up(table: &[u8; 16], a: uint8x16x2_t) -> uint8x16x2_t {
        unsafe {
            let table = vld1q_u8(table.as_ptr());
            uint8x16x2_t(vqtbl1q_u8(table, a.0), vqtbl1q_u8(table, a.1))
        }
    }

    #[inline(always)]
    unsafe fn group_scales<const GROUP: usize>(from: *const f32) -> float32x4x2_t {
        unsafe {
            match GROUP {
                16 => {
                    let four = vld1q_f32(from);
                    float32x4x2_t(vzip1q_f32(four, four), vzip2q_f32(four, four))
                }
                32 => float32x4x2_t(vdupq_n_f32(*from), vdupq_n_f32(*from.add(1))),
                _ => Self::splat(*from),
            }
        }
    }

    #[inline(always)]
    fn zero_sums() -> int32x4x2_t {
        Self::zero_integers()
    }

    #[inline(always)]
    fn dot(sums: int32x4x2_t, codes: uint8x16x2_t, x: uint8x16x2_t) -> int32x4x2_t {
        unsafe { both!(int32x4x2_t, sdot, sums, codes, x) }
    }

    #[inline(always)]
    fn finish(sums: int32x4x2_t) -> int32x4x2_t {
        sums
    }

    #[inline(always)]
    fn dot_wide(sums: int32x4x2_t, codes: uint8x16x2_t, x: uint8x16x2_t) -> int32x4x2_t {
        unsafe { both!(int32x4x2_t, sdot, sums, codes, x) }
    }

    #[inline(always)]
    fn scaled(sums: int32x4x2_t, factors: uint8x16x2_t) -> float32x4x2_t {
        let factors = unsafe { both!(float32x4x2_t, vreinterpretq_f32_u8, factors) };
        Self::mul(Self::to_floats(sums), factors)
    }

    #[inline(always)]
    fn unsigned_bytes(a: uint8x16x2_t) -> [float32x4x2_t; 4] {
        /// Byte 3 of each word, after a shift to the left by `LEFT`.
        #[inline(always)]
        fn highest<const LEFT: i32>(a: uint8x16_t) -> float32x4_t {
            unsafe {
                let shifted = vshlq_n_u32::<LEFT>(vreinterpretq_u32_u8(a));
                vcvtq_f32_u32(vshrq_n_u32::<24>(shifted))
            }
        }
        [
            float32x4x2_t(highest::<24>(a.0), highest::<24>(a.1)),
            float32x4x2_t(highest::<16>(a.0), highest::<16>(a.1)),
            float32x4x2_t(highest::<8>(a.0), highest::<8>(a.1)),
            float32x4x2_t(highest::<0>(a.0), highest::<0>(a.1)),
        ]
    }

    #[inline(always)]
    fn bfloat_pairs(low: float32x4x2_t, high: float32x4x2_t) -> uint8x16x2_t {
        unsafe {
            let first = vsriq_n_u32::<16>(rounded(high.0), rounded(low.0));
            let last = vsriq_n_u32::<16>(rounded(high.1), rounded(low.1));
            uint8x16x2_t(vreinterpretq_u8_u32(first), vreinterpretq_u8_u32(last))
        }
    }

    #[inline(always)]
    fn bfloat_rest(a: float32x4x2_t) -> float32x4x2_t {
        unsafe {
            let cut = vdupq_n_u32(0xffff_0000);
            let first = vreinterpretq_f32_u32(vandq_u32(rounded(a.0), cut));
            let last = vreinterpretq_f32_u32(vandq_u32(rounded(a.1), cut));
            Self::sub(a, float32x4x2_t(first, last))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, value: uint8x16x2_t) {
        unsafe { vst1q_u8_x2(to, value) }
    }

    #[inline(always)]
    fn scale_by_power(a: float32x4x2_t, n: int32x4x2_t) -> float32x4x2_t {
        unsafe {
            let bias = vdupq_n_s32(127);
            let biased = Self::add_integers(n, int32x4x2_t(bias, bias));
            let bits = both!(int32x4x2_t, vshlq_n_s32::<23>, biased);
            Self::mul(a, both!(float32x4x2_t, vreinterpretq_f32_s32, bits))
        }
    }
}

// SAFETY (all blocks of this file): the functions are called from `run` alone, where the
// instructions are there; pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Simd for Neon {
    type Widest = Self;
    const REGISTERS: usize = 16;
    const AHEAD: usize = 2048;

    #[inline(always)]
    fn widened(a: float32x4x2_t) -> float32x4x2_t {
        a
    }

    #[inline(always)]
    fn folded(a: float32x4x2_t) -> float32x4x2_t {
        a
    }

    #[inline(always)]
    unsafe fn load_half(from: *const u8) -> float32x4x2_t {
        unsafe { from_halves(vreinterpretq_u16_u8(vld1q_u8(from))) }
    }

    #[inline(always)]
    unsafe fn store_half(to: *mut u8, value: float32x4x2_t) {
        unsafe {
            let mut halves: uint8x16_t;
            asm!(
                "fcvtn {halves:v}.4h, {low:v}.4s",
                "fcvtn2 {halves:v}.8h, {high:v}.4s",
                halves = out(vreg) halves,
                low = in(vreg) value.0,
                high = in(vreg) value.1,
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1q_u8(to, halves);
        }
    }

    #[inline(always)]
    unsafe fn load_bfloat(from: *const u8) -> float32x4x2_t {
        unsafe {
            let words = vreinterpretq_u16_u8(vld1q_u8(from));
            let low = vshll_n_u16::<16>(vget_low_u16(words));
            let high = vshll_high_n_u16::<16>(words);
            float32x4x2_t(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high))
        }
    }

    #[inline(always)]
    unsafe fn load_e4m3(from: *const u8) -> float32x4x2_t {
        unsafe {
            // With its bits shifted into a half float, E4M3 stands for 2^-8 of its value, subnormal
            // numbers included.
            let words = vmovl_u8(vld1_u8(from));
            let sign = vshlq_n_u16::<8>(vandq_u16(words, vdupq_n_u16(0x80)));
            let rest = vshlq_n_u16::<7>(vandq_u16(words, vdupq_n_u16(0x7f)));
            let half = from_halves(vorrq_u16(sign, rest));
            Self::mul(half, Self::splat(256.0))
        }
    }

    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> float32x4x2_t {
        unsafe {
            let words = vmovl_u8(vld1_u8(from));
            let low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)));
            float32x4x2_t(low, vcvtq_f32_u32(vmovl_high_u16(words)))
        }
    }

    #[inline(always)]
    fn div(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vdivq_f32, a, b) }
    }

    #[inline(always)]
    fn abs(a: float32x4x2_t) -> float32x4x2_t {
        unsafe { both!(float32x4x2_t, vabsq_f32, a) }
    }

    #[inline(always)]
    fn sum(a: float32x4x2_t) -> f32 {
        unsafe { vaddvq_f32(vaddq_f32(a.0, a.1)) }
    }

    #[inline(always)]
    fn largest(a: float32x4x2_t) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(a.0, a.1)) }
    }

    #[inline(always)]
    fn sum4(a: [float32x4x2_t; 4]) -> [f32; 4] {
        unsafe {
            let [a, b, c, d] = a;
            let two = vpaddq_f32(vaddq_f32(a.0, a.1), vaddq_f32(b.0, b.1));
            let other = vpaddq_f32(vaddq_f32(c.0, c.1), vaddq_f32(d.0, d.1));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), vpaddq_f32(two, other));
            out
        }
    }

    #[inline(always)]
    fn transpose_floats(rows: [float32x4x2_t; 8]) -> [float32x4x2_t; 8] {
        unsafe {
            let mut bytes = [uint8x16x2_t(vdupq_n_u8(0), vdupq_n_u8(0)); 8];
            for (bytes, row) in bytes.iter_mut().zip(rows) {
                *bytes = both!(uint8x16x2_t, vreinterpretq_u8_f32, row);
            }
            let mut columns = rows;
            for (column, bytes) in columns.iter_mut().zip(Self::transpose(bytes)) {
                *column = both!(float32x4x2_t, vreinterpretq_f32_u8, bytes);
            }
            columns
        }
    }

    #[inline(always)]
    fn splat_integer(value: i32) -> int32x4x2_t {
        let four = unsafe { vdupq_n_s32(value) };
        int32x4x2_t(four, four)
    }

    #[inline(always)]
    fn pack(from: [int32x4x2_t; 4]) -> uint8x16x2_t {
        unsafe {
            let [a, b, c, d] = from;
            let (a, b) = (
                vmovn_high_s32(vmovn_s32(a.0), a.1),
                vmovn_high_s32(vmovn_s32(b.0), b.1),
            );
            let (c, d) = (
                vmovn_high_s32(vmovn_s32(c.0), c.1),
                vmovn_high_s32(vmovn_s32(d.0), d.1),
            );
            uint8x16x2_t(
                vreinterpretq_u8_s8(vmovn_high_s16(vmovn_s16(a), b)),
                vreinterpretq_u8_s8(vmovn_high_s16(vmovn_s16(c), d)),
            )
        }
    }

    #[inline(always)]
    fn spread(low: u32, high: u32, shifts: &[i32; 8], mask: i32) -> int32x4x2_t {
        unsafe {
            // To the left by a negative count is to the right.
            let counts = both!(int32x4x2_t, vnegq_s32, vld1q_s32_x2(shifts.as_ptr()));
            let low = vshlq_u32(vdupq_n_u32(low), counts.0);
            let high = vshlq_u32(vdupq_n_u32(high), counts.1);
            let mask = vdupq_n_s32(mask);
            int32x4x2_t(
                vandq_s32(vreinterpretq_s32_u32(low), mask),
                vandq_s32(vreinterpretq_s32_u32(high), mask),
            )
        }
    }

    #[inline(always)]
    fn deinterleave(a: uint8x16x2_t, b: uint8x16x2_t) -> [uint8x16x2_t; 2] {
        unsafe {
            [
                uint8x16x2_t(vuzp1q_u8(a.0, a.1), vuzp1q_u8(b.0, b.1)),
                uint8x16x2_t(vuzp2q_u8(a.0, a.1), vuzp2q_u8(b.0, b.1)),
            ]
        }
    }

    #[inline(always)]
    fn wide(a: uint8x16x2_t) -> uint8x16x2_t {
        unsafe {
            let sign = vdupq_n_u8(128);
            uint8x16x2_t(veorq_u8(a.0, sign), veorq_u8(a.1, sign))
        }
    }

    #[inline(always)]
    fn products_wide(codes: uint8x16x2_t, x: uint8x16x2_t) -> int32x4x2_t {
        Self::dot_wide(Self::zero_sums(), codes, x)
    }

    #[inline(always)]
    fn factor(value: u16) -> [u8; 4] {
        f32::from(value).to_le_bytes()
    }

    #[inline(always)]
    fn transpose(rows: [uint8x16x2_t; 8]) -> [uint8x16x2_t; 8] {
        unsafe {
            let [a, b, c, d, e, f, g, h] = rows;
            let (top, top_right) = (
                transpose_words([a.0, b.0, c.0, d.0]),
                transpose_words([a.1, b.1, c.1, d.1]),
            );
            let (bottom, bottom_right) = (
                transpose_words([e.0, f.0, g.0, h.0]),
                transpose_words([e.1, f.1, g.1, h.1]),
            );
            let mut columns = rows;
            for i in 0..4 {
                columns[i] = uint8x16x2_t(top[i], bottom[i]);
                columns[i + 4] = uint8x16x2_t(top_right[i], bottom_right[i]);
            }
            columns
        }
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const u8) -> uint8x16x2_t {
        unsafe {
            let bytes = vreinterpretq_s8_u8(vld1q_u8(from));
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            uint8x16x2_t(vreinterpretq_u8_s16(low), vreinterpretq_u8_s16(high))
        }
    }

    #[inline(always)]
    fn pack_pairs(low: int32x4x2_t, high: int32x4x2_t) -> uint8x16x2_t {
        unsafe {
            let low = vqmovn_high_s32(vqmovn_s32(low.0), low.1);
            let high = vqmovn_high_s32(vqmovn_s32(high.0), high.1);
            uint8x16x2_t(vreinterpretq_u8_s16(low), vreinterpretq_u8_s16(high))
        }
    }

    #[inline(always)]
    fn dot_pairs(sums: int32x4x2_t, a: uint8x16x2_t, b: uint8x16x2_t) -> int32x4x2_t {
        unsafe { both!(int32x4x2_t, dot_pairs, sums, a, b) }
    }

    #[inline(always)]
    fn pair_floats(a: uint8x16x2_t) -> [float32x4x2_t; 2] {
        unsafe {
            let words = int32x4x2_t(vreinterpretq_s32_u8(a.0), vreinterpretq_s32_u8(a.1));
            let first = int32x4x2_t(
                vshrq_n_s32::<16>(vshlq_n_s32::<16>(words.0)),
                vshrq_n_s32::<16>(vshlq_n_s32::<16>(words.1)),
            );
            let second = int32x4x2_t(vshrq_n_s32::<16>(words.0), vshrq_n_s32::<16>(words.1));
            [Self::to_floats(first), Self::to_floats(second)]
        }
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        unsafe {
            asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn prefetch_far(at: *const u8) {
        Self::prefetch(at);
    }
}

/// Eight half floats.
#[inline]
#[target_feature(enable = "neon")]
fn from_halves(halves: uint16x8_t) -> float32x4x2_t {
    let (low, high);
    // SAFETY: instructions of every processor with NEON.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            halves = in(vreg) halves,
            low = out(vreg) low,
            high = out(vreg) high,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    float32x4x2_t(low, high)
}

/// Adds the products of four signed bytes each to each of four sums.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(sums: int32x4_t, a: uint8x16_t, b: uint8x16_t) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: the instruction is there, as said above.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds the products of two numbers of 16 bits each to each of four sums.
#[inline]
#[target_feature(enable = "neon")]
fn dot_pairs(sums: int32x4_t, a: uint8x16_t, b: uint8x16_t) -> int32x4_t {
    let (a, b) = (vreinterpretq_s16_u8(a), vreinterpretq_s16_u8(b));
    let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
    vaddq_s32(sums, vpaddq_s32(low, vmull_high_s16(a, b)))
}

/// Four rows of four words, transposed.
#[inline]
#[target_feature(enable = "neon")]
fn transpose_words(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let [a, b, c, d] = rows;
    let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
    let (c, d) = (vreinterpretq_u32_u8(c), vreinterpretq_u32_u8(d));
    let (even, odd) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
    let (even_below, odd_below) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
    let (even, odd) = (vreinterpretq_u64_u32(even), vreinterpretq_u64_u32(odd));
    let (even_below, odd_below) = (
        vreinterpretq_u64_u32(even_below),
        vreinterpretq_u64_u32(odd_below),
    );
    [
        vreinterpretq_u8_u64(vtrn1q_u64(even, even_below)),
        vreinterpretq_u8_u64(vtrn1q_u64(odd, odd_below)),
        vreinterpretq_u8_u64(vtrn2q_u64(even, even_below)),
        vreinterpretq_u8_u64(vtrn2q_u64(odd, odd_below)),
    ]
}

/// Rounded to bfloat16 once the lower half of the bits is cut off: what is cut off is added by half, but to what is no
/// number.
#[inline(always)]
fn rounded(a: float32x4_t) -> uint32x4_t {
    // SAFETY: called from `run` alone, where the instructions are there.
    unsafe {
        let half = vandq_u32(vceqq_f32(a, a), vdupq_n_u32(0x8000));
        vaddq_u32(vreinterpretq_u32_f32(a), half)
    }
}
