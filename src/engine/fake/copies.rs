//! What is copied of a fake's sequences: it remembers whose it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Rewinds;
use crate::cache::trie::{Checkpoint, Rows};

/// Memory that copies take, counted as long as they live.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicUsize>, usize);

impl Held {
    pub(super) fn new(all: &Arc<AtomicUsize>, bytes: usize) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self(Arc::clone(all), bytes)
    }

    fn other(&self, bytes: usize) -> Self {
        Self::new(&self.0, bytes)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        self.other(self.1)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Copied rows remember whose they are.
#[derive(Debug, Clone)]
pub(in crate::engine) struct FakeRows {
    pub(super) start: usize,
    pub(super) tokens: Vec<u32>,
    /// Of the first of them, where they are offloaded; of the others.
    pub(super) offloaded: Held,
    pub(super) resident: Held,
}

impl FakeRows {
    /// Where all of it is offloaded.
    pub(super) fn moved(&self) -> Self {
        self.with(self.offloaded.1 + self.resident.1, 0)
    }

    /// With so much memory.
    pub(super) fn with(&self, offloaded: usize, resident: usize) -> Self {
        Self {
            start: self.start,
            tokens: self.tokens.clone(),
            offloaded: self.offloaded.other(offloaded),
            resident: self.resident.other(resident),
        }
    }
}

impl Rows for FakeRows {
    fn bytes(&self) -> usize {
        self.resident.1
    }

    fn offloaded_bytes(&self) -> usize {
        self.offloaded.1
    }

    fn split(mut self, at: usize) -> Option<(Self, Self)> {
        let tokens = self.tokens.split_off(at - self.start);
        let above = [
            self.offloaded.1.min(self.tokens.len()),
            self.resident.1.min(self.tokens.len()),
        ];
        let below = Self {
            start: at,
            tokens,
            offloaded: self.offloaded.other(self.offloaded.1 - above[0]),
            resident: self.resident.other(self.resident.1 - above[1]),
        };
        let above = self.with(above[0], above[1]);
        Some((above, below))
    }

    fn join(mut self, next: Self) -> Option<Self> {
        assert_eq!(self.start + self.tokens.len(), next.start, "they touch");
        self.tokens.extend(&next.tokens);
        let offloaded = self.offloaded.1 + next.offloaded.1;
        let resident = self.resident.1 + next.resident.1;
        Some(self.with(offloaded, resident))
    }
}

/// Memory of a copied state.
pub(super) const CHECKPOINT_BYTES: usize = 100;

/// A copied state remembers all tokens before it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct FakeCheckpoint {
    pub(super) rewinds: Rewinds,
    pub(super) tokens: Vec<u32>,
    pub(super) offloaded: Held,
    pub(super) resident: Held,
}

impl FakeCheckpoint {
    /// Where all of it is offloaded.
    pub(super) fn moved(&self) -> Self {
        self.with(self.offloaded.1 + self.resident.1, 0)
    }

    /// With so much memory.
    pub(super) fn with(&self, offloaded: usize, resident: usize) -> Self {
        Self {
            rewinds: self.rewinds,
            tokens: self.tokens.clone(),
            offloaded: self.offloaded.other(offloaded),
            resident: self.resident.other(resident),
        }
    }
}

impl Checkpoint for FakeCheckpoint {
    fn bytes(&self) -> usize {
        self.resident.1
    }

    fn offloaded_bytes(&self) -> usize {
        self.offloaded.1
    }

    fn restores(&self, position: usize) -> bool {
        self.rewinds.reaches(self.tokens.len(), position)
    }
}
