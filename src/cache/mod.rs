//! What attention keeps of a sequence, layer by layer. Knows no text and no model's name.

mod kv;

pub use kv::KvCache;

use crate::error::Result;
use crate::mlx::{Array, ops, slice};
use crate::ops::attention::{Attention, HostSegment};
use crate::ops::batch::Batch;
use crate::ops::tensor::Tensor;

/// The state of one sequence: a cache for each layer, all of the same length.
#[derive(Debug, Default)]
pub struct SequenceCache {
    layers: Vec<KvCache>,
}

impl SequenceCache {
    /// An empty sequence of a model with so many layers.
    pub fn new(layers: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| KvCache::default()).collect(),
        }
    }

    /// Tokens whose state is held.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, KvCache::length)
    }

    /// Forgets everything after the first `length` tokens; says how many remain.
    pub fn rewind(&mut self, length: usize) -> usize {
        for layer in &mut self.layers {
            layer.rewind(length);
        }
        self.length()
    }

    /// Bytes of one token; 0 in an empty cache.
    pub fn bytes_per_token(&self) -> usize {
        self.layers.iter().map(KvCache::bytes_per_position).sum()
    }

    /// The arrays that hold the state on a device: evaluated, they need no graph any more.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(KvCache::arrays)
    }
}

/// Attention of a whole batch: every segment appends its keys and values to its own sequence's
/// cache of this layer and attends over it.
///
/// `queries` `[T, H·D]`, `keys` and `values` `[T, Hkv·D]`; gives `[T, H·D]`.
///
/// # Errors
/// What MLX says.
pub fn attend(
    attention: &Attention,
    batch: &Batch,
    caches: &mut [&mut SequenceCache],
    layer: usize,
    [queries, keys, values]: &[Tensor; 3],
) -> Result<Tensor> {
    if let Some(number) = attention.host {
        let taken = batch.segments.iter().map(|segment| {
            let cache = &mut caches[segment.sequence].layers[layer];
            cache.take(segment.length)
        });
        let mut taken: Vec<HostSegment> = taken.collect();
        let rows = [queries.host()?, keys.host()?, values.host()?];
        let out = attention.on_host(number, &mut taken, rows)?;
        for (segment, taken) in batch.segments.iter().zip(taken) {
            caches[segment.sequence].layers[layer].put(taken);
        }
        return Ok(Tensor::Host(out));
    }
    let (queries, keys, values) =
        attention.turned(batch, queries.device()?, keys.device()?, values.device()?)?;
    let mut outputs = Vec::with_capacity(batch.segments.len());
    for segment in &batch.segments {
        let rows = segment.row as i32..(segment.row + segment.length) as i32;
        let part = |array: &Array| slice(array, 0, rows.clone());
        let cache = &mut caches[segment.sequence].layers[layer];
        let (keys, values) = cache.append(&part(&keys)?, &part(&values)?)?;
        outputs.push(attention.causal(&part(&queries)?, &keys, &values)?);
    }
    Ok(Tensor::Device(match outputs.as_slice() {
        [output] => output.clone(),
        outputs => ops::concatenate(outputs, 0)?,
    }))
}
