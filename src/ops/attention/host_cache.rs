//! Keys and values of one sequence in one layer, in plain memory: for the kernels of the CPU.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::error::Result;
use crate::kernels::matrix::Part;
use crate::kernels::pages::{PAGE, Page, PageMut};
use crate::memory::Held;
use crate::mlx::SystemMemory;

/// Positions that lie together in some formats, and are copied together in all.
pub const BLOCK: usize = 8;

/// Keys and values of one sequence in one layer, for the kernels of the CPU. Pages may be shared with other
/// sequences and with copies; one that is written is not.
#[derive(Debug, Default)]
pub struct HostCache {
    /// Each has [`PAGE`] positions.
    pages: Vec<Arc<HostPage>>,
}

/// A segment's part in an attention of the kernels.
#[derive(Debug)]
pub struct HostSegment {
    /// Rows that are appended.
    pub rows: usize,
    /// Positions of the sequence before.
    pub length: usize,
    /// Of these, the first that nobody looks back on: they are not held any more.
    pub start: usize,
    /// Keys and values of the others, from the page of the first of them on.
    pub cache: HostCache,
}

impl HostSegment {
    /// The first position of the first page.
    pub fn base(&self) -> usize {
        self.start / PAGE * PAGE
    }

    /// Makes room for the new rows of so many heads, of so many bytes for keys and for values. Pages go that
    /// lie more than a page before the window of all new rows: a sequence may go back a little.
    ///
    /// # Errors
    /// That the system has no memory.
    pub(super) fn reserve(
        &mut self,
        heads: usize,
        bytes: [usize; 2],
        window: Option<usize>,
    ) -> Result<()> {
        if let Some(window) = window {
            let first_seen = (self.length + 1).saturating_sub(window);
            let kept = (first_seen / PAGE).saturating_sub(1) * PAGE;
            let gone = kept.saturating_sub(self.base()) / PAGE;
            self.cache.pages.drain(..gone.min(self.cache.pages.len()));
            self.start = self.start.max(kept);
        }
        let places = self.length - self.base()..self.length - self.base() + self.rows;
        let pages = &mut self.cache.pages;
        while pages.len() * PAGE < places.end {
            pages.push(Arc::new(HostPage::new(heads, bytes)?));
        }
        for page in written(pages, places) {
            if Arc::get_mut(page).is_none_or(|page| !page.is_own()) {
                *page = Arc::new(page.copy()?);
            }
        }
        Ok(())
    }

    /// The pages, for who reads them.
    pub(super) fn pages(&self) -> Vec<Page<'_>> {
        let pages = self.cache.pages.iter().map(|page| Page {
            keys: &page.keys,
            values: &page.values,
        });
        pages.collect()
    }

    /// The pages that the new rows go to, and the place of the first row in the first of them.
    pub(super) fn written(&mut self) -> (usize, Vec<PageMut<'_>>) {
        let places = self.length - self.base()..self.length - self.base() + self.rows;
        let first = places.start % PAGE;
        let pages = written(&mut self.cache.pages, places);
        let pages = pages.filter_map(|page| {
            let page = Arc::get_mut(page)?;
            match (&mut page.keys, &mut page.values) {
                (HostBytes::Own(keys, _), HostBytes::Own(values, _)) => {
                    Some(PageMut { keys, values })
                }
                _ => None,
            }
        });
        (first, pages.collect())
    }
}

/// The pages of some places.
fn written(
    pages: &mut [Arc<HostPage>],
    places: Range<usize>,
) -> impl Iterator<Item = &mut Arc<HostPage>> {
    let pages = pages.iter_mut().enumerate();
    let pages = pages
        .filter(move |(index, _)| index * PAGE < places.end && (index + 1) * PAGE > places.start);
    pages.map(|(_, page)| page)
}

