//! Keys and values of one sequence in one layer, in plain memory: for the kernels of the CPU.

use std::ops::Range;
use std::sync::Arc;

use super::STEP;
use crate::kernels::matrix::Part;

/// Positions that lie together in some formats, and are kept and copied together in all.
const BLOCK: usize = 8;

/// Keys and values of one sequence in one layer, for the kernels of the CPU.
#[derive(Debug, Default)]
pub struct HostCache {
    /// Positions that there is room for, a multiple of [`STEP`].
    pub(super) capacity: usize,
    /// `[Hkv, capacity]` rows of D.
    pub(super) keys: Vec<u8>,
    /// `[Hkv, capacity]` rows of Dv.
    pub(super) values: Vec<u8>,
    /// Of what is cached.
    heads: usize,
    /// Bytes of a key, and of a value.
    bytes: [usize; 2],
}

/// A segment's part in an attention of the kernels.
#[derive(Debug)]
pub struct HostSegment {
    /// Rows that are appended.
    pub rows: usize,
    /// Positions of the sequence before.
    pub length: usize,
    /// Of these, the first that nobody looks back on: they are not in the cache any more. A multiple of
    /// 8.
    pub start: usize,
    /// Keys and values of the others.
    pub cache: HostCache,
}

impl HostSegment {
    /// Makes room for the new rows of so many heads, of so many bytes for keys and for values. Where there
    /// is none, positions go that are outside of the window of all new rows.
    pub(super) fn reserve(&mut self, heads: usize, bytes: [usize; 2], window: Option<usize>) {
        (self.cache.heads, self.cache.bytes) = (heads, bytes);
        let held = self.length - self.start;
        if held + self.rows <= self.cache.capacity {
            return;
        }
        let seen = window.map_or(held, |window| held.min(window - 1));
        let gone = (held - seen) / BLOCK * BLOCK;
        self.start += gone;
        self.cache.reserve(gone..held, self.rows);
    }
}

/// A copy of some positions of a [`HostCache`].
#[derive(Debug)]
pub struct HostRows {
    /// Hkv.
    pub heads: usize,
    /// Bytes of a key, and of a value.
    pub bytes: [usize; 2],
    /// Positions, a multiple of 8.
    pub count: usize,
    /// `[Hkv, count]` rows.
    pub keys: Part,
    /// Likewise.
    pub values: Part,
    /// They lie in a file.
    pub is_mapped: bool,
}

impl HostRows {
    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Whether keys and values are as long as the counts say, in whole blocks.
    pub fn fits(&self) -> bool {
        let positions = self.heads.checked_mul(self.count);
        let bytes = self.bytes.map(|bytes| positions?.checked_mul(bytes));
        self.count.is_multiple_of(BLOCK)
            && bytes == [Some(self.keys.len()), Some(self.values.len())]
    }
}

fn whole(bytes: Vec<u8>) -> Part {
    let length = bytes.len();
    Part::new(Arc::new(bytes), 0..length).unwrap_or_else(Part::empty)
}

impl HostCache {
    /// Bytes of one position.
    pub fn bytes_per_position(&self) -> usize {
        self.bytes() / self.capacity.max(1)
    }

    /// Memory of keys and values.
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// A copy of the blocks that have some places. The first is that of a block.
    pub fn copy(&self, places: Range<usize>) -> HostRows {
        let count = places.len().next_multiple_of(BLOCK);
        let part = |buffer: &[u8], bytes: usize| {
            let heads = buffer.chunks_exact((self.capacity * bytes).max(1));
            let part = places.start * bytes..(places.start + count) * bytes;
            let mut copy = Vec::with_capacity(self.heads * part.len());
            heads.for_each(|head| copy.extend_from_slice(&head[part.clone()]));
            copy
        };
        HostRows {
            heads: self.heads,
            bytes: self.bytes,
            count,
            keys: whole(part(&self.keys, self.bytes[0])),
            values: whole(part(&self.values, self.bytes[1])),
            is_mapped: false,
        }
    }

