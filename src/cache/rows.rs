//! Copies of keys and values: pieces that never change, so that runs are cut and joined without copying.

use std::ops::Range;
use std::sync::Arc;

use super::offloaded::Offloaded;
use super::store::StoredFile;
use super::trie;
use crate::error::Result;
use crate::mlx::{Array, slice};
use crate::ops::attention::{BLOCK, HostPage, STEP};

/// Keys and values of a run of positions in all layers that keep every position.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub(super) range: Range<usize>,
    /// In the order of these layers.
    pub(super) layers: Vec<LayerRows>,
    /// Where pieces lie that are not copied into memory.
    pub(super) sources: Vec<Arc<StoredFile>>,
}

/// Keys and values of a run of positions in one layer.
#[derive(Debug, Clone, Default)]
pub struct LayerRows {
    /// In order. The first may begin before the run and the last end behind it; where two overlap, the
    /// later one counts.
    pub(super) pieces: Vec<Piece>,
}

/// Some positions, where whoever computes wants them.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Host {
        range: Range<usize>,
        /// The first position of the page, which lies between two multiples of [`STEP`].
        first: usize,
        page: Arc<HostPage>,
    },
    /// `[1, Hkv, S, D]` each; no values where they are in the keys.
    Device {
        range: Range<usize>,
        keys: Array,
        values: Option<Array>,
    },
    /// The same, of the positions from `first` on: those of `range` are meant.
    Offloaded {
        range: Range<usize>,
        first: usize,
        keys: Arc<Offloaded>,
        values: Option<Arc<Offloaded>>,
    },
}

impl Rows {
    /// The first position.
    pub fn start(&self) -> usize {
        self.range.start
    }

    /// Keys and values that are on the device, layer after layer.
    #[cfg(test)]
    pub(crate) fn on_device(&self) -> Vec<Array> {
        let pieces = self.layers.iter().flat_map(|layer| &layer.pieces);
        let arrays = pieces.flat_map(|piece| match piece {
            Piece::Device { keys, values, .. } => vec![Some(keys), values.as_ref()],
            Piece::Host { .. } | Piece::Offloaded { .. } => Vec::new(),
        });
        arrays.flatten().cloned().collect()
    }
}

impl Piece {
    pub(super) fn range(&self) -> Range<usize> {
        match self {
            Self::Host { range, .. }
            | Self::Device { range, .. }
            | Self::Offloaded { range, .. } => range.clone(),
        }
    }

    /// Memory that it takes where sequences have theirs. What lies in a mapped file takes none that the system
    /// could not have back.
    fn bytes(&self) -> usize {
        match self {
            Self::Host { page, .. } if !page.is_own() => 0,
            Self::Host { range, page, .. } => range.len() * page.bytes_per_position(),
            Self::Device { keys, values, .. } => {
                keys.nbytes() + values.as_ref().map_or(0, Array::nbytes)
            }
            Self::Offloaded { .. } => 0,
        }
    }

    /// Memory of the host that it takes beside that.
    fn offloaded_bytes(&self) -> usize {
        match self {
            Self::Offloaded { keys, values, .. } => {
                keys.memory() + values.as_ref().map_or(0, |values| values.memory())
            }
            Self::Host { .. } | Self::Device { .. } => 0,
        }
    }

    /// Bytes of its positions, wherever they lie.
    fn stored_bytes(&self) -> usize {
        match self {
            Self::Host { range, page, .. } => range.len() * page.bytes_per_position(),
            Self::Device { .. } => self.bytes(),
            Self::Offloaded {
                range,
                keys,
                values,
                ..
            } => {
                let all = keys.bytes.len() + values.as_ref().map_or(0, |values| values.bytes.len());
                all / keys.positions().max(1) * range.len()
            }
        }
    }

    /// As a piece of a run that begins there, and of one that ends there.
    fn split(&self, at: usize) -> Option<[Self; 2]> {
        match self {
            // Both share it.
            Self::Host { .. } => Some([self.clone(), self.clone()]),
            Self::Offloaded {
                range,
                first,
                keys,
                values,
            } => {
                let part = |range: Range<usize>| Self::Offloaded {
                    range,
                    first: *first,
                    keys: Arc::clone(keys),
                    values: values.clone(),
                };
                Some([part(range.start..at), part(at..range.end)])
            }
            Self::Device {
                range,
                keys,
                values,
            } => {
                let part = |range: Range<usize>, start: usize| {
                    let places = (range.start - start) as i32..(range.end - start) as i32;
                    let of =
                        |array: &Array| slice(array, 2, places.clone()).ok()?.contiguous().ok();
                    let values = match values {
                        Some(values) => Some(of(values)?),
                        None => None,
                    };
                    let keys = of(keys)?;
                    crate::mlx::async_eval([&keys].into_iter().chain(&values)).ok()?;
                    Some(Self::Device {
                        range,
                        keys,
                        values,
                    })
                };
                Some([
                    part(range.start..at, range.start)?,
                    part(at..range.end, range.start)?,
                ])
            }
        }
    }
}

