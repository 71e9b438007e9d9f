//! Keys and values of one layer of one sequence, growing at the end; any suffix can be forgotten.

mod in_place;

pub use in_place::{Place, Places};

use std::ops::Range;
use std::sync::Arc;

use super::offloaded::pieces_of;
use super::rows::{LayerRows, Piece, page_of, pages_of};
use crate::error::Result;
use crate::mlx::{Array, Dtype, Staging, async_eval, eval, ops, slice, slice_update};
use crate::ops::attention::{self, HostCache, HostSegment};

const STEP: i32 = attention::STEP as i32;

/// Buffers that hold the sequence from some position on. Where attention looks back on a window, what is
/// before it goes when the buffers are full.
#[derive(Debug, Default)]
pub struct KvCache {
    buffers: Buffers,
    /// Positions of the sequence.
    length: i32,
    /// Those of them that are gone, the first ones.
    start: i32,
    /// How many positions a query sees, its own included.
    window: Option<usize>,
}

/// Keys and values, where whoever computes wants them.
#[derive(Debug, Default)]
enum Buffers {
    #[default]
    Empty,
    /// `[1, Hkv, capacity, D]` each; no values where they are in the keys.
    Device(Array, Option<Array>),
    Host(HostCache),
}

impl KvCache {
    /// An empty one, where a query sees so many positions, if not all.
    pub fn new(window: Option<usize>) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    /// How many positions a query sees, if not all.
    pub fn window(&self) -> Option<usize> {
        self.window
    }

    /// Positions held.
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// Whether everything that a query after the first `length` positions sees is there.
    pub fn reaches(&self, length: usize) -> bool {
        let seen = self.window.map_or(length, |window| length.min(window - 1));
        length - seen >= self.start as usize
    }

    /// Forgets what comes after the first `length` positions, which are within [`Self::reaches`]. The
    /// buffers keep their size, and the forgotten part is overwritten by what comes next.
    pub fn rewind(&mut self, length: usize) {
        self.length = self.length.min(length as i32);
    }

