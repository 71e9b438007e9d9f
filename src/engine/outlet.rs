//! The way to one request's sink: one final event, whatever happens. Knows nothing of tokens.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::request::{Event, Sink};
use crate::engine::together::Wanted;
use crate::error::Error;

/// A sink that gets exactly one final event: the one it is given, or, where this is dropped
/// without one, [`Event::Failed`]. A sink that panics is not called again.
pub(super) struct Outlet {
    sink: Option<Sink>,
    /// Where several processes have the request, whether they all know that it is not wanted any more.
    wanted: Option<Arc<Wanted>>,
}

impl Outlet {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink: Some(sink),
            wanted: None,
        }
    }

    /// From now on the request ends for a `Break` of its sink when all processes do so.
    pub(super) fn leave_together(&mut self, wanted: Arc<Wanted>) {
        self.wanted = Some(wanted);
    }

    /// Passes an event on; `Break` where the sink says so or is no longer there.
    pub(super) fn tell(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let flow = self.tell_sink(event);
        let Some(wanted) = &self.wanted else {
            return flow;
        };
        if flow.is_break() {
            wanted.is_left.store(true, Ordering::Relaxed);
        }
        if wanted.is_over.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn tell_sink(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let Some(sink) = &mut self.sink else {
            return ControlFlow::Break(());
        };
        let flow = catch_unwind(AssertUnwindSafe(|| sink(event)));
        flow.unwrap_or_else(|_| {
            self.sink = None;
            ControlFlow::Break(())
        })
    }

    /// Passes the final event on.
    pub(super) fn end(mut self, event: Event<'_>) {
        // After the final event there is nothing left that a `Break` could end.
        let _: ControlFlow<()> = self.tell(event);
        self.sink = None;
    }

    /// Forgets the sink without a word to it.
    pub(super) fn disarm(mut self) {
        self.sink = None;
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.sink.is_some() {
            let stopped = Error::EngineStopped("its thread has ended".to_owned());
            let _: ControlFlow<()> = self.tell(Event::Failed(stopped));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_dropped_outlet_tells_and_a_disarmed_one_is_silent() {
        let (sender, events) = channel();
        let outlet = || {
            let sender = sender.clone();
            Outlet::new(Box::new(move |event| {
                sender.send(format!("{event:?}")).unwrap();
                ControlFlow::Continue(())
            }))
        };
        outlet().disarm();
        outlet().end(Event::Prefill { done: 1, total: 1 });
        drop(outlet());
        drop(sender);
        let told = events.iter().collect::<Vec<_>>();
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("Prefill") && told[1].contains("EngineStopped"),
            "{told:?}"
        );
    }
}