/// Keys and values of some positions.
#[derive(Debug)]
pub struct HostPage {
    /// Hkv.
    pub heads: usize,
    /// Bytes of a key, and of a value.
    pub bytes: [usize; 2],
    /// Positions: [`PAGE`], or a multiple of [`BLOCK`] where it lies in a file.
    pub count: usize,
    /// `[Hkv, count]` rows.
    pub keys: HostBytes,
    /// Likewise.
    pub values: HostBytes,
}

/// Bytes of the host, wherever they lie.
#[derive(Debug)]
pub enum HostBytes {
    /// In memory.
    Own(SystemMemory, Held),
    /// In a file.
    Mapped(Part),
}

impl HostBytes {
    /// So many zeros in memory.
    ///
    /// # Errors
    /// That the system has none.
    pub fn new(bytes: usize) -> Result<Self> {
        let memory = SystemMemory::new(bytes)?;
        Ok(Self::Own(memory, Held::new(bytes)))
    }
}

impl Deref for HostBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes, _) => bytes,
            Self::Mapped(part) => part,
        }
    }
}

impl HostPage {
    /// An empty one in memory.
    ///
    /// # Errors
    /// That the system has none.
    pub fn new(heads: usize, bytes: [usize; 2]) -> Result<Self> {
        let [key, value] = bytes;
        Ok(Self {
            heads,
            bytes,
            count: PAGE,
            keys: HostBytes::new(heads * PAGE * key)?,
            values: HostBytes::new(heads * PAGE * value)?,
        })
    }

    /// Whether it is in memory.
    pub fn is_own(&self) -> bool {
        matches!(self.keys, HostBytes::Own(..))
    }

    /// A copy in memory.
    fn copy(&self) -> Result<Self> {
        let mut copy = Self::new(self.heads, self.bytes)?;
        copy.paste(0, self, 0..self.count);
        Ok(copy)
    }

    /// Writes some places of another page, whole blocks, from a place on that begins one. A page that lies in
    /// a file stays as it is.
    pub fn paste(&mut self, place: usize, from: &Self, places: Range<usize>) {
        let buffers = [
            (&mut self.keys, &from.keys),
            (&mut self.values, &from.values),
        ];
        for ((to, from_bytes), bytes) in buffers.into_iter().zip(self.bytes) {
            let HostBytes::Own(to, _) = to else {
                return;
            };
            let heads = to.chunks_exact_mut((PAGE * bytes).max(1));
            let from_heads = from_bytes.chunks_exact((from.count * bytes).max(1));
            for (to, from) in heads.zip(from_heads) {
                let part = &from[places.start * bytes..places.end * bytes];
                to[place * bytes..][..part.len()].copy_from_slice(part);
            }
        }
    }

    /// `[Hkv, places]` rows of some places: keys, and values.
    pub fn rows(&self, places: Range<usize>) -> [Vec<u8>; 2] {
        let buffers = [(&self.keys, self.bytes[0]), (&self.values, self.bytes[1])];
        buffers.map(|(buffer, bytes)| {
            let heads = buffer.chunks_exact((self.count * bytes).max(1));
            let heads = heads.flat_map(|head| &head[places.start * bytes..places.end * bytes]);
            heads.copied().collect()
        })
    }

    /// Bytes of keys and values, for each position.
    pub fn bytes_per_position(&self) -> usize {
        self.heads * (self.bytes[0] + self.bytes[1])
    }

    /// Whether keys and values are as long as the counts say, in whole blocks, of a page at most.
    pub fn fits(&self) -> bool {
        let positions = self.heads.checked_mul(self.count);
        let bytes = self.bytes.map(|bytes| positions?.checked_mul(bytes));
        self.count.is_multiple_of(BLOCK)
            && self.count <= PAGE
            && bytes == [Some(self.keys.len()), Some(self.values.len())]
    }
}

impl HostCache {
    /// A cache of whole pages.
    pub fn of_pages(pages: Vec<Arc<HostPage>>) -> Self {
        Self { pages }
    }

    /// All pages.
    pub fn pages(&self) -> &[Arc<HostPage>] {
        &self.pages
    }

