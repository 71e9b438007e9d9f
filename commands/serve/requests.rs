//! What was asked of a runner and is not answered yet. Knows no process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mlxr::engine::figures::Figures;
use tokio::sync::{mpsc, oneshot};

use crate::wire::{Failure, Happened};

/// What happens to a request, and which one of several it is.
pub(super) type News = (usize, Happened);

/// Everything that is open, each under a number of its own.
#[derive(Default)]
pub(super) struct Requests(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    generations: HashMap<u64, (usize, mpsc::UnboundedSender<News>)>,
    figures: HashMap<u64, oneshot::Sender<Figures>>,
    last_figures: Figures,
    /// Why nothing will be answered any more.
    ended: Option<Failure>,
}

impl Open {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Requests {
    /// Takes a request in: its number. Where the runner has ended, it fails.
    pub(super) fn add(&self, index: usize, news: &mpsc::UnboundedSender<News>) -> u64 {
        let mut open = self.open();
        let id = open.id();
        match &open.ended {
            None => drop(open.generations.insert(id, (index, news.clone()))),
            // Its reader is about to be made.
            Some(failure) => drop(news.send((index, Happened::Failed(failure.clone())))),
        }
        id
    }

    /// Forgets a request; says whether it was open.
    pub(super) fn remove(&self, id: u64) -> bool {
        self.open().generations.remove(&id).is_some()
    }

    /// Something happened to a request.
    pub(super) fn tell(&self, id: u64, event: Happened) {
        let mut open = self.open();
        let news = if event.is_end() {
            open.generations.remove(&id)
        } else {
            open.generations.get(&id).cloned()
        };
        if let Some((index, news)) = news {
            // Who no longer listens has cancelled it.
            drop(news.send((index, event)));
        }
    }

    /// Takes a question for figures in. Where the runner has ended, it is dropped.
    pub(super) fn ask(&self) -> (u64, oneshot::Receiver<Figures>) {
        let (sender, receiver) = oneshot::channel();
        let mut open = self.open();
        let id = open.id();
        if open.ended.is_none() {
            open.figures.insert(id, sender);
        }
        (id, receiver)
    }

    /// The figures that were asked for.
    pub(super) fn answer(&self, id: u64, figures: Figures) {
        let mut open = self.open();
        open.last_figures = figures.clone();
        if let Some(asker) = open.figures.remove(&id) {
            // Who waited long enough has gone.
            drop(asker.send(figures));
        }
    }

    /// The last figures that came.
    pub(super) fn last_figures(&self) -> Figures {
        self.open().last_figures.clone()
    }

    /// Fails all that are open, and all that will come.
    pub(super) fn end(&self, failure: &Failure) {
        let mut open = self.open();
        open.ended = Some(failure.clone());
        open.figures.clear();
        for (index, news) in std::mem::take(&mut open.generations).into_values() {
            drop(news.send((index, Happened::Failed(failure.clone()))));
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Maps of handles are whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::{Happened, Requests};
    use crate::wire::{Failure, Fault};

    #[test]
    fn what_is_open_when_the_runner_ends_fails_and_what_comes_later_too() {
        let requests = Requests::default();
        let (sender, mut news) = unbounded_channel();
        let first = requests.add(0, &sender);
        let second = requests.add(1, &sender);
        assert!(requests.remove(second) && !requests.remove(second));
        let failure = Failure::new(Fault::Gone, "gone");
        requests.end(&failure);
        requests.tell(first, Happened::Prefill { done: 1, total: 2 });
        requests.add(2, &sender);
        drop(sender);
        for wanted in [0, 2] {
            let (index, Happened::Failed(told)) = news.blocking_recv().unwrap() else {
                panic!("no failure")
            };
            assert_eq!((index, told), (wanted, failure.clone()));
        }
        assert!(news.blocking_recv().is_none());
        assert!(requests.ask().1.blocking_recv().is_err());
    }
}
