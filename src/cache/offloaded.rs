//! State of a device that is not used for a while: in the host's memory, or in a file.

use std::ops::Range;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, LayerCheckpoint};
use super::recurrent::State;
use super::rows::{LayerRows, Piece, Rows};
use crate::error::Result;
use crate::mlx::{Array, Dtype, array_of_bytes, copy, slice, with_bytes};
use crate::ops::attention::HostBytes;

/// Positions of an array of keys or values that leave the device together: as much is brought back where some
/// of them are needed.
const TOGETHER: usize = 1024;

/// An array that is not on its device.
#[derive(Debug)]
pub(super) struct Offloaded {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: HostBytes,
}

impl Offloaded {
    /// Copies of arrays.
    fn of(arrays: &[Array]) -> Result<Vec<Self>> {
        let memory = arrays
            .iter()
            .map(|array| HostBytes::new(array.nbytes().max(1)));
        let mut memory: Vec<HostBytes> = memory.collect::<Result<_>>()?;
        let own = memory.iter_mut().filter_map(|bytes| match bytes {
            HostBytes::Own(memory, _) => Some(&mut **memory),
            HostBytes::Mapped(_) => None,
        });
        let own = own.collect();
        with_bytes(arrays, |bytes| copy(own, bytes))?;
        let copies = arrays.iter().zip(memory).map(|(array, bytes)| Self {
            dtype: array.dtype(),
            shape: array.shape().iter().map(|&size| size as usize).collect(),
            bytes,
        });
        Ok(copies.collect())
    }

    /// A copy on the device.
    pub(super) fn array(&self) -> Result<Array> {
        array_of_bytes(&self.bytes, &self.shape, self.dtype)
    }

    /// Its bytes, its shape and the type of its numbers.
    pub(super) fn parts(&self) -> (&[u8], &[usize], Dtype) {
        (&self.bytes, &self.shape, self.dtype)
    }

    /// Positions of keys or values.
    pub(super) fn positions(&self) -> usize {
        self.shape.get(2).copied().unwrap_or(0)
    }

    /// The host's memory that it takes.
    pub(super) fn memory(&self) -> usize {
        match self.bytes {
            HostBytes::Own(..) => self.bytes.len(),
            HostBytes::Mapped(_) => 0,
        }
    }
}

/// Pieces off the device, of keys and values `[1, Hkv, S, D]` of the positions from `first` on.
pub(super) fn pieces_of(first: usize, keys: &Array, values: Option<&Array>) -> Result<Vec<Piece>> {
    let end = first + keys.shape()[2] as usize;
    let starts = (first / TOGETHER..end.div_ceil(TOGETHER)).map(|index| index * TOGETHER);
    let ranges = starts.map(|start| start.max(first)..end.min(start + TOGETHER));
    let ranges: Vec<Range<usize>> = ranges.collect();
    let part = |array: &Array, range: &Range<usize>| {
        let places = (range.start - first) as i32..(range.end - first) as i32;
        slice(array, 2, places)
    };
    let mut parts = Vec::with_capacity(2 * ranges.len());
    for array in std::iter::once(keys).chain(values) {
        for range in &ranges {
            parts.push(part(array, range)?);
        }
    }
    let mut copies = Offloaded::of(&parts)?.into_iter().map(Arc::new);
    let keys: Vec<_> = copies.by_ref().take(ranges.len()).collect();
    let mut values = copies;
    let pieces = ranges
        .into_iter()
        .zip(keys)
        .map(|(range, keys)| Piece::Offloaded {
            first: range.start,
            range,
            keys,
            values: values.next(),
        });
    Ok(pieces.collect())
}

impl LayerRows {
    fn offload(&self) -> Result<Self> {
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece {
                Piece::Device {
                    range,
                    keys,
                    values,
                } => pieces.extend(pieces_of(range.start, keys, values.as_ref())?),
                Piece::Host { .. } | Piece::Offloaded { .. } => pieces.push(piece.clone()),
            }
        }
        Ok(Self { pieces })
    }
}

impl Rows {
    /// A copy of them off the device.
    ///
    /// # Errors
    /// What MLX says.
    pub fn offload(&self) -> Result<Self> {
        let layers = self.layers.iter().map(LayerRows::offload);
        Ok(Self {
            range: self.range.clone(),
            layers: layers.collect::<Result<_>>()?,
            sources: self.sources.clone(),
        })
    }
}

impl Checkpoint {
    /// A copy of it off the device.
    ///
    /// # Errors
    /// What MLX says.
    pub fn offload(&self) -> Result<Self> {
        let layers = self.layers.iter().map(|layer| {
            Ok(match layer {
                LayerCheckpoint::Window {
                    rows,
                    start,
                    window,
                } => LayerCheckpoint::Window {
                    rows: rows.offload()?,
                    start: *start,
                    window: *window,
                },
                LayerCheckpoint::State(State::Device(arrays)) => {
                    let copies = Offloaded::of(arrays)?.into_iter().map(Arc::new);
                    let copies = <[_; 2]>::try_from(copies.collect::<Vec<_>>());
                    let copies = copies.map_err(|_| super::other_layers())?;
                    LayerCheckpoint::State(State::Offloaded(copies))
                }
                LayerCheckpoint::State(state) => LayerCheckpoint::State(state.clone()),
            })
        });
        Ok(Self {
            position: self.position,
            layers: layers.collect::<Result<_>>()?,
            source: self.source.clone(),
        })
    }
}
