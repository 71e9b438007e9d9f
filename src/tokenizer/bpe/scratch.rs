//! What threads that encode remember and work with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
pub(super) struct Scratches([Mutex<Option<Scratch>>; THREADS]);

impl Scratches {
    /// This thread's, or a new one.
    pub(super) fn take(&self) -> Scratch {
        let kept = self.of_thread().take();
        kept.unwrap_or_else(|| Scratch {
            cache: Cache::new(),
            tile: Tile::new(),
            batch: Box::new(Batch::new()),
        })
    }

    /// Keeps it for this thread's next text.
    pub(super) fn put_back(&self, scratch: Scratch) {
        *self.of_thread() = Some(scratch);
    }

    /// The place of this thread's scratch. Others may have the same place, and then make do with a new one.
    fn of_thread(&self) -> MutexGuard<'_, Option<Scratch>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS;
        }
        let place = PLACE.with(|place| *place);
        self.0[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
