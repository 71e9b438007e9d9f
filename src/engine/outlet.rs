//! The way to one request's sink: one final event, whatever happens. Knows nothing of tokens.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::request::{Event, Sink};
use crate::error::Error;

/// A sink that gets exactly one final event: the one it is given, or, where this is dropped
/// without one, [`Event::Failed`]. A sink that panics is not called again.
pub(super) struct Outlet(Option<Sink>);

impl Outlet {
    pub(super) fn new(sink: Sink) -> Self {
        Self(Some(sink))
    }

    /// Passes an event on; `Break` where the sink says so or is no longer there.
    pub(super) fn tell(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let Some(sink) = &mut self.0 else {
            return ControlFlow::Break(());
        };
        let flow = catch_unwind(AssertUnwindSafe(|| sink(event)));
        flow.unwrap_or_else(|_| {
            self.0 = None;
            ControlFlow::Break(())
        })
    }

    /// Passes the final event on.
    pub(super) fn end(mut self, event: Event<'_>) {
        // After the final event there is nothing left that a `Break` could end.
        let _: ControlFlow<()> = self.tell(event);
        self.0 = None;
    }

    /// Forgets the sink without a word to it.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.0.is_some() {
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
