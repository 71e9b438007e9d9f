//! Which models are loaded, are being loaded, or have to end first: plain data.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlxr::Sharing;
use tokio::sync::watch;

use super::super::{Read, Served};
use crate::wire::Failure;

/// Where all models stand.
#[derive(Default)]
pub(super) struct State {
    pub(super) loaded: HashMap<String, Loaded>,
    pub(super) loading: HashMap<String, Loading>,
    /// What was read of models whose runners died: those are started again.
    pub(super) died: HashMap<String, Arc<Read>>,
    /// Why the last one that was to be loaded could not be, if so.
    pub(super) failure: Option<Failure>,
    /// Those that have to end before others may begin.
    pub(super) ending: usize,
    /// What those may take of the device's memory.
    pub(super) ending_bytes: usize,
    /// Those who wait for a model that is not loaded, oldest first.
    pub(super) waiting: BTreeSet<u64>,
    pub(super) next_ticket: u64,
    pub(super) is_closed: bool,
}

pub(super) struct Loaded {
    pub(super) served: Arc<Served>,
    pub(super) leases: usize,
    /// Those for whom it was loaded and who have not taken it yet.
    pub(super) claims: usize,
    pub(super) last_used: Instant,
    pub(super) keep_alive: Duration,
}

pub(super) struct Loading {
    pub(super) claims: usize,
    pub(super) done: watch::Receiver<Option<Result<(), Failure>>>,
    pub(super) since: Instant,
}

impl State {
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.loaded.len() + self.loading.len() + self.ending >= most
    }

    /// What is taken of the device's memory, where `most` models may be loaded and one is to be.
    pub(super) fn sharing(&self, most: usize) -> Sharing {
        let loaded = self.loaded.values();
        let taken: usize = loaded.map(|loaded| loaded.served.memory()).sum();
        Sharing {
            taken: taken + self.ending_bytes,
            coming: most.saturating_sub(self.loaded.len() + self.ending + 1),
        }
    }

    /// The idle model that was used longest ago.
    pub(super) fn idle(&self) -> Option<String> {
        let idle = self.loaded.iter().filter(|(_, loaded)| loaded.is_idle());
        let oldest = idle.min_by_key(|(_, loaded)| loaded.last_used);
        oldest.map(|(name, _)| name.clone())
    }
}

impl Loaded {
    pub(super) fn is_idle(&self) -> bool {
        self.leases == 0 && self.claims == 0
    }

    /// When it goes if nobody uses it; `None` for never, or while somebody does.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.last_used
            .checked_add(self.keep_alive)
            .filter(|_| self.is_idle())
    }
}
