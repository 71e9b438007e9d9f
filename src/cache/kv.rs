//! Keys and values of one layer of one sequence, growing at the end; any suffix can be forgotten.

use crate::error::Result;
use crate::mlx::{Array, ops, slice, slice_update};
use crate::ops::attention::HostCache;

/// Positions by which the buffers grow (reference: 256).
const STEP: i32 = 256;

/// Buffers `[1, Hkv, capacity, D]` whose first `length` positions hold the sequence.
#[derive(Debug, Default)]
pub struct KvCache {
    buffers: Option<(Array, Array)>,
    length: i32,
}

impl KvCache {
    /// Positions held.
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// Forgets what comes after the first `length` positions. The buffers keep their size, and the
    /// forgotten part is overwritten by what comes next.
    pub fn rewind(&mut self, length: usize) {
        self.length = self.length.min(length as i32);
    }

    /// The buffers.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.buffers
            .iter()
            .flat_map(|(keys, values)| [keys, values])
    }

    /// Appends `[L, Hkv, D]` each; gives all keys and all values, `[1, Hkv, length, D]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let end = self.length + keys.shape()[0];
        let (old_keys, old_values) = self
            .buffers
            .take()
            .map_or((None, None), |(keys, values)| (Some(keys), Some(values)));
        let keys = self.write(old_keys, keys)?;
        let values = self.write(old_values, values)?;
        self.length = end;
        let views = (slice(&keys, 2, ..end)?, slice(&values, 2, ..end)?);
        self.buffers = Some((keys, values));
        Ok(views)
    }

    /// Hands the buffers out for a step of the kernels that appends so many rows; what the step
    /// gives is to be put back by [`Self::put`].
    pub fn take(&mut self, rows: usize) -> HostCache {
        let capacity = |buffer: &Array| buffer.shape()[2] as usize;
        let old = self.buffers.take();
        let old = old.map(|(keys, values)| {
            let capacity = capacity(&keys);
            (keys, values, capacity)
        });
        let (length, room) = (self.length(), old.as_ref().map_or(0, |(_, _, room)| *room));
        let capacity = if length + rows <= room {
            room
        } else {
            (length + rows).next_multiple_of(STEP as usize)
        };
        HostCache {
            rows,
            length,
            old,
            capacity,
        }
    }

    /// Puts back what became of the buffers of [`Self::take`], with so many rows more.
    pub fn put(&mut self, buffers: (Array, Array), rows: usize) {
        self.length += rows as i32;
        self.buffers = Some(buffers);
    }

    /// `buffer` with `rows` `[L, Hkv, D]` written after the first `length` positions.
    fn write(&self, buffer: Option<Array>, rows: &Array) -> Result<Array> {
        let rows = rows.transpose_axes(&[1, 0, 2])?.expand_dims(0)?;
        let &[_, heads, added, width] = rows.shape() else {
            return Err(crate::Error::Mlx(
                "keys and values are [L, H, D]".to_owned(),
            ));
        };
        let end = self.length + added;
        let capacity = buffer.as_ref().map_or(0, |buffer| buffer.shape()[2]);
        let buffer = if end <= capacity {
            buffer
        } else {
            let grown = (end - self.length + STEP - 1) / STEP * STEP;
            let room = ops::zeros_dtype(&[1, heads, grown, width], rows.dtype())?;
            match buffer {
                Some(buffer) => Some(ops::concatenate(
                    &[slice(&buffer, 2, ..self.length)?, room],
                    2,
                )?),
                None => Some(room),
            }
        };
        match buffer {
            // The only handle: MLX writes in place once the views of the last step are gone.
            Some(buffer) => slice_update(&buffer, &rows, 2, self.length..end),
            None => Ok(rows),
        }
    }
}
