//! Plain loops over eight lanes, for processors without an own file.

use half::{bf16, f16};

use super::{Lanes, Simd};

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Portable;

fn lanes<T>(lane: impl FnMut(usize) -> T) -> [T; 8] {
    std::array::from_fn(lane)
}

/// The two bytes of element `i`.
///
/// # Safety
/// `from` is valid for `2(i + 1)` bytes.
unsafe fn word(from: *const u8, i: usize) -> u16 {
    // SAFETY: the caller's promise.
    u16::from_le_bytes(unsafe { [*from.add(2 * i), *from.add(2 * i + 1)] })
}

// SAFETY (all blocks of this file): pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Lanes for Portable {
    const LANES: usize = 8;
    type Floats = [f32; 8];
    type Integers = [i32; 8];
    type Bytes = [u8; 32];
    type Sums = [i32; 8];

    const WIDE_OFFSET: u8 = 0;
    const SUMS_LIMIT: usize = i32::MAX as usize;

    fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }

    unsafe fn load(from: *const f32) -> [f32; 8] {
        lanes(|i| unsafe { from.add(i).read_unaligned() })
    }

    unsafe fn store(to: *mut f32, value: [f32; 8]) {
        for (i, value) in value.into_iter().enumerate() {
            unsafe { to.add(i).write_unaligned(value) };
        }
    }

    fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes(|i| a[i] + b[i])
    }

    fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes(|i| a[i] - b[i])
    }

    fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes(|i| a[i] * b[i])
    }

    fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }

    fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    fn min(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    fn round(a: [f32; 8]) -> [i32; 8] {
        a.map(|value| value.round_ties_even() as i32)
    }

    fn to_floats(a: [i32; 8]) -> [f32; 8] {
        a.map(|value| value as f32)
    }

    fn zero_integers() -> [i32; 8] {
        [0; 8]
    }

    fn add_integers(a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        lanes(|i| a[i] + b[i])
    }

    unsafe fn load_bytes(from: *const u8) -> [u8; 32] {
        unsafe { from.cast::<[u8; 32]>().read_unaligned() }
    }

    unsafe fn splat_word(from: *const i8) -> [u8; 32] {
        let word = unsafe { from.cast::<[u8; 4]>().read_unaligned() };
        std::array::from_fn(|i| word[i % 4])
    }

    fn low_nibbles(a: [u8; 32]) -> [u8; 32] {
        a.map(|byte| byte & 15)
    }

    fn high_nibbles(a: [u8; 32]) -> [u8; 32] {
        a.map(|byte| byte >> 4)
    }

    fn look_up(table: &[u8; 16], a: [u8; 32]) -> [u8; 32] {
        a.map(|byte| table[usize::from(byte & 15)])
    }

    unsafe fn group_scales<const GROUP: usize>(from: *const f32) -> [f32; 8] {
        lanes(|i| unsafe { from.add(i * 8 / GROUP.min(64)).read_unaligned() })
    }

    fn zero_sums() -> [i32; 8] {
        [0; 8]
    }

    fn dot(sums: [i32; 8], codes: [u8; 32], x: [u8; 32]) -> [i32; 8] {
        lanes(|i| {
            let products = (4 * i..4 * i + 4).map(|j| i32::from(codes[j]) * i32::from(x[j] as i8));
            sums[i] + products.sum::<i32>()
        })
    }

    fn finish(sums: [i32; 8]) -> [i32; 8] {
        sums
    }

    fn dot_wide(sums: [i32; 8], codes: [u8; 32], x: [u8; 32]) -> [i32; 8] {
        Self::dot(sums, codes, x)
    }

    fn scaled(sums: [i32; 8], factors: [u8; 32]) -> [f32; 8] {
        let (factors, _) = factors.as_chunks::<4>();
        lanes(|i| sums[i] as f32 * f32::from_le_bytes(factors[i]))
    }

    fn unsigned_bytes(a: [u8; 32]) -> [[f32; 8]; 4] {
        std::array::from_fn(|byte| lanes(|i| f32::from(a[4 * i + byte])))
    }

    fn bfloat_pairs(low: [f32; 8], high: [f32; 8]) -> [u8; 32] {
        let word = |i: usize| rounded(low[i]) >> 16 | rounded(high[i]) & 0xffff_0000;
        std::array::from_fn(|i| word(i / 4).to_le_bytes()[i % 4])
    }

    fn bfloat_rest(a: [f32; 8]) -> [f32; 8] {
        lanes(|i| a[i] - f32::from_bits(rounded(a[i]) & 0xffff_0000))
    }

    unsafe fn store_bytes(to: *mut u8, value: [u8; 32]) {
        unsafe { to.cast::<[u8; 32]>().write_unaligned(value) };
    }

    fn scale_by_power(a: [f32; 8], n: [i32; 8]) -> [f32; 8] {
        lanes(|i| a[i] * f32::from_bits(((n[i] + 127) as u32) << 23))
    }
}

