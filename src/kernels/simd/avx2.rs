//! AVX2 with FMA and F16C.

use std::arch::x86_64::*;

use super::{Kernel, Lanes, Simd};

/// Runs a kernel with AVX2.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2;

// SAFETY (all blocks of this file): the functions are called from `run` alone, where the
// instructions are there; pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Lanes for Avx2 {
    const LANES: usize = 8;
    type Floats = __m256;
    type Integers = __m256i;
    type Bytes = __m256i;
    /// Sixteen sums of two products each, in 16 bits.
    type Sums = __m256i;
    const WIDE_OFFSET: u8 = 128;
    const SUMS_LIMIT: usize = i16::MAX as usize;

    #[inline(always)]
    fn splat(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn round(a: __m256) -> __m256i {
        unsafe { _mm256_cvtps_epi32(a) }
    }

    #[inline(always)]
    fn to_floats(a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }

    #[inline(always)]
    fn zero_integers() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn add_integers(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat_word(from: *const i8) -> __m256i {
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn low_nibbles(a: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(a: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(a), _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    fn look_up(table: &[u8; 16], a: __m256i) -> __m256i {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, a)
        }
    }

    #[inline(always)]
    unsafe fn group_scales<const GROUP: usize>(from: *const f32) -> __m256 {
        unsafe {
            match GROUP {
                16 => {
                    let four = _mm256_castps128_ps256(_mm_loadu_ps(from));
                    _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3))
                }
                32 => {
                    let (low, high) = (_mm256_set1_ps(*from), _mm256_set1_ps(*from.add(1)));
                    _mm256_blend_ps::<0xf0>(low, high)
                }
                _ => _mm256_set1_ps(*from),
            }
        }
    }

    #[inline(always)]
    fn zero_sums() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn dot(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, x)) }
    }

    #[inline(always)]
    fn finish(sums: __m256i) -> __m256i {
        unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
    }

    #[inline(always)]
    fn dot_wide(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        unsafe {
            // |code| · (x with the code's sign): at most 128 · 127 · 2, which 16 bits hold.
            let signed = _mm256_sign_epi8(x, codes);
            let products = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), signed);
            _mm256_add_epi32(sums, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    fn scaled(sums: __m256i, factors: __m256i) -> __m256 {
        // Sums of two products are at most 128 · 127 · 2, so this fits into 32 bits.
        unsafe { _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, factors)) }
    }

    #[inline(always)]
    fn unsigned_bytes(a: __m256i) -> [__m256; 4] {
        unsafe {
            let low = _mm256_set1_epi32(0xff);
            [
                _mm256_cvtepi32_ps(_mm256_and_si256(a, low)),
                _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<8>(a), low)),
                _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<16>(a), low)),
                _mm256_cvtepi32_ps(_mm256_srli_epi32::<24>(a)),
            ]
        }
    }

    #[inline(always)]
    fn bfloat_pairs(low: __m256, high: __m256) -> __m256i {
        unsafe {
            let low = _mm256_srli_epi32::<16>(rounded(low));
            _mm256_blend_epi16::<0b1010_1010>(low, rounded(high))
        }
    }

    #[inline(always)]
    fn bfloat_rest(a: __m256) -> __m256 {
        unsafe {
            let kept = _mm256_and_si256(rounded(a), _mm256_set1_epi32(!0xffff));
            _mm256_sub_ps(a, _mm256_castsi256_ps(kept))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, value: __m256i) {
        unsafe { _mm256_storeu_si256(to.cast(), value) }
    }

    #[inline(always)]
    fn scale_by_power(a: __m256, n: __m256i) -> __m256 {
        unsafe {
            let bits = _mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)));
            _mm256_mul_ps(a, _mm256_castsi256_ps(bits))
        }
    }
}

