//! AVX-512 with VNNI: products of bytes are summed in 32 bits by one instruction. Vectors have 256
//! bits, and 512 for products of many rows and for codes of four bits; everything else is as with AVX2.

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::{Kernel, Lanes, Simd};

/// Runs a kernel with AVX-512.
///
/// # Safety
/// The processor has AVX2, FMA, F16C and AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512;

/// Functions that AVX2 does as well.
macro_rules! as_avx2 {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            fn $name($($argument: $type),*) -> $result {
                Avx2::$name($($argument),*)
            }
        )*
    };
}

/// The same for those that take pointers.
macro_rules! as_avx2_unsafe {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($argument: $type),*) -> $result {
                // SAFETY: the caller's promise.
                unsafe { Avx2::$name($($argument),*) }
            }
        )*
    };
}

/// Sixteen lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512Sixteen;

impl Lanes for Avx512 {
    const LANES: usize = 8;
    type Floats = __m256;
    type Integers = __m256i;
    type Bytes = __m256i;
    /// Eight sums of four products each.
    type Sums = __m256i;

    const WIDE_OFFSET: u8 = 0;
    const SUMS_LIMIT: usize = i32::MAX as usize;

    as_avx2! {
        splat(value: f32) -> __m256;
        add(a: __m256, b: __m256) -> __m256;
        sub(a: __m256, b: __m256) -> __m256;
        mul(a: __m256, b: __m256) -> __m256;
        fma(a: __m256, b: __m256, c: __m256) -> __m256;
        max(a: __m256, b: __m256) -> __m256;
        min(a: __m256, b: __m256) -> __m256;
        round(a: __m256) -> __m256i;
        to_floats(a: __m256i) -> __m256;
        zero_integers() -> __m256i;
        add_integers(a: __m256i, b: __m256i) -> __m256i;
        zero_sums() -> __m256i;
        low_nibbles(a: __m256i) -> __m256i;
        high_nibbles(a: __m256i) -> __m256i;
        look_up(table: &[u8; 16], a: __m256i) -> __m256i;
        unsigned_bytes(a: __m256i) -> [__m256; 4];
        bfloat_pairs(low: __m256, high: __m256) -> __m256i;
        bfloat_rest(a: __m256) -> __m256;
        scale_by_power(a: __m256, n: __m256i) -> __m256;
    }

    as_avx2_unsafe! {
        load(from: *const f32) -> __m256;
        store(to: *mut f32, value: __m256) -> ();
        load_bytes(from: *const u8) -> __m256i;
        splat_word(from: *const i8) -> __m256i;
        store_bytes(to: *mut u8, value: __m256i) -> ();
    }

    #[inline(always)]
    unsafe fn group_scales<const GROUP: usize>(from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { Avx2::group_scales::<GROUP>(from) }
    }

    #[inline(always)]
    fn dot(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: called from `run` alone, where the instructions are there.
        unsafe { _mm256_dpbusd_epi32(sums, codes, x) }
    }

    #[inline(always)]
    fn finish(sums: __m256i) -> __m256i {
        sums
    }

    #[inline(always)]
    fn dot_wide(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_dpbusd_epi32(sums, codes, x) }
    }

    #[inline(always)]
    fn scaled(sums: __m256i, factors: __m256i) -> __m256 {
        // SAFETY: as above.
        Self::mul(Self::to_floats(sums), unsafe {
            _mm256_castsi256_ps(factors)
        })
    }
}

