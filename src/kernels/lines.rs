//! Memory that begins at a cache line: a vector that lies in two lines takes the processor two loads.

use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

/// Bytes of a cache line, at least of a vector.
const LINE: usize = 64;

/// Numbers from the beginning of a cache line on.
#[derive(Debug)]
pub(super) struct Lines<T>(AVec<T, ConstAlign<LINE>>);

impl<T: Copy + Default> Lines<T> {
    /// So many zeros.
    pub(super) fn zeros(length: usize) -> Self {
        let mut lines = Self::default();
        lines.grow(length);
        lines
    }

    /// Makes them at least so many.
    pub(super) fn grow(&mut self, length: usize) {
        if self.0.len() < length {
            self.0.resize(length, T::default());
        }
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self(AVec::new(LINE))
    }
}

impl<T> FromIterator<T> for Lines<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(AVec::from_iter(LINE, items))
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