    /// Bytes of one position.
    pub fn bytes_per_position(&self) -> usize {
        let page = self.pages.first();
        page.map_or(0, |page| page.bytes_per_position())
    }

    /// Bytes of keys and values in memory, those of shared pages included.
    pub fn bytes(&self) -> usize {
        let own = self.pages.iter().filter(|page| page.is_own());
        own.map(|page| page.keys.len() + page.values.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: usize = 2;
    const BYTES: [usize; 2] = [3, 2];

    /// A segment whose rows are written, with bytes that all differ from their neighbours'.
    fn step(mut segment: HostSegment, rows: usize, window: Option<usize>) -> HostSegment {
        segment.rows = rows;
        segment.reserve(HEADS, BYTES, window).unwrap();
        let (mut place, pages) = segment.written();
        let mut row = 0;
        for page in pages {
            while place < PAGE && row < rows {
                for head in 0..HEADS {
                    let at = head * PAGE + place;
                    page.keys[at * BYTES[0]..][..BYTES[0]].fill((row + head) as u8);
                    page.values[at * BYTES[1]..][..BYTES[1]].fill((row + head) as u8);
                }
                (place, row) = (place + 1, row + 1);
            }
            place = 0;
        }
        segment.length += rows;
        segment.rows = 0;
        segment
    }

    fn empty() -> HostSegment {
        HostSegment {
            rows: 0,
            length: 0,
            start: 0,
            cache: HostCache::default(),
        }
    }

    /// The first byte of the key of each position, in the last head.
    fn keys(segment: &HostSegment) -> Vec<u8> {
        let pages = segment.cache.pages.iter();
        let keys = pages.flat_map(|page| {
            let head = &page.keys[PAGE * BYTES[0]..];
            head.chunks(BYTES[0]).map(|key| key[0]).collect::<Vec<_>>()
        });
        keys.take(segment.length - segment.base()).collect()
    }

    #[test]
    fn a_page_that_others_have_is_copied_before_it_is_written() {
        let mut segment = step(empty(), PAGE + 5, None);
        let shared: Vec<_> = segment.cache.pages.iter().map(Arc::clone).collect();
        let before = keys(&segment);
        segment = step(segment, 3, None);
        assert!(Arc::ptr_eq(&shared[0], &segment.cache.pages[0]));
        assert!(!Arc::ptr_eq(&shared[1], &segment.cache.pages[1]));
        assert_eq!(keys(&segment), [&before[..], &[1, 2, 3]].concat());
        assert!(
            shared[1].keys[(PAGE + 5) * BYTES[0]..][..PAGE]
                .iter()
                .all(|&byte| byte == 0)
        );
    }

    #[test]
    fn pages_that_nobody_looks_back_on_go_but_for_one() {
        let mut segment = empty();
        for _ in 0..5 {
            segment = step(segment, PAGE, Some(32));
        }
        // The first new row saw position 4 · 256 - 31.
        assert_eq!((segment.start, segment.cache.pages.len()), (2 * PAGE, 3));
        assert_eq!(segment.cache.bytes(), 3 * PAGE * HEADS * 5);
    }

    #[test]
    fn memory_is_counted_as_long_as_somebody_has_it() {
        let page = HostPage::new(HEADS, BYTES).unwrap();
        let HostBytes::Own(_, held) = &page.keys else {
            panic!("it is in memory");
        };
        let copy = held.clone();
        assert!(crate::memory::held() >= 2 * HEADS * PAGE * BYTES[0]);
        drop((page, copy));
    }

    #[test]
    fn rows_are_put_where_they_were() {
        let segment = step(empty(), 100, None);
        let from = &segment.cache.pages[0];
        let mut page = HostPage::new(HEADS, BYTES).unwrap();
        page.paste(16, from, 32..48);
        assert_eq!(page.rows(16..32), from.rows(32..48));
        assert!(page.rows(0..16)[0].iter().all(|&byte| byte == 0));
    }
}