// SAFETY (all blocks of this file): the functions are called from `run` alone, where the
// instructions are there; pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Simd for Avx2 {
    type Widest = Self;
    const REGISTERS: usize = 16;
    // Measured on Zen 3: 22 to 30 GB/s with two threads, 15 with one row at a time.
    const UNSIGNED_OFFSET: u8 = 0;
    const AHEAD: usize = 2048;

    #[inline(always)]
    fn widened(a: __m256) -> __m256 {
        a
    }

    #[inline(always)]
    fn folded(a: __m256) -> __m256 {
        a
    }

    #[inline(always)]
    unsafe fn load_half(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_half(to: *mut u8, value: __m256) {
        unsafe {
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value);
            _mm_storeu_si128(to.cast(), half);
        }
    }

    #[inline(always)]
    unsafe fn load_bfloat(from: *const u8) -> __m256 {
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }

    #[inline(always)]
    unsafe fn load_e4m3(from: *const u8) -> __m256 {
        unsafe {
            // With its bits shifted into a half float, E4M3 stands for 2^-8 of its value, subnormal
            // numbers included.
            let words = _mm_cvtepu8_epi16(_mm_loadl_epi64(from.cast()));
            let sign = _mm_slli_epi16::<8>(_mm_and_si128(words, _mm_set1_epi16(0x80)));
            let rest = _mm_slli_epi16::<7>(_mm_and_si128(words, _mm_set1_epi16(0x7f)));
            let half = _mm256_cvtph_ps(_mm_or_si128(sign, rest));
            _mm256_mul_ps(half, _mm256_set1_ps(256.0))
        }
    }

    #[inline(always)]
    unsafe fn load_codes(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn abs(a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }

    #[inline(always)]
    fn sum(a: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn largest(a: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn sum4(a: [__m256; 4]) -> [f32; 4] {
        unsafe {
            let two = _mm256_hadd_ps(a[0], a[1]);
            let other = _mm256_hadd_ps(a[2], a[3]);
            let four = _mm256_hadd_ps(two, other);
            let sums = _mm_add_ps(
                _mm256_castps256_ps128(four),
                _mm256_extractf128_ps::<1>(four),
            );
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }

    #[inline(always)]
    fn transpose_floats(rows: [__m256; 8]) -> [__m256; 8] {
        unsafe {
            let mut words = [Self::zero_integers(); 8];
            for (word, row) in words.iter_mut().zip(rows) {
                *word = _mm256_castps_si256(row);
            }
            let mut columns = rows;
            for (column, word) in columns.iter_mut().zip(Self::transpose(words)) {
                *column = _mm256_castsi256_ps(word);
            }
            columns
        }
    }

    #[inline(always)]
    fn splat_integer(value: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    fn pack(from: [__m256i; 4]) -> __m256i {
        unsafe {
            let low = _mm256_packs_epi32(from[0], from[1]);
            let high = _mm256_packs_epi32(from[2], from[3]);
            let bytes = _mm256_packs_epi16(low, high);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_permutevar8x32_epi32(bytes, order)
        }
    }

    #[inline(always)]
    fn spread(low: u32, high: u32, shifts: &[i32; 8], mask: i32) -> __m256i {
        unsafe {
            let (low, high) = (low.cast_signed(), high.cast_signed());
            let words = _mm256_blend_epi32::<0xf0>(_mm256_set1_epi32(low), _mm256_set1_epi32(high));
            let shifted = _mm256_srlv_epi32(words, _mm256_loadu_si256(shifts.as_ptr().cast()));
            _mm256_and_si256(shifted, _mm256_set1_epi32(mask))
        }
    }

    #[inline(always)]
    fn deinterleave(a: __m256i, b: __m256i) -> [__m256i; 2] {
        unsafe {
            let low = _mm256_set1_epi16(0xff);
            let even = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
            let odd = _mm256_packus_epi16(_mm256_srli_epi16::<8>(a), _mm256_srli_epi16::<8>(b));
            [
                _mm256_permute4x64_epi64::<0b11_01_10_00>(even),
                _mm256_permute4x64_epi64::<0b11_01_10_00>(odd),
            ]
        }
    }

    #[inline(always)]
    fn wide(a: __m256i) -> __m256i {
        unsafe { _mm256_xor_si256(a, _mm256_set1_epi8(-128)) }
    }

    #[inline(always)]
    fn products_wide(codes: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)) }
    }

    #[inline(always)]
    fn dot_unsigned(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        unsafe {
            // At most 255 · 128, which 16 bits hold.
            let products = _mm256_maddubs_epi16(codes, x);
            _mm256_add_epi32(sums, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    fn factor(value: u16) -> [u8; 4] {
        let [low, high] = value.to_le_bytes();
        [low, high, low, high]
    }

    #[inline(always)]
    fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
        unsafe {
            let [a, b, c, d, e, f, g, h] = rows;
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab_, cd_) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            let (ef, gh) = (_mm256_unpacklo_epi32(e, f), _mm256_unpacklo_epi32(g, h));
            let (ef_, gh_) = (_mm256_unpackhi_epi32(e, f), _mm256_unpackhi_epi32(g, h));
            let low = [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_, cd_),
                _mm256_unpackhi_epi64(ab_, cd_),
            ];
            let high = [
                _mm256_unpacklo_epi64(ef, gh),
                _mm256_unpackhi_epi64(ef, gh),
                _mm256_unpacklo_epi64(ef_, gh_),
                _mm256_unpackhi_epi64(ef_, gh_),
            ];
            [
                _mm256_permute2x128_si256::<0x20>(low[0], high[0]),
                _mm256_permute2x128_si256::<0x20>(low[1], high[1]),
                _mm256_permute2x128_si256::<0x20>(low[2], high[2]),
                _mm256_permute2x128_si256::<0x20>(low[3], high[3]),
                _mm256_permute2x128_si256::<0x31>(low[0], high[0]),
                _mm256_permute2x128_si256::<0x31>(low[1], high[1]),
                _mm256_permute2x128_si256::<0x31>(low[2], high[2]),
                _mm256_permute2x128_si256::<0x31>(low[3], high[3]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const u8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn pack_pairs(low: __m256i, high: __m256i) -> __m256i {
        unsafe {
            let words = _mm256_packs_epi32(low, high);
            _mm256_permute4x64_epi64::<0b11_01_10_00>(words)
        }
    }

    #[inline(always)]
    fn dot_pairs(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
    }

    #[inline(always)]
    fn pair_floats(a: __m256i) -> [__m256; 2] {
        unsafe {
            let first = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(a));
            let second = _mm256_srai_epi32::<16>(a);
            [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)]
        }
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn prefetch_far(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}

/// Rounded to bfloat16 once the lower half of the bits is cut off: what is cut off is added by half, but to what is no
/// number.
#[inline(always)]
fn rounded(a: __m256) -> __m256i {
    // SAFETY: called from `run` alone, where the instructions are there.
    unsafe {
        let numbers = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(a, a));
        let half = _mm256_and_si256(numbers, _mm256_set1_epi32(0x8000));
        _mm256_add_epi32(_mm256_castps_si256(a), half)
    }
}