// SAFETY (all blocks): the functions are called from `run` alone, where the instructions are there;
// pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Lanes for Avx512Sixteen {
    const LANES: usize = 16;
    type Floats = __m512;
    type Integers = __m512i;
    type Bytes = __m512i;
    /// Sixteen sums of four products each.
    type Sums = __m512i;

    const WIDE_OFFSET: u8 = 0;
    const SUMS_LIMIT: usize = i32::MAX as usize;

    #[inline(always)]
    fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn round(a: __m512) -> __m512i {
        unsafe { _mm512_cvtps_epi32(a) }
    }

    #[inline(always)]
    fn to_floats(a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }

    #[inline(always)]
    fn zero_integers() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn add_integers(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat_word(from: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn low_nibbles(a: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(a: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(a), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn look_up(table: &[u8; 16], a: __m512i) -> __m512i {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, a)
        }
    }

    #[inline(always)]
    unsafe fn group_scales<const GROUP: usize>(from: *const f32) -> __m512 {
        unsafe {
            match GROUP {
                16 => {
                    let places = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
                    let eight = _mm512_castps256_ps512(_mm256_loadu_ps(from));
                    _mm512_permutexvar_ps(places, eight)
                }
                32 => {
                    let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
                    _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(from)), places)
                }
                64 => {
                    let places = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
                    let both = from.cast::<f64>().read_unaligned();
                    _mm512_permutevar_ps(_mm512_castpd_ps(_mm512_set1_pd(both)), places)
                }
                _ => _mm512_set1_ps(*from),
            }
        }
    }

    #[inline(always)]
    fn zero_sums() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn dot(sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, codes, x) }
    }

    #[inline(always)]
    fn finish(sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    fn dot_wide(sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, codes, x) }
    }

    #[inline(always)]
    fn scaled(sums: __m512i, factors: __m512i) -> __m512 {
        Self::mul(Self::to_floats(sums), unsafe {
            _mm512_castsi512_ps(factors)
        })
    }

    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, value: __m512i) {
        unsafe { _mm512_storeu_si512(to.cast(), value) }
    }

    #[inline(always)]
    fn unsigned_bytes(a: __m512i) -> [__m512; 4] {
        unsafe {
            let low = _mm512_set1_epi32(0xff);
            [
                _mm512_cvtepi32_ps(_mm512_and_si512(a, low)),
                _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32::<8>(a), low)),
                _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32::<16>(a), low)),
                _mm512_cvtepi32_ps(_mm512_srli_epi32::<24>(a)),
            ]
        }
    }

    #[inline(always)]
    fn scale_by_power(a: __m512, n: __m512i) -> __m512 {
        unsafe {
            let bits = _mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127)));
            _mm512_mul_ps(a, _mm512_castsi512_ps(bits))
        }
    }

    #[inline(always)]
    fn bfloat_pairs(low: __m512, high: __m512) -> __m512i {
        unsafe {
            let low = _mm512_srli_epi32::<16>(rounded(low));
            _mm512_mask_mov_epi16(low, 0xaaaa_aaaa, rounded(high))
        }
    }

    #[inline(always)]
    fn bfloat_rest(a: __m512) -> __m512 {
        unsafe {
            let kept = _mm512_and_si512(rounded(a), _mm512_set1_epi32(!0xffff));
            _mm512_sub_ps(a, _mm512_castsi512_ps(kept))
        }
    }
}

impl Simd for Avx512 {
    type Widest = Avx512Sixteen;
    const REGISTERS: usize = 32;

    // Measured on Zen 4: 28 GB/s with two threads, 20 without looking ahead.
    const AHEAD: usize = 2048;

    #[inline(always)]
    fn widened(a: __m256) -> __m512 {
        // SAFETY: called from `run` alone, where the instructions are there.
        unsafe { _mm512_zextps256_ps512(a) }
    }

    #[inline(always)]
    fn folded(a: __m512) -> __m256 {
        // SAFETY: as above.
        let [low, high] = unsafe {
            let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a));
            [_mm512_castps512_ps256(a), _mm256_castpd_ps(high)]
        };
        Self::add(low, high)
    }

    as_avx2! {
        div(a: __m256, b: __m256) -> __m256;
        abs(a: __m256) -> __m256;
        sum(a: __m256) -> f32;
        largest(a: __m256) -> f32;
        sum4(a: [__m256; 4]) -> [f32; 4];
        transpose_floats(rows: [__m256; 8]) -> [__m256; 8];
        splat_integer(value: i32) -> __m256i;
        pack(from: [__m256i; 4]) -> __m256i;
        spread(low: u32, high: u32, shifts: &[i32; 8], mask: i32) -> __m256i;
        deinterleave(a: __m256i, b: __m256i) -> [__m256i; 2];
        transpose(rows: [__m256i; 8]) -> [__m256i; 8];
        pack_pairs(low: __m256i, high: __m256i) -> __m256i;
        pair_floats(a: __m256i) -> [__m256; 2];
        prefetch(at: *const u8) -> ();
        prefetch_far(at: *const u8) -> ();
    }

    as_avx2_unsafe! {
        load_half(from: *const u8) -> __m256;
        store_half(to: *mut u8, value: __m256) -> ();
        load_bfloat(from: *const u8) -> __m256;
        load_e4m3(from: *const u8) -> __m256;
        load_codes(from: *const u8) -> __m256;
        load_pairs(from: *const u8) -> __m256i;
    }

    #[inline(always)]
    fn wide(a: __m256i) -> __m256i {
        a
    }

    #[inline(always)]
    fn products_wide(codes: __m256i, x: __m256i) -> __m256i {
        Self::dot_wide(Self::zero_sums(), codes, x)
    }

    #[inline(always)]
    fn factor(value: u16) -> [u8; 4] {
        f32::from(value).to_le_bytes()
    }

    #[inline(always)]
    fn dot_pairs(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: called from `run` alone, where the instructions are there.
        unsafe { _mm256_dpwssd_epi32(sums, a, b) }
    }
}

/// Rounded to bfloat16 once the lower half of the bits is cut off: what is cut off is added by half, but to what is no
/// number.
#[inline(always)]
fn rounded(a: __m512) -> __m512i {
    // SAFETY: called from `run` alone, where the instructions are there.
    unsafe {
        let (bits, half) = (_mm512_castps_si512(a), _mm512_set1_epi32(0x8000));
        _mm512_mask_add_epi32(bits, _mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), bits, half)
    }
}
