//! A prompt that is computed for what stays of it, and not for an answer.

use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use mlxr::engine::request::{Event, Request, Usage};
use mlxr::{Error, Result};

use crate::interrupt::Interrupt;
use crate::model::Model;
use crate::ui::Printer;
use crate::ui::progress::Prefill;

/// What it took.
pub(crate) struct Computed {
    pub(crate) usage: Usage,
    pub(crate) time: Duration,
}

/// Computes the prompt of a request and one token behind it; `None` where Ctrl-C was pressed.
///
/// # Errors
/// What the engine says.
pub(crate) fn computed(
    model: &Model,
    request: Request,
    interrupt: &Interrupt,
    printer: Printer,
) -> Result<Option<Computed>> {
    let begin = Instant::now();
    let (sender, receiver) = channel();
    let mut prefill = Prefill::new(printer);
    let pressed = interrupt.clone();
    let sink = Box::new(move |event: Event<'_>| {
        match event {
            Event::Prefill { done, total } => {
                prefill.advance(done, total);
            }
            // Nobody listens any more only where this thread has ended.
            Event::Done { usage, .. } => drop(sender.send(Ok(usage))),
            Event::Failed(error) => drop(sender.send(Err(error))),
            Event::Waiting | Event::Started { .. } | Event::Read(_) | Event::Text { .. } => {}
        }
        if pressed.pressed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let request = Request {
        limit: Some(1),
        ..request
    };
    interrupt.begin();
    let submitted = model.engine.submit(request, sink);
    let ended = submitted.and_then(|()| {
        let fell_silent = |_| Error::EngineStopped("it fell silent".to_owned());
        receiver.recv().map_err(fell_silent)?
    });
    let is_interrupted = interrupt.end();
    let usage = ended?;
    Ok((!is_interrupted).then(|| Computed {
        usage,
        time: begin.elapsed(),
    }))
}
