//! Plain memory: what of it is held for sequences, counted where it is taken and given back, and what the
//! machine has.

use std::sync::atomic::{AtomicUsize, Ordering};

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};

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

/// Bytes of memory that the process has now; 0 where the system does not say.
pub fn resident() -> usize {
    let Ok(id) = sysinfo::get_current_pid() else {
        return 0;
    };
    let mut system = sysinfo::System::new();
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, what);
    system
        .process(id)
        .map_or(0, |process| process.memory() as usize)
}

/// Bytes that the control group of the process may have in all; none where that is what the machine has.
pub fn of_group() -> Option<usize> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system.cgroup_limits()?.total_memory;
    (limit < system.total_memory()).then_some(limit as usize)
}

/// The machine's memory, or that of the control group that the process is in, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// In all.
    pub total: usize,
    /// That could be had now.
    pub available: usize,
}

impl Machine {
    /// The figures of this moment.
    pub fn now() -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let (total, available) = match system.cgroup_limits() {
            Some(limits) => (limits.total_memory, limits.free_memory),
            None => (system.total_memory(), system.available_memory()),
        };
        Self {
            total: total as usize,
            available: available.min(total) as usize,
        }
    }
}