    /// The arrays that hold the state on a device.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let arrays = match &self.buffers {
            Buffers::Device(keys, values) => [Some(keys), values.as_ref()],
            Buffers::Empty | Buffers::Host(_) => [None, None],
        };
        arrays.into_iter().flatten()
    }

    /// Memory of the buffers.
    pub fn bytes(&self) -> usize {
        match &self.buffers {
            Buffers::Host(cache) => cache.bytes(),
            Buffers::Empty | Buffers::Device(..) => self.arrays().map(Array::nbytes).sum(),
        }
    }

    /// Bytes of one position.
    pub fn bytes_per_position(&self) -> usize {
        if let Buffers::Host(cache) = &self.buffers {
            return cache.bytes_per_position();
        }
        let per_position = |buffer: &Array| buffer.nbytes() / (buffer.shape()[2] as usize).max(1);
        self.arrays().map(per_position).sum()
    }

    /// Appends `[L, Hkv, D]` each; gives the keys and values that the new rows see, `[1, Hkv, S, D]`. There
    /// are no values where they are in the keys.
    ///
    /// # Errors
    /// What MLX says.
    pub fn append(
        &mut self,
        keys: &Array,
        values: Option<&Array>,
    ) -> Result<(Array, Option<Array>)> {
        let end = self.length + keys.shape()[0];
        let seen = self.first_seen();
        let start = self.start_with(keys.shape()[0]);
        let (old_keys, old_values) = match std::mem::take(&mut self.buffers) {
            Buffers::Device(keys, values) => (Some(keys), values),
            Buffers::Empty | Buffers::Host(_) => (None, None),
        };
        let keys = self.write(old_keys, keys, start)?;
        let values = match values {
            Some(values) => Some(self.write(old_values, values, start)?),
            None => None,
        };
        (self.length, self.start) = (end, start);
        let seen = seen - start..end - start;
        let seen_values = match &values {
            Some(values) => Some(slice(values, 2, seen.clone())?),
            None => None,
        };
        let views = (slice(&keys, 2, seen)?, seen_values);
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
            start: self.start as usize,
            cache,
        }
    }

    /// Puts back what [`Self::take`] gave, with its rows appended.
    pub fn put(&mut self, segment: HostSegment) {
        self.length += segment.rows as i32;
        self.start = segment.start as i32;
        self.buffers = Buffers::Host(segment.cache);
    }

    /// A copy of the keys and values of a run of positions, which are held.
    ///
    /// # Errors
    /// What MLX says.
    pub(super) fn copy(&self, run: Range<usize>) -> Result<LayerRows> {
        let start = self.start as usize;
        let base = start / attention::STEP * attention::STEP;
        let pieces = match &self.buffers {
            Buffers::Empty => Vec::new(),
            // What is shared is not written any more: whoever goes on copies it first.
            Buffers::Host(cache) => pages_of(run.clone())
                .zip(&cache.pages()[(run.start - base) / attention::STEP..])
                .map(|(first, page)| Piece::Host {
                    range: first.max(start)..run.end.min(first + attention::STEP),
                    first,
                    page: Arc::clone(page),
                })
                .collect(),
            Buffers::Device(keys, values) => {
                let places = (run.start - start) as i32..(run.end - start) as i32;
                let copy = |buffer: &Array| -> Result<Array> {
                    Ok(slice(buffer, 2, places.clone())?.contiguous()?)
                };
                let keys = copy(keys)?;
                let values = values.as_ref().map(copy).transpose()?;
                // At once: as long as the copy waits, the buffer cannot be written in place.
                async_eval([&keys].into_iter().chain(&values))?;
                vec![Piece::Device {
                    range: run,
                    keys,
                    values,
                }]
            }
        };
        Ok(LayerRows { pieces })
    }

    /// The same, off the device.
    ///
    /// # Errors
    /// What MLX says.
    pub(super) fn offload(&self, run: Range<usize>) -> Result<LayerRows> {
        let Buffers::Device(keys, values) = &self.buffers else {
            return self.copy(run);
        };
        let start = self.start as usize;
        let places = (run.start - start) as i32..(run.end - start) as i32;
        let part = |buffer: &Array| slice(buffer, 2, places.clone());
        let values = values.as_ref().map(part).transpose()?;
        let pieces = pieces_of(run.start, &part(keys)?, values.as_ref())?;
        Ok(LayerRows { pieces })
    }

    /// Goes on from the first `kept` positions, which are held, with copied ones up to `length`.
    ///
    /// # Errors
    /// What MLX says.
    pub(super) fn paste(
        &mut self,
        kept: usize,
        rows: &[&LayerRows],
        length: usize,
        staging: &mut Staging,
    ) -> Result<()> {
        let pieces = rows.iter().flat_map(|rows| &rows.pieces);
        let pieces = pieces.filter(|piece| {
            let range = piece.range();
            range.end > kept && range.start < length
        });
        let pieces: Vec<&Piece> = pieces.collect();
        self.length = kept as i32;
        let Some(first) = pieces.first() else {
            return Ok(());
        };
        if kept == 0 {
            self.buffers = Buffers::Empty;
            self.start = first.range().start as i32;
        }
        match first {
            Piece::Host { .. } => self.paste_host(&pieces, length)?,
            Piece::Device { .. } | Piece::Offloaded { .. } => {
                self.paste_device(&pieces, length, staging)?;
            }
        }
        self.length = length as i32;
        Ok(())
    }

    fn paste_host(&mut self, pieces: &[&Piece], length: usize) -> Result<()> {
        let mut segment = self.take(0);
        let base = segment.base();
        let kept = segment.length.max(segment.start);
        let own = segment.cache.pages();
        let whole = ((kept - base) / attention::STEP).min(own.len());
        let mut pages = own[..whole].to_vec();
        let begun = own
            .get(whole)
            .filter(|_| kept > base + whole * attention::STEP);
        for first in pages_of(base + whole * attention::STEP..length) {
            let from = kept.max(first);
            let end = length.min(first + attention::STEP);
            let begun = begun.filter(|_| from > first);
            pages.push(page_of(pieces, first, from, end, begun)?);
        }
        segment.cache = HostCache::of_pages(pages);
        self.put(segment);
        Ok(())
    }

    fn paste_device(
        &mut self,
        pieces: &[&Piece],
        length: usize,
        staging: &mut Staging,
    ) -> Result<()> {
        let mut at = self.length.max(self.start);
        let (mut all_keys, mut all_values) = (Vec::new(), Vec::new());
        if let Buffers::Device(keys, values) = std::mem::take(&mut self.buffers) {
            let held = ..at - self.start;
            all_keys.push(slice(&keys, 2, held)?);
            if let Some(values) = values {
                all_values.push(slice(&values, 2, held)?);
            }
        }
        let offloaded = pieces.iter().filter_map(|piece| match piece {
            Piece::Offloaded { keys, values, .. } => Some((keys, values)),
            Piece::Host { .. } | Piece::Device { .. } => None,
        });
        let offloaded = offloaded.flat_map(|(keys, values)| [Some(keys), values.as_ref()]);
        let offloaded: Vec<_> = offloaded.flatten().map(|array| array.parts()).collect();
        let mut back = staging.put(&offloaded)?.into_iter();
        for piece in pieces {
            let (first, keys, values) = match piece {
                Piece::Device {
                    range,
                    keys,
                    values,
                } => (range.start, Some(keys.clone()), values.clone()),
                Piece::Offloaded { first, values, .. } => {
                    let keys = back.next();
                    (*first, keys, values.as_ref().and_then(|_| back.next()))
                }
                Piece::Host { .. } => (0, None, None),
            };
            let keys = keys.ok_or_else(super::other_layers)?;
            let first = first as i32;
            let end = piece.range().end.min(length) as i32;
            let new = at - first..end - first;
            all_keys.push(slice(&keys, 2, new.clone())?);
            if let Some(values) = values {
                all_values.push(slice(&values, 2, new)?);
            }
            at = end;
        }
        // As far as steps make it grow: the next one is then written in place.
        let held = at - self.start;
        let room = (held + STEP - 1) / STEP * STEP - held;
        let whole = |mut parts: Vec<Array>| -> Result<Option<Array>> {
            let Some(last) = parts.last() else {
                return Ok(None);
            };
            let &[one, heads, _, width] = last.shape() else {
                return Ok(None);
            };
            if room > 0 {
                parts.push(ops::zeros_dtype(&[one, heads, room, width], last.dtype())?);
            }
            Ok(Some(ops::concatenate(&parts, 2)?))
        };
        let values = whole(all_values)?;
        if let Some(keys) = whole(all_keys)? {
            let both = [&keys].into_iter().chain(&values);
            if offloaded.is_empty() {
                async_eval(both)?;
            } else {
                // Waited for: the next layer comes through the same memory.
                eval(both)?;
            }
            self.buffers = Buffers::Device(keys, values);
        }
        Ok(())
    }

    /// The first position that a row after the first `length` sees.
    fn first_seen(&self) -> i32 {
        self.window
            .map_or(0, |window| (self.length - (window as i32 - 1)).max(0))
    }

    /// The first position that is held once so many rows are appended.
    fn start_with(&self, rows: i32) -> i32 {
        // Both buffers are full at the same time.
        let capacity = self.arrays().next().map_or(0, |buffer| buffer.shape()[2]);
        if self.length + rows - self.start <= capacity {
            self.start
        } else {
            self.first_seen()
        }
    }

    /// What `buffer` holds from `start` on, with room for so many more rows.
    fn grown(&self, buffer: &Array, rows: i32, start: i32) -> Result<Array> {
        let &[_, heads, _, width] = buffer.shape() else {
            return Err(super::other_layers());
        };
        let kept = start - self.start..self.length - self.start;
        let room = room([heads, width], rows, buffer.dtype())?;
        Ok(ops::concatenate(&[slice(buffer, 2, kept)?, room], 2)?)
    }

    /// `buffer` with `rows` `[L, Hkv, D]` written after the first `length` positions. Positions before
    /// `start` go.
    fn write(&self, buffer: Option<Array>, rows: &Array, start: i32) -> Result<Array> {
        let rows = rows.transpose_axes(&[1, 0, 2])?.expand_dims(0)?;
        let &[_, heads, added, width] = rows.shape() else {
            return Err(crate::Error::Mlx(
                "keys and values are [L, H, D]".to_owned(),
            ));
        };
        let (held, end) = (self.length - start, self.length + added - start);
        let capacity = buffer.as_ref().map_or(0, |buffer| buffer.shape()[2]);
        let buffer = match buffer {
            Some(buffer) if start == self.start && end <= capacity => buffer,
            Some(buffer) => self.grown(&buffer, added, start)?,
            None => room([heads, width], added, rows.dtype())?,
        };
        // The only handle: MLX writes in place once the views of the last step are gone.
        slice_update(&buffer, &rows, 2, held..end)
    }
}

/// Zeros for so many rows, and up to a whole step.
fn room([heads, width]: [i32; 2], rows: i32, dtype: Dtype) -> Result<Array> {
    let rows = (rows + STEP - 1) / STEP * STEP;
    Ok(ops::zeros_dtype(&[1, heads, rows, width], dtype)?)
}
