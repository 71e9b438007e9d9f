//! What threads that encode remember and work with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

use super::batch::Batch;
use super::cache::Cache;
use super::scan::Tile;

/// What one thread works with.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) cache: Cache,
    pub(super) tile: Tile,
    pub(super) batch: Box<Batch>,
}

/// Threads that have a scratch of their own.
const THREADS: usize = 32;

/// Scratches, by thread.
#[derive(Debug, Default)]
pub(super) struct Scratches([Mutex<Option<Box<Scratch>>>; THREADS]);

impl Scratch {
    fn new() -> Self {
        Self {
            cache: Cache::new(),
            tile: Tile::new(),
            batch: Box::new(Batch::new()),
        }
    }
}

impl Scratches {
    /// Does some work with this thread's scratch, or with a new one where another thread has the same place.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS;
        }
        let place = &self.0[PLACE.with(|place| *place)];
        match place.try_lock() {
            Ok(mut scratch) => work(scratch.get_or_insert_with(|| Box::new(Scratch::new()))),
            Err(TryLockError::WouldBlock) => work(&mut Scratch::new()),
            Err(TryLockError::Poisoned(scratch)) => {
                // Nobody knows how far the work had come that failed.
                place.clear_poison();
                work(scratch.into_inner().insert(Box::new(Scratch::new())))
            }
        }
    }
}
