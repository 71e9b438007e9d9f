//! Short pieces as numbers, which are compared and hashed at once.

use super::hash;

/// Bytes of a short piece at most.
pub(super) const SHORT_BYTES: usize = 15;

/// A short piece, behind it zeros, its length in the last byte; so 0 is no piece.
pub(super) type Key = u128;

/// What of 16 bytes belongs to a piece of each length; of a longer one nothing.
const MASKS: [Key; SHORT_BYTES + 2] = {
    let mut masks = [0; SHORT_BYTES + 2];
    let mut length = 1;
    while length <= SHORT_BYTES {
        masks[length] = masks[length - 1] << 8 | 0xff;
        length += 1;
    }
    masks
};

/// The key of a short piece, of which `padded` has all bytes and any behind it.
#[inline(always)]
fn key(padded: [u8; 16], length: usize) -> Key {
    u128::from_le_bytes(padded) & MASKS[length] | (length as u128) << 120
}

/// What is left of the bytes from `at` on, fewer than 16, and zeros.
fn padded_at_end(bytes: &[u8], at: usize) -> [u8; 16] {
    if let Some(last) = bytes.last_chunk::<16>() {
        let missing = at + last.len() - bytes.len();
        return (u128::from_le_bytes(*last) >> (8 * missing)).to_le_bytes();
    }
    let mut padded = [0; 16];
    padded[..bytes.len() - at].copy_from_slice(&bytes[at..]);
    padded
}

/// The key of the piece of `length` bytes at `at`; of one that is not short, a key that no piece has.
#[inline(always)]
pub(super) fn key_at(bytes: &[u8], at: usize, length: usize) -> Key {
    let padded = match bytes[at..].first_chunk() {
        Some(padded) => *padded,
        None => padded_at_end(bytes, at),
    };
    key(padded, length.min(SHORT_BYTES + 1))
}

/// The key of a piece, if it is short.
pub(super) fn of_bytes(bytes: &[u8]) -> Option<Key> {
    let mut padded = [0; 16];
    padded
        .get_mut(..bytes.len())
        .filter(|_| bytes.len() <= SHORT_BYTES)?
        .copy_from_slice(bytes);
    Some(key(padded, bytes.len()))
}

/// Of which the high bits are the good ones.
#[inline(always)]
pub(super) fn hash(key: Key) -> u64 {
    let [low, high] = [key as u64, (key >> 64) as u64];
    low.wrapping_mul(hash::FACTORS[0]) ^ high.wrapping_mul(hash::FACTORS[1])
}
