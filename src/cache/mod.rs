//! What attention keeps of a sequence, layer by layer. Knows no text and no model's name.

mod kv;
mod recurrent;

pub use kv::KvCache;
pub use recurrent::RecurrentCache;

use crate::error::Result;
use crate::mlx::{Array, ops, slice};
use crate::ops::attention::{Attention, HostSegment};
use crate::ops::batch::Batch;
use crate::ops::delta::{GatedDelta, Projected};
use crate::ops::tensor::Tensor;

/// The state of one sequence: what each layer keeps, all of as many tokens.
#[derive(Debug, Default)]
pub struct SequenceCache {
    layers: Vec<Layer>,
}

/// What a layer keeps: one of both, the other stays empty.
#[derive(Debug, Default)]
struct Layer {
    keys: KvCache,
    state: RecurrentCache,
}

impl Layer {
    fn length(&self) -> usize {
        self.keys.length().max(self.state.length())
    }

    fn reaches(&self, length: usize) -> bool {
        self.keys.reaches(length) && [0, length].contains(&self.state.length())
    }
}

impl SequenceCache {
    /// An empty sequence of a model with so many layers.
    pub fn new(layers: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| Layer::default()).collect(),
        }
    }

    /// Tokens whose state is held.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, Layer::length)
    }

    /// Forgets everything after the first `length` tokens; says how many remain. It is none where a layer
    /// does not reach back so far.
    pub fn rewind(&mut self, length: usize) -> usize {
        let length = length.min(self.length());
        if !self.layers.iter().all(|layer| layer.reaches(length)) {
            self.layers.fill_with(Layer::default);
        }
        for layer in &mut self.layers {
            layer.keys.rewind(length);
        }
        self.length()
    }

    /// Bytes that one more token takes; 0 in an empty cache.
    pub fn bytes_per_token(&self) -> usize {
        let layers = self.layers.iter();
        layers.map(|layer| layer.keys.bytes_per_position()).sum()
    }

    /// The arrays that hold the state on a device: evaluated, they need no graph any more.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| layer.keys.arrays().chain(layer.state.arrays()))
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
            let cache = &mut caches[segment.sequence].layers[layer].keys;
            cache.take(segment.length, attention.window)
        });
        let mut taken: Vec<HostSegment> = taken.collect();
        let rows = [queries.host()?, keys.host()?, values.host()?];
        let out = attention.on_host(number, &mut taken, rows)?;
        for (segment, taken) in batch.segments.iter().zip(taken) {
            caches[segment.sequence].layers[layer].keys.put(taken);
        }
        return Ok(Tensor::Host(out));
    }
    let (queries, keys, values) =
        attention.turned(batch, queries.device()?, keys.device()?, values.device()?)?;
    let mut outputs = Vec::with_capacity(batch.segments.len());
    for segment in &batch.segments {
        let rows = segment.row as i32..(segment.row + segment.length) as i32;
        let part = |array: &Array| slice(array, 0, rows.clone());
        let cache = &mut caches[segment.sequence].layers[layer].keys;
        let values = if attention.values_in_keys {
            None
        } else {
            Some(part(&values)?)
        };
        let (keys, values) = cache.append(attention.window, &part(&keys)?, values.as_ref())?;
        outputs.push(attention.causal(&part(&queries)?, &keys, values.as_ref())?);
    }
    end_to_end(&outputs)
}

/// A gated delta layer over a whole batch: every segment goes on from its own sequence's state of this
/// layer. Gives `[T, Hv·Dv]`.
///
/// # Errors
/// What MLX says.
pub fn recur(
    delta: &GatedDelta,
    batch: &Batch,
    caches: &mut [&mut SequenceCache],
    layer: usize,
    projected: &Projected,
) -> Result<Tensor> {
    if let Tensor::Host(_) = projected.mixed {
        let taken = batch.segments.iter().map(|segment| {
            let cache = &mut caches[segment.sequence].layers[layer].state;
            (segment.length, cache.take_host())
        });
        let mut taken: Vec<_> = taken.collect();
        let out = delta.on_host(projected, &mut taken)?;
        for (segment, (rows, state)) in batch.segments.iter().zip(taken) {
            let cache = &mut caches[segment.sequence].layers[layer].state;
            cache.put_host(rows, state);
        }
        return Ok(out);
    }
    let Projected {
        mixed,
        gates,
        corrections,
        steps,
    } = projected;
    let mut outputs = Vec::with_capacity(batch.segments.len());
    for segment in &batch.segments {
        let rows = segment.row as i32..(segment.row + segment.length) as i32;
        let part = |tensor: &Tensor| slice(tensor.device()?, 0, rows.clone());
        let rows = [part(mixed)?, part(gates)?, part(corrections)?, part(steps)?];
        let cache = &mut caches[segment.sequence].layers[layer].state;
        let (output, state) = delta.on_device(rows.each_ref(), cache.take_device())?;
        cache.put_device(segment.length, state);
        outputs.push(output);
    }
    end_to_end(&outputs)
}

fn end_to_end(outputs: &[Array]) -> Result<Tensor> {
    Ok(Tensor::Device(match outputs {
        [output] => output.clone(),
        outputs => ops::concatenate(outputs, 0)?,
    }))
}
