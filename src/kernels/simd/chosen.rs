//! Which instructions [`super::run`] takes in tests: on every thread, for kernels that start others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Instructions;

/// In [`CHOSEN`]: nothing is chosen.
const BEST: usize = usize::MAX;

/// An index into what is available.
static CHOSEN: AtomicUsize = AtomicUsize::new(BEST);

/// One test chooses at a time.
static TURN: Mutex<()> = Mutex::new(());

pub(super) fn get() -> Instructions {
    let available = Instructions::available();
    let chosen = available.get(CHOSEN.load(Ordering::SeqCst));
    chosen.copied().unwrap_or(Instructions::best())
}

/// Puts things back when a test ends, however it does.
struct Choice;

impl Drop for Choice {
    fn drop(&mut self) {
        CHOSEN.store(BEST, Ordering::SeqCst);
    }
}

/// Calls `work` once for each set of instructions of this processor, with all kernels using it.
pub(in super::super) fn with_each<E>(
    mut work: impl FnMut(Instructions) -> Result<(), E>,
) -> Result<(), E> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _choice = Choice;
    for (index, instructions) in Instructions::available().into_iter().enumerate() {
        CHOSEN.store(index, Ordering::SeqCst);
        work(instructions)?;
    }
    Ok(())
}
