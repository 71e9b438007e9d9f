//! Memory that each thread keeps between tasks.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static KEPT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Floats of any value. A large allocation would cost the system a page fault for every 4 KiB of
/// each task; these are kept by the thread that drops them.
#[derive(Debug)]
pub(super) struct Scratch(Vec<f32>);

impl Scratch {
    pub(super) fn new(length: usize) -> Self {
        let mut kept = KEPT.take();
        kept.resize(length.max(kept.len()), 0.0);
        Self(kept)
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set(std::mem::take(&mut self.0));
    }
}
