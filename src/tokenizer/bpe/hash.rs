//! The hashes of the tables here: fast, and good enough for keys that nobody chooses to collide in a bounded table.

/// Odd numbers with bits everywhere: digits of the golden ratio and of pi.
pub(super) const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x2b99_2ddf_a232_49d7];

/// Of a pair of words. The high bits are the good ones.
#[inline]
pub(super) fn of_pair(left: u64, right: u64) -> u64 {
    let product = u128::from(left ^ FACTORS[0]) * u128::from(right ^ FACTORS[1]);
    ((product >> 64) as u64 ^ product as u64).wrapping_mul(FACTORS[0])
}

/// Of bytes.
#[inline]
pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
