//! Who may be loaded, when, and who has to go for it. Knows no process and no file of a model.
//!
//! Requests for a model that is loaded take it at once, unless an earlier one waits for another model: then they
//! wait behind it, so that nobody waits for ever.

mod place;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, sleep_until};

use super::{Known, Launcher, PATIENCE, Read, Served};
use crate::wire::{Failure, Fault};
use place::{Found, Place};
use state::{Loaded, Loading, State};

/// The models that are loaded, `most` at a time.
pub(crate) struct Slots {
    launcher: Launcher,
    most: usize,
    /// Places for requests; who finds none is sent away.
    places: Arc<Semaphore>,
    /// How long a model stays that nobody uses.
    keep_alive: Duration,
    state: Mutex<State>,
    changed: Notify,
    /// Held by who loads a model.
    loads: tokio::sync::Mutex<()>,
}

/// What is told of a model.
pub(crate) enum Residence {
    /// It answers.
    Loaded {
        served: Arc<Served>,
        leases: usize,
        /// When it goes if nobody uses it; `None` while somebody does.
        expires: Option<Duration>,
    },
    /// It will answer.
    Loading {
        /// Its name.
        name: String,
        /// For how long it has been loading.
        time: Duration,
    },
}

impl Slots {
    /// At most `most` models at a time are loaded, and `requests` answered or waiting.
    pub(crate) fn new(
        launcher: Launcher,
        most: usize,
        requests: usize,
        keep_alive: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            launcher,
            most,
            places: Arc::new(Semaphore::new(requests)),
            keep_alive,
            state: Mutex::default(),
            changed: Notify::new(),
            loads: tokio::sync::Mutex::default(),
        })
    }

    /// Which models there are.
    pub(crate) fn names(&self) -> &super::Names {
        &self.launcher.names
    }

    /// The model of that name, loaded if need be; it stays while the lease is held.
    ///
    /// # Errors
    /// Where there is no such model, it cannot be loaded, or too many wait already.
    pub(crate) async fn lease(self: &Arc<Self>, name: Option<&str>) -> Result<Lease, Failure> {
        let known = self.launcher.names.find(name)?;
        let place_taken = Arc::clone(&self.places).try_acquire_owned();
        let busy = |_| {
            Failure::new(
                Fault::Busy,
                "too many requests wait already: try again later",
            )
        };
        let permit = place_taken.map_err(busy)?;
        let mut place = Place::new(self);
        loop {
            // Before looking, so that no change is missed.
            let changed = self.changed.notified();
            let found = place.look(&known);
            match found {
                Found::Loaded(served) => {
                    return Ok(Lease {
                        served,
                        slots: Arc::clone(self),
                        _permit: permit,
                    });
                }
                Found::Loading(mut done) => {
                    let done = done.wait_for(Option::is_some).await;
                    let failed = done.ok().and_then(|done| done.clone()?.err());
                    if let Some(failure) = failed {
                        return Err(failure);
                    }
                }
                Found::Full => changed.await,
                Found::Closed => return Err(closed()),
            }
        }
    }

    /// Why the last model that was to be loaded could not be, if so.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// Changes how long a model stays when nobody uses it.
    pub(crate) fn keep(&self, name: &str, keep_alive: Duration) {
        if let Some(loaded) = self.state().loaded.get_mut(name) {
            loaded.keep_alive = keep_alive;
        }
        self.changed.notify_waiters();
    }

    /// What is loaded or about to be.
    pub(crate) fn residents(&self) -> Vec<Residence> {
        let state = self.state();
        let loading = state
            .loading
            .iter()
            .map(|(name, loading)| Residence::Loading {
                name: name.clone(),
                time: loading.since.elapsed(),
            });
        let loaded = state.loaded.values().map(|loaded| Residence::Loaded {
            served: Arc::clone(&loaded.served),
            leases: loaded.leases,
            expires: loaded
                .expires()
                .map(|at| at.saturating_duration_since(Instant::now())),
        });
        loaded.chain(loading).collect()
    }

    /// Lets models go that nobody has used for long enough. Never ends.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.state();
                let now = Instant::now();
                let expired = |loaded: &Loaded| loaded.expires().is_some_and(|at| at <= now);
                let names = state.loaded.iter().filter(|(_, loaded)| expired(loaded));
                let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.end(&mut state, &name);
                }
                state.loaded.values().filter_map(Loaded::expires).min()
            };
            match next {
                Some(at) => tokio::select! {
                    () = sleep_until(at.into()) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Lets all models go, and waits until they have; those in use may end what they do for `patience`.
    pub(crate) async fn close(self: &Arc<Self>, patience: Duration) {
        self.state().is_closed = true;
        self.changed.notify_waiters();
        let deadline = sleep(patience);
        tokio::pin!(deadline);
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                let is_late = deadline.is_elapsed();
                let names = state
                    .loaded
                    .iter()
                    .filter(|(_, loaded)| is_late || loaded.leases == 0);
                let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.end(&mut state, &name);
                }
                if state.loaded.is_empty() && state.loading.is_empty() && state.ending == 0 {
                    return;
                }
            }
            tokio::select! {
                () = changed => {}
                () = &mut deadline, if !deadline.is_elapsed() => {}
            }
        }
    }

    /// Begins to load a model.
    fn begin(self: &Arc<Self>, state: &mut State, known: &Known) {
        let (done, is_done) = watch::channel(None);
        let loading = Loading {
            claims: 0,
            done: is_done,
            since: Instant::now(),
        };
        let name = known.name.clone();
        state.loading.insert(name.clone(), loading);
        let (slots, known) = (Arc::clone(self), known.clone());
        let before = state.died.remove(&name);
        // A task of its own: who asked for it may leave, and others wait for it too.
        tokio::spawn(async move {
            let loaded = slots.load(known, before).await;
            let mut state = slots.state();
            let claims = state
                .loading
                .remove(&name)
                .map_or(0, |loading| loading.claims);
            state.failure = loaded.as_ref().err().cloned();
            let told = match loaded {
                Ok(served) => {
                    let loaded = Loaded {
                        served: Arc::new(served),
                        leases: 0,
                        claims,
                        last_used: Instant::now(),
                        keep_alive: slots.keep_alive,
                    };
                    state.loaded.insert(name, loaded);
                    Ok(())
                }
                Err(failure) => Err(failure),
            };
            drop(state);
            if let Err(failure) = &told {
                slots.launcher.printer.failure(&failure.message);
            }
            // Nobody need be there any more.
            drop(done.send(Some(told)));
            slots.changed.notify_waiters();
        });
    }

    /// Loads a model when those before it are, so that it is known what they leave. Where that is too little, idle
    /// ones go.
    async fn load(
        self: &Arc<Self>,
        known: Known,
        before: Option<Arc<Read>>,
    ) -> Result<Served, Failure> {
        let _turn = self.loads.lock().await;
        loop {
            let sharing = self.state().sharing(self.most);
            let load = self.launcher.load(known.clone(), sharing, before.clone());
            let loaded = load.await;
            let Err(failure) = &loaded else {
                return loaded;
            };
            if failure.fault != Fault::Full || sharing.taken == 0 {
                return loaded;
            }
            if !self.make_room(sharing.taken).await {
                let message = format!("{}: others are in use, try again later", failure.message);
                return Err(Failure::new(Fault::Busy, message));
            }
        }
    }

    /// Lets the model go that has been idle for longest, and waits until less than `taken` bytes are taken; whether
    /// that came to be.
    async fn make_room(self: &Arc<Self>, taken: usize) -> bool {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if state.sharing(self.most).taken < taken {
                    return true;
                }
                if state.ending == 0 {
                    let Some(idle) = state.idle() else {
                        return false;
                    };
                    self.end(&mut state, &idle);
                }
            }
            changed.await;
        }
    }

    /// Lets a model go.
    fn end(self: &Arc<Self>, state: &mut State, name: &str) {
        let Some(loaded) = state.loaded.remove(name) else {
            return;
        };
        let bytes = loaded.served.memory();
        state.ending += 1;
        state.ending_bytes += bytes;
        let slots = Arc::clone(self);
        tokio::spawn(async move {
            loaded.served.child.stop(PATIENCE).await;
            slots
                .launcher
                .printer
                .detail(format_args!("{}: ended", loaded.served.name));
            let mut state = slots.state();
            state.ending -= 1;
            state.ending_bytes -= bytes;
            drop(state);
            slots.changed.notify_waiters();
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model that stays loaded while this is held.
pub(crate) struct Lease {
    served: Arc<Served>,
    slots: Arc<Slots>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(crate) fn served(&self) -> &Arc<Served> {
        &self.served
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        // One that has ended meanwhile may have a successor.
        if let Some(loaded) = state.loaded.get_mut(&self.served.name)
            && Arc::ptr_eq(&loaded.served, &self.served)
        {
            loaded.leases -= 1;
            loaded.last_used = Instant::now();
        }
        drop(state);
        self.slots.changed.notify_waiters();
    }
}

fn closed() -> Failure {
    Failure::new(Fault::Gone, "the server is ending")
}
