//! State of a device that is not used for a while: in the host's memory, or in a file.

use std::sync::Arc;

use super::checkpoint::{Checkpoint, LayerCheckpoint};
use super::recurrent::State;
use super::rows::{LayerRows, Piece, Rows};
use crate::error::Result;
use crate::mlx::{Array, Dtype, array_of_bytes, slice, with_bytes};
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
    /// A copy of an array.
    fn of(array: &Array) -> Result<Self> {
        let mut copy = HostBytes::new(array.nbytes().max(1))?;
        if let HostBytes::Own(memory, _) = &mut copy {
            with_bytes(array, |bytes| memory[..bytes.len()].copy_from_slice(bytes))?;
        }
        Ok(Self {
            dtype: array.dtype(),
            shape: array.shape().iter().map(|&size| size as usize).collect(),
            bytes: copy,
        })
    }

    /// A copy on the device.
    pub(super) fn array(&self) -> Result<Array> {
        array_of_bytes(&self.bytes, &self.shape, self.dtype)
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
    let mut pieces = Vec::new();
    let mut start = first;
    while start < end {
        let next = ((start / TOGETHER + 1) * TOGETHER).min(end);
        let places = (start - first) as i32..(next - first) as i32;
        let part = |array: &Array| -> Result<Arc<Offloaded>> {
            let part = slice(array, 2, places.clone())?;
            Ok(Arc::new(Offloaded::of(&part)?))
        };
        pieces.push(Piece::Offloaded {
            range: start..next,
            first: start,
            keys: part(keys)?,
            values: values.map(part).transpose()?,
        });
        start = next;
    }
    Ok(pieces)
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
                LayerCheckpoint::State(State::Device([first, second])) => {
                    let parts = [Offloaded::of(first)?, Offloaded::of(second)?];
                    LayerCheckpoint::State(State::Offloaded(parts.map(Arc::new)))
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
