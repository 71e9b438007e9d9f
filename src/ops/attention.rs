//! Scaled dot-product attention with what belongs to it: norms of heads and rotary positions.

use super::batch::Batch;
use super::norm::RmsNorm;
use super::rope::Rope;
use super::tensor::{Rows, misplaced};
use crate::error::Result;
use crate::kernels::attention::{Attention as HostAttention, AttentionSegment, attend};
use crate::kernels::rotary::{Heads, Rotary, RotarySegment, rotate};
use crate::kernels::{CacheNumber, pool};
use crate::mlx::{Array, fast};

/// Positions by which caches grow, on every device (reference: 256).
pub const STEP: usize = 256;

/// What all layers of a kind have in common, and the norms of one of them.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, Hkv; divides H.
    pub kv_heads: usize,
    /// Width of a head, D.
    pub width: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Turns queries and keys by their positions.
    pub rope: Rope,
    /// Normalizes each query head before it is turned.
    pub query_norm: Option<RmsNorm>,
    /// Normalizes each key head before it is turned.
    pub key_norm: Option<RmsNorm>,
    /// How keys and values are stored where the kernels of the CPU compute; `None` where MLX does.
    pub host: Option<CacheNumber>,
}

/// Keys and values of one sequence in one layer, for the kernels of the CPU.
#[derive(Debug, Default)]
pub struct HostCache {
    /// Positions that there is room for.
    capacity: usize,
    /// `[Hkv, capacity]` rows of D.
    keys: Vec<u8>,
    /// `[Hkv, capacity]` rows of D.
    values: Vec<u8>,
}

/// A segment's part in an attention of the kernels.
#[derive(Debug)]
pub struct HostSegment {
    /// Rows that are appended.
    pub rows: usize,
    /// Positions that are there before.
    pub length: usize,
    /// Their keys and values.
    pub cache: HostCache,
}

impl HostCache {
    /// Bytes of one position.
    pub fn bytes_per_position(&self) -> usize {
        (self.keys.len() + self.values.len()) / self.capacity.max(1)
    }

    /// Makes room for so many positions of so many heads, rows of `bytes` each; keeps the first
    /// `length`.
    fn reserve(&mut self, positions: usize, length: usize, heads: usize, bytes: usize) {
        if positions <= self.capacity {
            return;
        }
        let capacity = positions.next_multiple_of(STEP);
        for buffer in [&mut self.keys, &mut self.values] {
            let mut grown = vec![0; heads * capacity * bytes];
            let old = buffer.chunks_exact((self.capacity * bytes).max(1));
            for (new, old) in grown.chunks_exact_mut(capacity * bytes).zip(old) {
                new[..length * bytes].copy_from_slice(&old[..length * bytes]);
            }
            *buffer = grown;
        }
        self.capacity = capacity;
    }
}

impl Attention {
    /// Queries, keys and values `[T, heads·D]` to normalized and turned `[T, heads, D]`, by MLX.
    ///
    /// # Errors
    /// What MLX says.
    pub fn turned(
        &self,
        batch: &Batch,
        queries: &Array,
        keys: &Array,
        values: &Array,
    ) -> Result<(Array, Array, Array)> {
        let positions = batch.positions()?;
        let heads = |x: &Array| x.reshape(&[x.shape()[0], -1, self.width as i32]);
        let normed = |x: Array, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        };
        let queries = normed(heads(queries)?, &self.query_norm)?;
        let keys = normed(heads(keys)?, &self.key_norm)?;
        Ok((
            self.rope.forward(&queries, positions)?,
            self.rope.forward(&keys, positions)?,
            heads(values)?,
        ))
    }

    /// Attends from the last rows of a sequence to all of it, causally, by MLX.
    ///
    /// `queries` `[L, H, D]`; `keys` and `values` `[1, Hkv, S, D]` with S ≥ L, the last L of them
    /// being the queries' own. Gives `[L, H·D]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn causal(&self, queries: &Array, keys: &Array, values: &Array) -> Result<Array> {
        use fast::ScaledDotProductAttentionMask::Causal;
        let length = queries.shape()[0];
        let queries = queries.transpose_axes(&[1, 0, 2])?.expand_dims(0)?;
        // A single row sees everything: no mask is cheaper than a causal one.
        let mask = (length > 1).then_some(Causal);
        let scale = self.scale;
        let out = fast::scaled_dot_product_attention(queries, keys, values, scale, mask, None)?;
        Ok(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[length, -1])?)
    }

    /// All of it for a whole batch by the kernels: each segment is appended to its cache and attends
    /// over it. `queries` `[T, H·D]`, `keys` and `values` `[T, Hkv·D]`; gives `[T, H·D]`.
    ///
    /// # Errors
    /// [`crate::Error::Mlx`] where the model is not on the host.
    pub fn on_host(
        &self,
        number: CacheNumber,
        segments: &mut [HostSegment],
        [queries, keys, values]: [&Rows; 3],
    ) -> Result<Rows> {
        let bytes = number.row_bytes(self.width);
        for segment in &mut *segments {
            let positions = segment.length + segment.rows;
            let cache = &mut segment.cache;
            cache.reserve(positions, segment.length, self.kv_heads, bytes);
        }
        let rotary = Rotary {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            value_width: self.width,
            periods: self.rope.host_periods(),
            scale: self.rope.position_scale(),
            query_norm: host_norm(self.query_norm.as_ref())?,
            key_norm: host_norm(self.key_norm.as_ref())?,
            epsilon: self.query_norm.as_ref().map_or(0.0, |norm| norm.epsilon),
            number,
        };
        let heads = Heads {
            queries: &queries.numbers,
            keys: &keys.numbers,
            values: &values.numbers,
        };
        let mut turned = Rows::new(queries.count(), queries.width);
        let places = segments.iter_mut().map(|segment| RotarySegment {
            rows: segment.rows,
            position: segment.length,
            place: segment.length,
            capacity: segment.cache.capacity,
            keys: &mut segment.cache.keys,
            values: &mut segment.cache.values,
        });
        let mut places: Vec<_> = places.collect();
        let pool = pool::shared();
        rotate(pool, &rotary, heads, &mut turned.numbers, &mut places);
        let attention = HostAttention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            value_width: self.width,
            scale: self.scale,
            window: None,
            soft_cap: None,
            sinks: None,
            number,
        };
        let segments = segments.iter().map(|segment| AttentionSegment {
            rows: segment.rows,
            length: segment.length + segment.rows,
            capacity: segment.cache.capacity,
            keys: &segment.cache.keys,
            values: &segment.cache.values,
        });
        let segments: Vec<_> = segments.collect();
        let mut out = Rows::new(queries.count(), queries.width);
        attend(
            pool,
            &attention,
            &segments,
            &turned.numbers,
            &mut out.numbers,
        );
        Ok(out)
    }
}

fn host_norm(norm: Option<&RmsNorm>) -> Result<Option<&[f32]>> {
    norm.map(|norm| norm.weight.host().ok_or_else(misplaced))
        .transpose()
}
