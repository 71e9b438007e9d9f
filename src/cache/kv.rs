//! Keys and values of one layer of one sequence, growing at the end; any suffix can be forgotten.

use crate::error::Result;
use crate::mlx::{Array, ops, slice, slice_update};
use crate::ops::attention::{self, HostCache, HostSegment};

const STEP: i32 = attention::STEP as i32;

/// Buffers whose first `length` positions hold the sequence.
#[derive(Debug, Default)]
pub struct KvCache {
    buffers: Buffers,
    length: i32,
}

/// Keys and values, where whoever computes wants them.
#[derive(Debug, Default)]
enum Buffers {
    #[default]
    Empty,
    /// `[1, Hkv, capacity, D]` each.
    Device(Array, Array),
    Host(HostCache),
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

    /// The arrays that hold the state on a device.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let arrays = match &self.buffers {
            Buffers::Device(keys, values) => Some([keys, values]),
            Buffers::Empty | Buffers::Host(_) => None,
        };
        arrays.into_iter().flatten()
    }

    /// Bytes of one position.
    pub fn bytes_per_position(&self) -> usize {
        if let Buffers::Host(cache) = &self.buffers {
            return cache.bytes_per_position();
        }
        let per_position = |buffer: &Array| buffer.nbytes() / (buffer.shape()[2] as usize).max(1);
        self.arrays().map(per_position).sum()
    }

    /// Appends `[L, Hkv, D]` each; gives all keys and all values, `[1, Hkv, length, D]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let end = self.length + keys.shape()[0];
        let (old_keys, old_values) = match std::mem::take(&mut self.buffers) {
            Buffers::Device(keys, values) => (Some(keys), Some(values)),
            Buffers::Empty | Buffers::Host(_) => (None, None),
        };
        let keys = self.write(old_keys, keys)?;
        let values = self.write(old_values, values)?;
        self.length = end;
        let views = (slice(&keys, 2, ..end)?, slice(&values, 2, ..end)?);
        self.buffers = Buffers::Device(keys, values);
        Ok(views)
    }

    /// Hands the buffers out for a step of the kernels that appends so many rows, to be put back by
    /// [`Self::put`].
    pub fn take(&mut self, rows: usize) -> HostSegment {
        let cache = match std::mem::take(&mut self.buffers) {
            Buffers::Host(cache) => cache,
            Buffers::Empty | Buffers::Device(..) => HostCache::default(),
        };
        HostSegment {
            rows,
            length: self.length(),
            cache,
        }
    }

    /// Puts back what [`Self::take`] gave, with its rows appended.
    pub fn put(&mut self, segment: HostSegment) {
        self.length += segment.rows as i32;
        self.buffers = Buffers::Host(segment.cache);
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
