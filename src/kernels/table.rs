//! Numbers that lie in memory of their own, or in a mapped file.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use bytemuck::Pod;

/// A file that is mapped whole, to be read.
#[derive(Debug, Clone)]
pub struct MappedTables(Arc<memmap2::Mmap>);

impl MappedTables {
    /// Maps a file, whose pages are all there at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(file: &File) -> io::Result<Self> {
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: nothing is written through the mapping. As with mapped weights, another process that truncates the file
        // while it is used can end this one; whoever writes such files renames whole ones into place.
        let map = unsafe { options.populate().map(file) }?;
        Ok(Self(Arc::new(map)))
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The numbers in these bytes of the file; `None` where there are no such bytes, or numbers do not fit.
    pub fn table<T: Pod>(&self, range: Range<usize>) -> Option<Table<T>> {
        let numbers: &[T] = bytemuck::try_cast_slice(self.0.get(range)?).ok()?;
        Some(Table {
            first: NonNull::from(numbers).cast(),
            length: numbers.len(),
            owner: Owner::File(self.clone()),
        })
    }
}

/// Numbers that are looked up, wherever they lie. To change them where a file has them makes them a copy.
pub struct Table<T> {
    first: NonNull<T>,
    length: usize,
    owner: Owner<T>,
}

enum Owner<T> {
    Memory(#[expect(dead_code, reason = "held, not read")] Vec<T>),
    File(#[expect(dead_code, reason = "held, not read")] MappedTables),
}

// SAFETY: it is a vector, or a file that nobody writes.
unsafe impl<T: Send + Sync> Send for Table<T> {}

// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

impl<T> From<Vec<T>> for Table<T> {
    fn from(mut numbers: Vec<T>) -> Self {
        Self {
            first: NonNull::from(numbers.as_mut_slice()).cast(),
            length: numbers.len(),
            owner: Owner::Memory(numbers),
        }
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `owner` has so many numbers there, and holds them where they are.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

impl<T: Pod> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if matches!(self.owner, Owner::File(_)) {
            *self = self.to_vec().into();
        }
        // SAFETY: the vector that `owner` is has so many numbers there, and nobody else looks at them meanwhile.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.length) }
    }
}

impl<T: Clone> Clone for Table<T> {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Table<T> {}

impl<T: fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn numbers_of_a_file_are_changed_in_a_copy() {
        let mut file = tempfile::tempfile().unwrap();
        let numbers: [u32; 4] = [1, 2, 3, 4];
        file.write_all(bytemuck::cast_slice(&numbers)).unwrap();
        let mapped = MappedTables::new(&file).unwrap();
        let table: Table<u32> = mapped.table(4..16).unwrap();
        let mut changed: Table<u32> = mapped.table(4..16).unwrap();
        drop(mapped);
        changed[1] = 9;
        assert_eq!((&*table, &*changed), (&[2, 3, 4][..], &[2, 9, 4][..]));
        assert_eq!(table, Table::from(vec![2, 3, 4]));
        assert!(table != changed);
    }

    #[test]
    fn numbers_that_do_not_fit_are_none() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 16]).unwrap();
        let mapped = MappedTables::new(&file).unwrap();
        for range in [0..20, 2..6, 0..3, 20..24] {
            assert!(mapped.table::<u32>(range).is_none());
        }
        assert_eq!(mapped.bytes().len(), 16);
    }
}
