//! Which instructions [`super::run`] takes in tests: those that its own thread chose, and on the threads
//! of a pool those of whoever has a region done there.

use std::cell::Cell;

use super::Instructions;

thread_local! {
    static CHOSEN: Cell<Option<Instructions>> = const { Cell::new(None) };
}

pub(super) fn get() -> Instructions {
    CHOSEN.get().unwrap_or(Instructions::best())
}

/// Puts things back when a test ends, however it does.
struct Choice;

impl Drop for Choice {
    fn drop(&mut self) {
        CHOSEN.set(None);
    }
}

/// All that this processor has, and AMX beside AVX-512 even where it is not there: plain loops stand in for tiles.
pub(in super::super) fn each() -> Vec<Instructions> {
    let mut all = Instructions::available();
    #[cfg(target_arch = "x86_64")]
    if all.last() == Some(&Instructions::Avx512) {
        all.push(Instructions::Amx);
    }
    all
}

/// Calls `work` once for each set of instructions, with all kernels using it.
pub(in super::super) fn with_each<E>(
    mut work: impl FnMut(Instructions) -> Result<(), E>,
) -> Result<(), E> {
    let _choice = Choice;
    for instructions in each() {
        CHOSEN.set(Some(instructions));
        work(instructions)?;
    }
    Ok(())
}

/// A task that uses, on whatever thread, what this one has chosen.
pub(in super::super) fn inherited(task: impl Fn(usize) + Sync) -> impl Fn(usize) + Sync {
    let chosen = CHOSEN.get();
    move |index| {
        CHOSEN.set(chosen);
        task(index);
    }
}