/// The pages of the kernels' cache that have positions of a run.
pub(super) fn pages_of(run: Range<usize>) -> impl Iterator<Item = usize> {
    (run.start / STEP * STEP..run.end).step_by(STEP)
}

/// One page of the kernels' cache that holds positions `from..end`, out of pieces; one of these as it is,
/// where it does.
pub(super) fn page_of(
    pieces: &[&Piece],
    first: usize,
    from: usize,
    end: usize,
    own: Option<&Arc<HostPage>>,
) -> Result<Arc<HostPage>> {
    let within = pieces.iter().filter_map(|piece| match piece {
        Piece::Host {
            range,
            first: place,
            page,
        } if range.start < end && range.end > from => Some((range, *place, page)),
        _ => None,
    });
    let within: Vec<_> = within.collect();
    let whole = within.iter().rev().find(|(range, place, page)| {
        *place == first && page.count == STEP && range.start <= first && range.end >= end
    });
    if let Some((.., page)) = whole {
        return Ok(Arc::clone(page));
    }
    let (.., any) = within.first().ok_or_else(super::other_layers)?;
    let mut made = HostPage::new(any.heads, any.bytes)?;
    if let Some(own) = own {
        made.paste(0, own, 0..(from - first).next_multiple_of(BLOCK));
    }
    for (range, place, page) in within {
        // Blocks that are only begun are as good in a later piece, and hold more.
        let begin = range.start.max(first) / BLOCK * BLOCK;
        let end = range.end.min(first + STEP).next_multiple_of(BLOCK);
        made.paste(begin - first, page, begin - place..end - place);
    }
    Ok(Arc::new(made))
}

impl LayerRows {
    /// Memory of all pieces where sequences have theirs.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(Piece::bytes).sum()
    }

    /// Memory of the host that they take beside that.
    pub(super) fn offloaded_bytes(&self) -> usize {
        self.pieces.iter().map(Piece::offloaded_bytes).sum()
    }

    /// Bytes of all pieces, wherever they lie.
    pub(super) fn stored_bytes(&self) -> usize {
        self.pieces.iter().map(Piece::stored_bytes).sum()
    }

    fn split(self, at: usize) -> Option<[Self; 2]> {
        let (mut above, mut below) = (Self::default(), Self::default());
        for piece in self.pieces {
            if piece.range().end <= at {
                above.pieces.push(piece);
            } else if piece.range().start >= at {
                below.pieces.push(piece);
            } else {
                let [upper, lower] = piece.split(at)?;
                above.pieces.push(upper);
                below.pieces.push(lower);
            }
        }
        Some([above, below])
    }

    fn join(mut self, mut next: Self) -> Self {
        // What the later run holds of the same positions is as good, and holds more.
        if let (Some(last), Some(first)) = (self.pieces.last(), next.pieces.first())
            && first.range().start <= last.range().start
        {
            self.pieces.pop();
        }
        self.pieces.append(&mut next.pieces);
        self
    }
}

impl trie::Rows for Rows {
    fn bytes(&self) -> usize {
        self.layers.iter().map(LayerRows::bytes).sum()
    }

    fn offloaded_bytes(&self) -> usize {
        self.layers.iter().map(LayerRows::offloaded_bytes).sum()
    }

    fn split(self, at: usize) -> Option<(Self, Self)> {
        let layers = self.layers.into_iter().map(|layer| layer.split(at));
        let layers: Vec<[LayerRows; 2]> = layers.collect::<Option<_>>()?;
        let (above, below) = layers
            .into_iter()
            .map(|[above, below]| (above, below))
            .unzip();
        let part = |range, layers| Self {
            range,
            layers,
            sources: self.sources.clone(),
        };
        Some((
            part(self.range.start..at, above),
            part(at..self.range.end, below),
        ))
    }

    fn join(self, next: Self) -> Option<Self> {
        let layers = self.layers.into_iter().zip(next.layers);
        let mut sources = self.sources;
        for source in next.sources {
            if !sources.iter().any(|known| Arc::ptr_eq(known, &source)) {
                sources.push(source);
            }
        }
        Some(Self {
            sources,
            range: self.range.start..next.range.end,
            layers: layers.map(|(above, below)| above.join(below)).collect(),
        })
    }
}
