//! Scaled dot-product attention with what belongs to it: norms of heads and rotary positions.

use std::sync::Arc;

use super::batch::Batch;
use super::host::{floats, floats_mut};
use super::norm::RmsNorm;
use super::rope::Rope;
use super::vector::Vector;
use crate::error::{Error, Result};
use crate::kernels::attention::{Attention as HostAttention, AttentionSegment, attend};
use crate::kernels::rotary::{Heads, Rotary, RotarySegment, rotate};
use crate::kernels::{CacheNumber, pool};
use crate::mlx::{Array, BufferMut, Dtype, Output, fast, host_op};

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

/// A segment's cache in a step of the kernels: buffers `[1, Hkv, capacity, D]`, if there are any yet.
#[derive(Debug)]
pub struct HostCache {
    /// Rows that are appended.
    pub rows: usize,
    /// Rows that are there.
    pub length: usize,
    /// Keys and values so far, and the rows that they have room for.
    pub old: Option<(Array, Array, usize)>,
    /// Rows that the new buffers are to have room for.
    pub capacity: usize,
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
        let heads = |x: &Array| x.reshape(&[x.shape()[0], -1, self.width as i32]);
        let normed = |x: Array, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        };
        let queries = normed(heads(queries)?, &self.query_norm)?;
        let keys = normed(heads(keys)?, &self.key_norm)?;
        Ok((
            self.rope.forward(&queries, &batch.positions)?,
            self.rope.forward(&keys, &batch.positions)?,
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

    /// All of it for a whole batch as one node of the CPU: `queries` `[T, H·D]`, `keys` and `values`
    /// `[T, Hkv·D]`, each segment appended to its cache and attending over it. Gives `[T, H·D]` and
    /// the new buffers of each cache.
    ///
    /// # Errors
    /// What MLX says.
    pub fn on_host(
        &self,
        number: CacheNumber,
        caches: &[HostCache],
        queries: &Array,
        keys: &Array,
        values: &Array,
    ) -> Result<(Array, Vec<(Array, Array)>)> {
        let dtype = match number {
            CacheNumber::F16 => Dtype::Float16,
            CacheNumber::F32 => Dtype::Float32,
        };
        let mut inputs = vec![queries, keys, values];
        let shapes: Vec<[i32; 4]> = caches
            .iter()
            .map(|cache| {
                [
                    1,
                    self.kv_heads as i32,
                    cache.capacity as i32,
                    self.width as i32,
                ]
            })
            .collect();
        let mut outputs = vec![Output::new(queries.shape(), Dtype::Float32)];
        let mut steps = Vec::with_capacity(caches.len());
        for (cache, shape) in caches.iter().zip(&shapes) {
            let new = Output::new(shape, dtype);
            let mut step = Step {
                rows: cache.rows,
                length: cache.length,
                capacity: cache.capacity,
                grown_from: None,
            };
            match &cache.old {
                Some((keys, values, capacity)) if *capacity == cache.capacity => {
                    outputs.push(new.taking_over(inputs.len()));
                    outputs.push(new.taking_over(inputs.len() + 1));
                    inputs.extend([keys, values]);
                }
                Some((keys, values, capacity)) => {
                    step.grown_from = Some((inputs.len(), *capacity));
                    outputs.extend([new, new]);
                    inputs.extend([keys, values]);
                }
                None => outputs.extend([new, new]),
            }
            steps.push(step);
        }
        let layer = HostLayer {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            scale: self.scale,
            periods: self.rope.host_periods(),
            position_scale: self.rope.position_scale(),
            query_norm: host_norm(self.query_norm.as_ref())?,
            key_norm: host_norm(self.key_norm.as_ref())?,
            epsilon: self.query_norm.as_ref().map_or(0.0, |norm| norm.epsilon),
            number,
        };
        let results = host_op("attention", &inputs, &outputs, move |inputs, outputs| {
            let (out, buffers) = outputs.split_at_mut(1);
            for (step, buffers) in steps.iter().zip(buffers.chunks_exact_mut(2)) {
                if let Some((input, capacity)) = step.grown_from {
                    layer.grow(inputs[input].bytes(), capacity, step, &mut buffers[0]);
                    layer.grow(inputs[input + 1].bytes(), capacity, step, &mut buffers[1]);
                }
            }
            let heads = Heads {
                queries: floats(&inputs[0]),
                keys: floats(&inputs[1]),
                values: floats(&inputs[2]),
            };
            layer.run(&steps, heads, buffers, floats_mut(&mut out[0]));
        })?;
        let mut results = results.into_iter();
        let out = results.next();
        let mut buffers = Vec::new();
        while let (Some(keys), Some(values)) = (results.next(), results.next()) {
            buffers.push((keys, values));
        }
        let out = out.ok_or_else(|| Error::Mlx("attention gave nothing".to_owned()))?;
        Ok((out, buffers))
    }
}

fn host_norm(norm: Option<&RmsNorm>) -> Result<Option<Arc<[f32]>>> {
    let Some(norm) = norm else { return Ok(None) };
    match &norm.weight {
        Vector::Host(weight) => Ok(Some(Arc::clone(weight))),
        Vector::Device(_) => Err(Error::Mlx("a norm's weight is not on the host".to_owned())),
    }
}

/// One segment of a node.
struct Step {
    rows: usize,
    length: usize,
    capacity: usize,
    /// The input with the keys before, and the rows that it has room for.
    grown_from: Option<(usize, usize)>,
}

/// What a node keeps of its layer.
struct HostLayer {
    heads: usize,
    kv_heads: usize,
    width: usize,
    scale: f32,
    periods: Arc<[f32]>,
    position_scale: f32,
    query_norm: Option<Arc<[f32]>>,
    key_norm: Option<Arc<[f32]>>,
    epsilon: f32,
    number: CacheNumber,
}

impl HostLayer {
    /// Copies the rows of every head to where they are in a larger buffer.
    fn grow(&self, old: &[u8], old_capacity: usize, step: &Step, new: &mut BufferMut<'_>) {
        let row = self.width * self.number.bytes();
        let heads = old.chunks_exact(old_capacity * row);
        for (old, new) in heads.zip(new.bytes_mut().chunks_exact_mut(step.capacity * row)) {
            new[..step.length * row].copy_from_slice(&old[..step.length * row]);
        }
    }

    fn run(
        &self,
        steps: &[Step],
        heads: Heads<'_>,
        buffers: &mut [BufferMut<'_>],
        out: &mut [f32],
    ) {
        let rotary = Rotary {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            value_width: self.width,
            periods: &self.periods,
            scale: self.position_scale,
            query_norm: self.query_norm.as_deref(),
            key_norm: self.key_norm.as_deref(),
            epsilon: self.epsilon,
            number: self.number,
        };
        let mut queries = vec![0.0; heads.queries.len()];
        let mut places: Vec<RotarySegment<'_>> = steps
            .iter()
            .zip(buffers.chunks_exact_mut(2))
            .filter_map(|(step, pair)| {
                let [keys, values] = pair else { return None };
                Some(RotarySegment {
                    rows: step.rows,
                    position: step.length,
                    place: step.length,
                    capacity: step.capacity,
                    keys: keys.bytes_mut(),
                    values: values.bytes_mut(),
                })
            })
            .collect();
        rotate(pool::shared(), &rotary, heads, &mut queries, &mut places);
        drop(places);
        let attention = HostAttention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            value_width: self.width,
            scale: self.scale,
            window: None,
            soft_cap: None,
            sinks: None,
            number: self.number,
        };
        let segments: Vec<AttentionSegment<'_>> = steps
            .iter()
            .zip(buffers.chunks_exact(2))
            .map(|(step, pair)| AttentionSegment {
                rows: step.rows,
                length: step.length + step.rows,
                capacity: step.capacity,
                keys: pair[0].bytes(),
                values: pair[1].bytes(),
            })
            .collect();
        attend(pool::shared(), &attention, &segments, &queries, out);
    }
}
