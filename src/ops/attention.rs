//! Scaled dot-product attention of one segment over its sequence's keys and values.

use crate::error::Result;
use crate::mlx::{Array, fast};

/// Attends from the last rows of a sequence to all of it, causally.
///
/// `queries` `[L, H, D]`; `keys` and `values` `[1, Hkv, S, D]` with S ≥ L, the last L of them being the
/// queries' own; Hkv divides H. Gives `[L, H·D]`.
///
/// # Errors
/// What MLX says.
pub fn causal_attention(
    queries: &Array,
    keys: &Array,
    values: &Array,
    scale: f32,
) -> Result<Array> {
    use fast::ScaledDotProductAttentionMask::Causal;
    let length = queries.shape()[0];
    let queries = queries.transpose_axes(&[1, 0, 2])?.expand_dims(0)?;
    // A single row sees everything: no mask is cheaper than a causal one.
    let mask = (length > 1).then_some(Causal);
    let out = fast::scaled_dot_product_attention(queries, keys, values, scale, mask, None)?;
    Ok(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[length, -1])?)
}
