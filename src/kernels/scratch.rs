//! Memory that each thread keeps between tasks.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::lines::Lines;

thread_local! {
    /// What was dropped last is taken first.
    static KEPT: RefCell<Vec<Lines<f32>>> = RefCell::default();
}

/// Floats of any value. A large allocation would cost the system a page fault for every 4 KiB of
/// each task; these are kept by the thread that drops them.
#[derive(Debug)]
pub(super) struct Scratch(Lines<f32>);

impl Scratch {
    pub(super) fn new(length: usize) -> Self {
        let mut kept = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
        kept.grow(length);
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
        let lines = std::mem::take(&mut self.0);
        KEPT.with_borrow_mut(|kept| kept.push(lines));
    }
}
