//! Integers around zero with a scale for each group, as compressed-tensors packs them: `scale · (code - half)`, codes
//! from 0 on side by side in 32-bit words, which is where MLX has them too. `scale · code + bias` with a bias that is
//! a power of two times the scale is the same, and nothing is rounded.

use super::super::matrix::Number;
use super::{Packed, put};

/// The numbers of rows whose codes have 4 or 8 bits; `scales` are as many for each row, of the type of `out`.
pub fn decode_integers(bits: usize, number: Number, codes: &[u8], scales: &[u8], out: &mut [u8]) {
    let size = number.size();
    let scales = number.floats(scales);
    let count = out.len() / size;
    let group = count / scales.len().max(1);
    let per_byte = 8 / bits;
    let half = (1_u32 << (bits - 1)) as f32;
    for (at, out) in out.chunks_exact_mut(size).enumerate() {
        let code = codes[at / per_byte] >> (at % per_byte * bits) & (0xff >> (8 - bits));
        put(number, (f32::from(code) - half) * scales[at / group], out);
    }
}

/// Takes codes over, each scale as often as MLX has groups for it; whether scales and biases are finite.
pub fn repack_integers(
    bits: usize,
    number: Number,
    codes: &[u8],
    scales: &[u8],
    out: Packed<'_>,
) -> bool {
    let Packed {
        codes: to,
        scales: made,
        biases,
    } = out;
    let size = number.size();
    to.copy_from_slice(codes);
    let times = made.len() / scales.len().max(1);
    let groups = made.chunks_exact_mut(size);
    let mut finite = true;
    for (index, (scale, bias)) in groups.zip(biases.chunks_exact_mut(size)).enumerate() {
        let found = &scales[index / times * size..][..size];
        scale.copy_from_slice(found);
        put(
            number,
            number.one(found) * -((1_u32 << (bits - 1)) as f32),
            bias,
        );
        finite &= number.one(bias).is_finite();
    }
    finite
}
