//! A slice that the tasks of one region write different parts of.

use std::marker::PhantomData;

/// Hands out parts of a slice to several threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: who asks for a part promises that nobody else has it.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            slice: PhantomData,
        }
    }

    /// Where elements `at..at + length` begin, of which each user takes others.
    pub(super) fn start(self, at: usize, length: usize) -> *mut T {
        assert!(at <= self.length && length <= self.length - at);
        // SAFETY: within the slice.
        unsafe { self.start.add(at) }
    }

    /// Elements `at..at + length`.
    ///
    /// # Safety
    /// No other part that is in use at the same time overlaps this one.
    pub(super) unsafe fn part(self, at: usize, length: usize) -> &'a mut [T] {
        // SAFETY: within the slice, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start(at, length), length) }
    }
}
