//! How a layer meets what it keeps of the sequences of a batch.

use super::{KvCache, Layer, RecurrentCache, SequenceCache};
use crate::error::{Error, Result};
use crate::mlx::{Array, slice};
use crate::ops::attention::{Attention, HostSegment};
use crate::ops::batch::{Batch, Segment};
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
                let cache = self.keys(segment.sequence)?;
                Ok(cache.take(segment.length))
            });
            let mut taken: Vec<HostSegment> = taken.collect::<Result<_>>()?;
            let rows = [queries.host()?, keys.host()?, values.host()?];
            let out = attention.on_host(number, &mut taken, rows)?;
            for (segment, taken) in batch.segments.iter().zip(taken) {
                self.keys(segment.sequence)?.put(taken);
            }
            return Ok(Tensor::Host(out));
        }
        let (queries, keys, values) =
            attention.turned(batch, queries.device()?, keys.device()?, values.device()?)?;
        let mut outputs = Vec::with_capacity(batch.segments.len());
        for segment in &batch.segments {
            let rows = segment.row as i32..(segment.row + segment.length) as i32;
            let part = |array: &Array| slice(array, 0, rows.clone());
            let cache = self.keys(segment.sequence)?;
            let values = if attention.values_in_keys {
                None
            } else {
                Some(part(&values)?)
            };
            let (keys, values) = cache.append(&part(&keys)?, values.as_ref())?;
            let output = attention.causal(&part(&queries)?, &keys, values.as_ref())?;
            outputs.push(Tensor::Device(output));
        }
        Tensor::end_to_end(outputs)
    }

    /// A gated delta layer over a whole batch: every segment goes on from its own sequence's state of this
    /// layer. Gives `[T, Hv·Dv]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn recur(&mut self, delta: &GatedDelta, projected: &Projected) -> Result<Tensor> {
        let is_host = matches!(projected.mixed, Tensor::Host(_));
        let batch = self.batch;
        if is_host
            && batch
                .segments
                .iter()
                .all(|segment| segment.captures.is_empty())
        {
            return self.recur_on_host(delta, projected, &batch.segments);
        }
        let mut outputs = Vec::new();
        for part in batch.segments.iter().flat_map(Segment::parts) {
            let rows = projected.rows(part.row..part.row + part.length)?;
            let output = if is_host {
                self.recur_on_host(delta, &rows, std::slice::from_ref(&part))?
            } else {
                self.recur_on_device(delta, &rows, &part)?
            };
            outputs.push(output);
            if !part.captures.is_empty() {
                self.state(part.sequence)?.capture();
            }
        }
        Tensor::end_to_end(outputs)
    }

    fn recur_on_host(
        &mut self,
        delta: &GatedDelta,
        projected: &Projected,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let taken = segments.iter().map(|segment| {
            let cache = self.state(segment.sequence)?;
            Ok((segment.length, cache.take_host()))
        });
        let mut taken: Vec<_> = taken.collect::<Result<_>>()?;
        let out = delta.on_host(projected, &mut taken)?;
        for (segment, (rows, state)) in segments.iter().zip(taken) {
            self.state(segment.sequence)?.put_host(rows, state);
        }
        Ok(out)
    }

    fn recur_on_device(
        &mut self,
        delta: &GatedDelta,
        projected: &Projected,
        segment: &Segment,
    ) -> Result<Tensor> {
        let cache = self.state(segment.sequence)?;
        let Projected {
            mixed,
            gates,
            corrections,
            steps,
        } = projected;
        let rows = [mixed, gates, corrections, steps].map(Tensor::device);
        let [mixed, gates, corrections, steps] = rows;
        let rows = [mixed?, gates?, corrections?, steps?];
        let (output, state) = delta.on_device(rows, cache.take_device())?;
        cache.put_device(segment.length, state);
        Ok(Tensor::Device(output))
    }

    fn keys(&mut self, sequence: usize) -> Result<&mut KvCache> {
        let cache = &mut *self.caches[sequence];
        cache.appended();
        match &mut cache.layers[self.layer] {
            Layer::Keys(cache) => Ok(cache),
            Layer::State(_) => Err(other_kind()),
        }
    }

    fn state(&mut self, sequence: usize) -> Result<&mut RecurrentCache> {
        match &mut self.caches[sequence].layers[self.layer] {
            Layer::State(cache) => Ok(cache),
            Layer::Keys(_) => Err(other_kind()),
        }
    }
}

fn other_kind() -> Error {
    Error::Mlx("a layer keeps another kind of state than it computes with".to_owned())
}
