//! How a layer meets what it keeps of the sequences of a batch.

use super::{Layer, SequenceCache};
use crate::error::Result;
use crate::mlx::{Array, ops, slice};
use crate::ops::attention::{Attention, HostSegment};
use crate::ops::batch::Batch;
use crate::ops::delta::{GatedDelta, Projected};
use crate::ops::tensor::Tensor;

/// What one layer keeps of the sequences of a batch.
#[derive(Debug)]
pub struct LayerCaches<'a, 'c> {
    batch: &'a Batch,
    caches: &'a mut [&'c mut SequenceCache],
    layer: usize,
}

impl<'a, 'c> LayerCaches<'a, 'c> {
    /// Layer `layer` of the caches that the batch's segments name.
    pub fn new(batch: &'a Batch, caches: &'a mut [&'c mut SequenceCache], layer: usize) -> Self {
        Self {
            batch,
            caches,
            layer,
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
        &mut self,
        attention: &Attention,
        [queries, keys, values]: &[Tensor; 3],
    ) -> Result<Tensor> {
        let batch = self.batch;
        if let Some(number) = attention.host {
            let taken = batch.segments.iter().map(|segment| {
                let cache = &mut self.of(segment.sequence).keys;
                cache.take(segment.length, attention.window)
            });
            let mut taken: Vec<HostSegment> = taken.collect();
            let rows = [queries.host()?, keys.host()?, values.host()?];
            let out = attention.on_host(number, &mut taken, rows)?;
            for (segment, taken) in batch.segments.iter().zip(taken) {
                self.of(segment.sequence).keys.put(taken);
            }
            return Ok(Tensor::Host(out));
        }
        let (queries, keys, values) =
            attention.turned(batch, queries.device()?, keys.device()?, values.device()?)?;
        let mut outputs = Vec::with_capacity(batch.segments.len());
        for segment in &batch.segments {
            let rows = segment.row as i32..(segment.row + segment.length) as i32;
            let part = |array: &Array| slice(array, 0, rows.clone());
            let cache = &mut self.of(segment.sequence).keys;
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
    pub fn recur(&mut self, delta: &GatedDelta, projected: &Projected) -> Result<Tensor> {
        let batch = self.batch;
        if let Tensor::Host(_) = projected.mixed {
            let taken = batch.segments.iter().map(|segment| {
                let cache = &mut self.of(segment.sequence).state;
                (segment.length, cache.take_host())
            });
            let mut taken: Vec<_> = taken.collect();
            let out = delta.on_host(projected, &mut taken)?;
            for (segment, (rows, state)) in batch.segments.iter().zip(taken) {
                let cache = &mut self.of(segment.sequence).state;
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
            let cache = &mut self.of(segment.sequence).state;
            let (output, state) = delta.on_device(rows.each_ref(), cache.take_device())?;
            cache.put_device(segment.length, state);
            outputs.push(output);
        }
        end_to_end(&outputs)
    }

    fn of(&mut self, sequence: usize) -> &mut Layer {
        &mut self.caches[sequence].layers[self.layer]
    }
}

fn end_to_end(outputs: &[Array]) -> Result<Tensor> {
    Ok(Tensor::Device(match outputs {
        [output] => output.clone(),
        outputs => ops::concatenate(outputs, 0)?,
    }))
}