    /// Puts a copy at a place, that of a block, behind `held` places that are kept. Where that makes the
    /// cache grow, there is room for `whole` places then, if that is more.
    pub fn paste(&mut self, rows: &HostRows, place: usize, held: usize, whole: usize) {
        (self.heads, self.bytes) = (rows.heads, rows.bytes);
        let end = place + rows.count;
        if end > self.capacity {
            self.reserve(0..held, end.max(whole) - held);
        }
        let buffers = [
            (&mut self.keys, &rows.keys),
            (&mut self.values, &rows.values),
        ];
        for ((buffer, rows_), bytes) in buffers.into_iter().zip(rows.bytes) {
            let heads = buffer.chunks_exact_mut((self.capacity * bytes).max(1));
            for (head, rows_) in heads.zip(rows_.chunks_exact((rows.count * bytes).max(1))) {
                head[place * bytes..end * bytes].copy_from_slice(rows_);
            }
        }
    }

    /// Keeps some positions, and makes room for `rows` more.
    fn reserve(&mut self, kept: Range<usize>, rows: usize) {
        let capacity = (kept.len() + rows).next_multiple_of(STEP);
        // A part of a block is nothing.
        let kept = kept.start..kept.end.next_multiple_of(BLOCK);
        for (buffer, bytes) in [&mut self.keys, &mut self.values]
            .into_iter()
            .zip(self.bytes)
        {
            let kept = kept.start * bytes..kept.end * bytes;
            if capacity <= self.capacity {
                for head in buffer.chunks_exact_mut((self.capacity * bytes).max(1)) {
                    head.copy_within(kept.clone(), 0);
                }
                continue;
            }
            let mut grown = vec![0; self.heads * capacity * bytes];
            let old = buffer.chunks_exact((self.capacity * bytes).max(1));
            for (new, old) in grown.chunks_exact_mut((capacity * bytes).max(1)).zip(old) {
                new[..kept.len()].copy_from_slice(&old[kept.clone()]);
            }
            *buffer = grown;
        }
        self.capacity = self.capacity.max(capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: usize = 2;
    const BYTES: [usize; 2] = [3, 2];

    /// A cache whose bytes all differ from their neighbours'.
    fn filled(positions: usize) -> HostCache {
        let mut segment = HostSegment {
            rows: positions,
            length: 0,
            start: 0,
            cache: HostCache::default(),
        };
        segment.reserve(HEADS, BYTES, None);
        let mut cache = segment.cache;
        for (index, byte) in cache.keys.iter_mut().chain(&mut cache.values).enumerate() {
            *byte = (index % 251) as u8;
        }
        cache
    }

    /// The bytes of some places of each head, keys and then values.
    fn places(cache: &HostCache, places: Range<usize>) -> Vec<u8> {
        let rows = cache.copy(places);
        [&rows.keys[..], &rows.values].concat()
    }

    #[test]
    fn what_is_kept_while_growing_is_whole_blocks() {
        let cache = filled(256);
        let before = places(&cache, 0..253);
        let mut segment = HostSegment {
            rows: 10,
            length: 253,
            start: 0,
            cache,
        };
        segment.reserve(HEADS, BYTES, None);
        assert_eq!(segment.cache.capacity, 512);
        assert_eq!(places(&segment.cache, 0..253), before);
    }

    #[test]
    fn what_nobody_looks_back_on_goes_and_the_rest_moves_up_in_whole_blocks() {
        let cache = filled(256);
        let before = places(&cache, 216..253);
        let mut segment = HostSegment {
            rows: 10,
            length: 253,
            start: 0,
            cache,
        };
        segment.reserve(HEADS, BYTES, Some(32));
        assert_eq!((segment.start, segment.cache.capacity), (216, 256));
        assert_eq!(places(&segment.cache, 0..37), before);
    }

    #[test]
    fn a_copy_is_put_where_it_was_in_a_cache_of_any_size() {
        let cache = filled(512);
        let rows = cache.copy(304..309);
        assert_eq!((rows.count, rows.bytes()), (8, 8 * HEADS * (3 + 2)));
        for (held, capacity) in [(0, 256), (150, 256), (300, 512)] {
            let mut other = filled(capacity);
            let place = held / BLOCK * BLOCK;
            other.paste(&rows, place, held, 400);
            assert_eq!(places(&other, place..place + 5), places(&cache, 304..309));
        }
        let mut empty = HostCache::default();
        empty.paste(&rows, 0, 0, 1000);
        assert_eq!(empty.capacity, 1024);
        assert_eq!(places(&empty, 0..5), places(&cache, 304..309));
    }
}
