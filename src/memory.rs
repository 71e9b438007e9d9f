//! Plain memory that is held for sequences, counted where it is taken and given back.

use std::sync::atomic::{AtomicUsize, Ordering};

static ALL: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are held in all, by whatever has a [`Held`].
pub fn held() -> usize {
    ALL.load(Ordering::Relaxed)
}

/// Bytes that are counted as long as it lives, to be kept beside the memory itself.
#[derive(Debug)]
pub struct Held(usize);

impl Held {
    /// How many.
    pub fn bytes(&self) -> usize {
        self.0
    }

    /// Counts so many.
    pub fn new(bytes: usize) -> Self {
        ALL.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        ALL.fetch_sub(self.0, Ordering::Relaxed);
    }
}
