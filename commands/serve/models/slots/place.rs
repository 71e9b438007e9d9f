//! Somebody's place in the queue for a model. Those who ask for one that is loaded take it at once, unless an earlier
//! one waits for another.

use std::sync::Arc;

use tokio::sync::watch;

use super::super::{Known, Served};
use super::Slots;
use super::state::State;
use crate::wire::Failure;

/// What somebody who asks for a model finds.
pub(super) enum Found {
    /// It is leased now.
    Loaded(Arc<Served>),
    Loading(watch::Receiver<Option<Result<(), Failure>>>),
    /// Others are loaded and in use.
    Full,
    Closed,
}

/// Somebody who asks for a model, until it is there or no longer wanted.
pub(super) struct Place<'a> {
    slots: &'a Arc<Slots>,
    ticket: u64,
    /// The name of the model that is loaded for it.
    claim: Option<String>,
}

impl<'a> Place<'a> {
    pub(super) fn new(slots: &'a Arc<Slots>) -> Self {
        let mut state = slots.state();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        drop(state);
        Self {
            slots,
            ticket,
            claim: None,
        }
    }

    /// Takes the model if it is loaded, and has it loaded if it can be.
    pub(super) fn look(&mut self, known: &Known) -> Found {
        let slots = self.slots;
        let mut state = slots.state();
        if state.is_closed {
            return Found::Closed;
        }
        self.give_up(&mut state);
        let name = &known.name;
        let dead = state
            .loaded
            .get(name)
            .filter(|loaded| !loaded.served.child.is_alive());
        if let Some(dead) = dead {
            let read = Arc::clone(&dead.served.read);
            state.died.insert(name.clone(), read);
            slots.end(&mut state, name);
        }
        let is_first = state
            .waiting
            .first()
            .is_none_or(|first| *first >= self.ticket);
        if let Some(loaded) = state.loaded.get_mut(name)
            && is_first
        {
            loaded.leases += 1;
            let served = Arc::clone(&loaded.served);
            state.waiting.remove(&self.ticket);
            return Found::Loaded(served);
        }
        if !state.loading.contains_key(name) {
            if state.loaded.contains_key(name) {
                return Found::Full;
            }
            state.waiting.insert(self.ticket);
            if !is_first {
                return Found::Full;
            }
            if state.is_full(slots.most) {
                if let Some(idle) = state.idle() {
                    slots.end(&mut state, &idle);
                }
                return Found::Full;
            }
            slots.begin(&mut state, known);
        }
        state.waiting.remove(&self.ticket);
        let Some(loading) = state.loading.get_mut(name) else {
            return Found::Full;
        };
        loading.claims += 1;
        self.claim = Some(name.clone());
        Found::Loading(loading.done.clone())
    }

    fn give_up(&mut self, state: &mut State) {
        let Some(name) = self.claim.take() else {
            return;
        };
        if let Some(loading) = state.loading.get_mut(&name) {
            loading.claims -= 1;
        }
        if let Some(loaded) = state.loaded.get_mut(&name) {
            loaded.claims = loaded.claims.saturating_sub(1);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.waiting.remove(&self.ticket);
        self.give_up(&mut state);
        drop(state);
        self.slots.changed.notify_waiters();
    }
}