// SAFETY (all blocks of this file): pointers are valid as the trait asks.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason holds for all of them and stands above"
)]
impl Simd for Portable {
    type Widest = Self;
    const REGISTERS: usize = 16;
    const AHEAD: usize = 0;

    fn widened(a: [f32; 8]) -> [f32; 8] {
        a
    }

    fn folded(a: [f32; 8]) -> [f32; 8] {
        a
    }

    unsafe fn load_half(from: *const u8) -> [f32; 8] {
        lanes(|i| f16::from_bits(unsafe { word(from, i) }).to_f32())
    }

    unsafe fn store_half(to: *mut u8, value: [f32; 8]) {
        for (i, value) in value.into_iter().enumerate() {
            let bytes = f16::from_f32(value).to_le_bytes();
            unsafe { to.add(2 * i).cast::<[u8; 2]>().write_unaligned(bytes) };
        }
    }

    unsafe fn load_bfloat(from: *const u8) -> [f32; 8] {
        lanes(|i| bf16::from_bits(unsafe { word(from, i) }).to_f32())
    }

    unsafe fn load_e4m3(from: *const u8) -> [f32; 8] {
        lanes(|i| {
            // With its bits shifted into a half float, E4M3 stands for 2^-8 of its value.
            let byte = u16::from(unsafe { *from.add(i) });
            f16::from_bits((byte & 0x80) << 8 | (byte & 0x7f) << 7).to_f32() * 256.0
        })
    }

    unsafe fn load_codes(from: *const u8) -> [f32; 8] {
        lanes(|i| f32::from(unsafe { *from.add(i) }))
    }

    fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        lanes(|i| a[i] / b[i])
    }

    fn abs(a: [f32; 8]) -> [f32; 8] {
        a.map(f32::abs)
    }

    fn sum(a: [f32; 8]) -> f32 {
        a.iter().sum()
    }

    fn largest(a: [f32; 8]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    fn sum4(a: [[f32; 8]; 4]) -> [f32; 4] {
        a.map(Self::sum)
    }

    fn transpose_floats(rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        lanes(|column| lanes(|row| rows[row][column]))
    }

    fn splat_integer(value: i32) -> [i32; 8] {
        [value; 8]
    }

    fn pack(from: [[i32; 8]; 4]) -> [u8; 32] {
        std::array::from_fn(|i| from[i / 8][i % 8] as u8)
    }

    fn spread(low: u32, high: u32, shifts: &[i32; 8], mask: i32) -> [i32; 8] {
        lanes(|i| (if i < 4 { low } else { high } >> shifts[i]).cast_signed() & mask)
    }

    fn deinterleave(a: [u8; 32], b: [u8; 32]) -> [[u8; 32]; 2] {
        let both = |i: usize| if i < 32 { a[i] } else { b[i - 32] };
        [
            std::array::from_fn(|i| both(2 * i)),
            std::array::from_fn(|i| both(2 * i + 1)),
        ]
    }

    fn wide(a: [u8; 32]) -> [u8; 32] {
        a
    }

    fn products_wide(codes: [u8; 32], x: [u8; 32]) -> [i32; 8] {
        Self::dot([0; 8], codes, x)
    }

    fn factor(value: u16) -> [u8; 4] {
        f32::from(value).to_le_bytes()
    }

    fn transpose(rows: [[u8; 32]; 8]) -> [[u8; 32]; 8] {
        std::array::from_fn(|column| std::array::from_fn(|i| rows[i / 4][4 * column + i % 4]))
    }

    unsafe fn load_pairs(from: *const u8) -> [u8; 32] {
        let mut pairs = [0; 32];
        for (i, pair) in pairs.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let byte = unsafe { *from.add(i) }.cast_signed();
            *pair = i16::from(byte).to_le_bytes();
        }
        pairs
    }

    fn pack_pairs(low: [i32; 8], high: [i32; 8]) -> [u8; 32] {
        let mut pairs = [0; 32];
        let numbers = low.into_iter().chain(high);
        for (pair, number) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(numbers) {
            *pair = (number as i16).to_le_bytes();
        }
        pairs
    }

    fn dot_pairs(sums: [i32; 8], a: [u8; 32], b: [u8; 32]) -> [i32; 8] {
        let number =
            |x: [u8; 32], i: usize| i32::from(i16::from_le_bytes([x[2 * i], x[2 * i + 1]]));
        let product = |i: usize| number(a, i) * number(b, i);
        lanes(|i| sums[i] + product(2 * i) + product(2 * i + 1))
    }

    fn pair_floats(a: [u8; 32]) -> [[f32; 8]; 2] {
        let number = |i: usize| f32::from(i16::from_le_bytes([a[2 * i], a[2 * i + 1]]));
        [lanes(|i| number(2 * i)), lanes(|i| number(2 * i + 1))]
    }

    fn prefetch(_at: *const u8) {}

    fn prefetch_far(_at: *const u8) {}
}

/// Rounded to bfloat16 once the lower half of the bits is cut off: what is cut off is added by half, but to what is no
/// number.
fn rounded(a: f32) -> u32 {
    a.to_bits() + if a.is_nan() { 0 } else { 0x8000 }
}
