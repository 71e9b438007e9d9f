//! Scaled dot-product attention with what belongs to it: norms of heads and rotary positions.

mod host_cache;

pub use self::host_cache::{BLOCK, HostBytes, HostCache, HostPage, HostSegment};

use super::batch::Batch;
use super::norm::RmsNorm;
use super::rope::Rope;
use super::tensor::{Rows, misplaced};
use super::vector::Vector;
use crate::error::Result;
use crate::kernels::attention::{Attention as HostAttention, AttentionSegment, attend};
use crate::kernels::pages::PAGE;
use crate::kernels::rotary::{Heads, Rotary, RotarySegment, rotate};
use crate::kernels::{CacheNumber, pool};
use crate::mlx::{Array, fast, ops, slice};

/// Positions by which caches grow, on every device (reference: 256).
pub const STEP: usize = PAGE;

/// What all layers of a kind have in common, and the norms of one of them.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, Hkv; divides H.
    pub kv_heads: usize,
    /// Width of a query or key head, D.
    pub width: usize,
    /// Width of a value head, Dv.
    pub value_width: usize,
    /// Values are the last Dv numbers of their keys. The kernels of the CPU store them a second time.
    pub values_in_keys: bool,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Turns queries and keys by their positions.
    pub rope: Rope,
    /// Normalizes each query head before it is turned.
    pub query_norm: Option<RmsNorm>,
    /// Normalizes each key head before it is turned.
    pub key_norm: Option<RmsNorm>,
    /// How many positions a query sees, its own included; all if absent.
    pub window: Option<usize>,
    /// `[H]`: a score of each head that takes part in its softmax and has no value.
    pub sinks: Option<Vector>,
    /// How keys and values are stored where the kernels of the CPU compute; `None` where MLX does.
    pub host: Option<CacheNumber>,
}

impl Attention {
    /// Heads of `width` that see everything, without norms, scaled by `1/√width`.
    pub fn new(
        [heads, kv_heads]: [usize; 2],
        width: usize,
        rope: Rope,
        host: Option<CacheNumber>,
    ) -> Self {
        Self {
            heads,
            kv_heads,
            width,
            value_width: width,
            values_in_keys: false,
            scale: (width as f32).powf(-0.5),
            rope,
            query_norm: None,
            key_norm: None,
            window: None,
            sinks: None,
            host,
        }
    }

    /// Memory of the keys and values of one position, in numbers of so many bytes where MLX computes.
    pub fn bytes_per_position(&self, number_bytes: usize) -> usize {
        let head = match self.host {
            Some(number) => number.row_bytes(self.width) + number.row_bytes(self.value_width),
            None if self.values_in_keys => self.width * number_bytes,
            None => (self.width + self.value_width) * number_bytes,
        };
        self.kv_heads * head
    }

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
        let heads = |x: &Array, width: usize| x.reshape(&[x.shape()[0], -1, width as i32]);
        let normed = |x: Array, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        };
        let queries = normed(heads(queries, self.width)?, &self.query_norm)?;
        let keys = normed(heads(keys, self.width)?, &self.key_norm)?;
        Ok((
            self.rope.forward(&queries, positions)?,
            self.rope.forward(&keys, positions)?,
            heads(values, self.value_width)?,
        ))
    }

    /// Attends from the last rows of a sequence to what they see of it, by MLX.
    ///
    /// `queries` `[L, H, D]`; `keys` `[1, Hkv, S, D]` and `values` `[1, Hkv, S, Dv]` (none where they are in
    /// the keys) with S ≥ L, the last L of them being the queries' own, the first not outside of every
    /// window. Gives `[L, H·Dv]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn causal(&self, queries: &Array, keys: &Array, values: Option<&Array>) -> Result<Array> {
        use fast::ScaledDotProductAttentionMask as Mask;
        let (length, seen) = (queries.shape()[0], keys.shape()[2]);
        let queries = queries.transpose_axes(&[1, 0, 2])?.expand_dims(0)?;
        let within = match self.window {
            Some(window) if length > 1 && seen > window as i32 => {
                Some(within_window(length, seen, window as i32)?)
            }
            _ => None,
        };
        let mask = match &within {
            Some(within) => Some(Mask::Array(within)),
            // A single row sees everything: no mask is cheaper than a causal one.
            None => (length > 1).then_some(Mask::Causal),
        };
        let sinks = self.sinks.as_ref().map(Vector::array);
        let out = fast::scaled_dot_product_attention(
            queries,
            keys,
            values.unwrap_or(keys),
            self.scale,
            mask,
            sinks.as_ref(),
        )?;
        let out = match values {
            Some(_) => out,
            None => slice(&out, 3, (self.width - self.value_width) as i32..)?,
        };
        Ok(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[length, -1])?)
    }

    /// All of it for a whole batch by the kernels: each segment is appended to its cache and attends
    /// over it. `queries` `[T, H·D]`, `keys` `[T, Hkv·D]`, `values` `[T, Hkv·Dv]`; gives `[T, H·Dv]`.
    ///
    /// # Errors
    /// [`crate::Error::Mlx`] where the model is not on the host.
    pub fn on_host(
        &self,
        number: CacheNumber,
        segments: &mut [HostSegment],
        [queries, keys, values]: [&Rows; 3],
    ) -> Result<Rows> {
        let bytes = [self.width, self.value_width].map(|width| number.row_bytes(width));
        for segment in &mut *segments {
            segment.reserve(self.kv_heads, bytes, self.window)?;
        }
        let rotary = Rotary {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            value_width: self.value_width,
            turns: self.rope.on_host(),
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
        let places = segments.iter_mut().map(|segment| {
            let (rows, position) = (segment.rows, segment.length);
            let (place, pages) = segment.written();
            RotarySegment {
                rows,
                position,
                place,
                pages,
            }
        });
        let mut places: Vec<_> = places.collect();
        let pool = pool::shared();
        rotate(pool, &rotary, heads, &mut turned.numbers, &mut places);
        let attention = HostAttention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            value_width: self.value_width,
            scale: self.scale,
            window: self.window,
            sinks: match &self.sinks {
                Some(sinks) => Some(sinks.host().ok_or_else(misplaced)?),
                None => None,
            },
            number,
        };
        let pages: Vec<_> = segments.iter().map(HostSegment::pages).collect();
        let segments = segments.iter().zip(&pages);
        let segments = segments.map(|(segment, pages)| AttentionSegment {
            rows: segment.rows,
            length: segment.length - segment.base() + segment.rows,
            pages,
        });
        let segments: Vec<_> = segments.collect();
        let mut out = Rows::new(queries.count(), self.heads * self.value_width);
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

/// What the last `rows` of so many positions see within a window that ends with each: `[rows, positions]`,
/// yes or no.
fn within_window(rows: i32, positions: i32, window: i32) -> Result<Array> {
    let row = ops::arange::<_, i32>(positions - rows, positions, 1)?.expand_dims(1)?;
    let position = ops::arange::<_, i32>(0, positions, 1)?.expand_dims(0)?;
    let first = row.subtract(Array::from_int(window - 1))?;
    Ok(position.le(&row)?.logical_and(position.ge(&first)?)?)
}

fn host_norm(norm: Option<&RmsNorm>) -> Result<Option<&[f32]>> {
    norm.map(|norm| norm.weight.host().ok_or_else(misplaced))
        .transpose()
}
