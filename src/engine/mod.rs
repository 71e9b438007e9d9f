//! Requests in, events out: schedules sequences on the one thread that computes. Knows no MLX.

mod answer;
mod captures;
pub mod figures;
pub mod model_stepper;
mod outlet;
mod prefixes;
pub mod request;
mod schedule;
mod sequence;
pub mod sockets;
pub mod stepper;
mod stop;
pub mod together;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::constraint::Grammars;
use crate::engine::figures::Figures;
use crate::engine::outlet::Outlet;
use crate::engine::request::{Event, Request, Sink};
use crate::engine::schedule::Scheduler;
use crate::engine::sequence::Submission;
use crate::engine::stepper::Restorable;
use crate::error::{Error, Result, panic_text};
use crate::tokenizer::Tokenizer;

/// A handle on the thread that computes. Clones are cheap and share it. When the last one is
/// dropped, requests that have not ended fail, and the drop waits until the thread has ended.
#[derive(Clone)]
pub struct Engine {
    thread: Arc<Thread>,
}

struct Thread {
    /// `None` only while this is dropped.
    sender: Option<Sender<Message>>,
    /// `None` only while this is dropped.
    handle: Option<JoinHandle<()>>,
    context: usize,
    grammars: Grammars,
    /// Why the thread ended, set before it takes no more requests.
    ended: Arc<OnceLock<String>>,
}

/// What the thread is told.
enum Message {
    /// A request.
    Submitted(Box<Submission>),
    /// Somebody wants to know what there is.
    Asked(Teller),
}

/// Is given what there is, on the engine's thread.
type Teller = Box<dyn FnOnce(Figures) + Send>;

impl Engine {
    /// Starts the thread, makes the stepper on it with `make`, and waits until that is done.
    /// `tokenizer` turns the produced tokens into text.
    ///
    /// # Errors
    /// What `make` gave, or [`Error::EngineStopped`] where it panicked.
    pub fn start<S: Restorable + 'static>(
        tokenizer: Arc<Tokenizer>,
        make: impl FnOnce() -> Result<S> + Send + 'static,
    ) -> Result<Self> {
        let grammars = Grammars::new(Arc::clone(&tokenizer));
        let (sender, receiver) = channel();
        let (made, is_made) = channel();
        let ended = Arc::new(OnceLock::new());
        let ending = Arc::clone(&ended);
        let handle = thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || live(tokenizer, make, &made, &receiver, &ending))
            .map_err(|error| Error::EngineStopped(format!("its thread did not start: {error}")))?;
        let context = is_made.recv().map_err(|_| stopped(&ended)).flatten()?;
        let (sender, handle) = (Some(sender), Some(handle));
        Ok(Self {
            thread: Arc::new(Thread {
                sender,
                handle,
                context,
                grammars,
                ended,
            }),
        })
    }

    /// Tokens that the model can hold, prompt and answer together.
    pub fn context(&self) -> usize {
        self.thread.context
    }

    /// Checks a request and queues it; `sink` then gets its events on the engine's thread.
    ///
    /// # Errors
    /// As [`Request::check`], [`Error::Request`] where its constraint cannot be followed, or
    /// [`Error::EngineStopped`]; `sink` is then never called.
    pub fn submit(&self, request: Request, sink: Sink) -> Result<()> {
        request.check(self.context())?;
        let submitted = Instant::now();
        let after = request.constraint_after.as_deref();
        let guide = request.constraint.as_ref();
        let guide = guide.map(|constraint| self.thread.grammars.guide(constraint, after));
        let guide = guide.transpose()?.map(Box::new);
        let outlet = Outlet::new(sink);
        let submission = Submission {
            request,
            outlet,
            submitted,
            guide,
        };
        self.send(Message::Submitted(Box::new(submission)))
    }

    /// Has `tell` called on the engine's thread with what it holds, once its present step is done.
    ///
    /// # Errors
    /// [`Error::EngineStopped`]; `tell` is then never called.
    pub fn inspect(&self, tell: impl FnOnce(Figures) + Send + 'static) -> Result<()> {
        self.send(Message::Asked(Box::new(tell)))
    }

    fn send(&self, message: Message) -> Result<()> {
        let sender = self.thread.sender.as_ref();
        let sender = sender.ok_or_else(|| stopped(&self.thread.ended))?;
        sender.send(message).map_err(|SendError(message)| {
            if let Message::Submitted(submission) = message {
                submission.outlet.disarm();
            }
            stopped(&self.thread.ended)
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.sender = None;
        // A sink may hold the last handle; the thread cannot wait for itself.
        if let Some(handle) = self.handle.take()
            && handle.thread().id() != thread::current().id()
        {
            // A panic there was told to everyone whom it concerned.
            drop(handle.join());
        }
    }
}

fn stopped(ended: &OnceLock<String>) -> Error {
    Error::EngineStopped(
        ended
            .get()
            .map_or("its thread has ended", String::as_str)
            .to_owned(),
    )
}

/// The thread's life. Whatever ends it, everyone who waits is told.
fn live<S: Restorable>(
    tokenizer: Arc<Tokenizer>,
    make: impl FnOnce() -> Result<S>,
    made: &Sender<Result<usize>>,
    receiver: &Receiver<Message>,
    ended: &OnceLock<String>,
) {
    let mut scheduler = None;
    let life = catch_unwind(AssertUnwindSafe(|| match make() {
        Ok(stepper) => {
            let context = stepper.context();
            let scheduler = scheduler.insert(Scheduler::new(stepper, tokenizer));
            if made.send(Ok(context)).is_ok() {
                return run(scheduler, receiver);
            }
            Ok(())
        }
        Err(error) => {
            drop(made.send(Err(error)));
            Ok(())
        }
    }));
    let why = match life {
        Ok(Ok(())) => "its last handle is gone".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("its thread panicked: {}", panic_text(&*panic)),
    };
    let why = ended.get_or_init(|| why);
    if let Some(scheduler) = scheduler {
        scheduler.stop(why);
    }
    for message in receiver.try_iter() {
        if let Message::Submitted(submission) = message {
            let stopped = Error::EngineStopped(why.clone());
            submission.outlet.end(Event::Failed(stopped));
        }
    }
}

/// Serves until the last handle is gone. Sleeps when there is nothing to do.
fn run<S: Restorable>(scheduler: &mut Scheduler<S>, receiver: &Receiver<Message>) -> Result<()> {
    let mut together = scheduler.together();
    loop {
        let (mut submitted, mut asked) = (Vec::new(), Vec::new());
        let mut hear = |message| match message {
            Message::Submitted(submission) => submitted.push(*submission),
            Message::Asked(tell) => asked.push(tell),
        };
        let mut is_over = false;
        if !scheduler.has_work() {
            match receiver.recv() {
                Ok(message) => hear(message),
                Err(_) => is_over = true,
            }
        }
        while !is_over {
            match receiver.try_recv() {
                Ok(message) => hear(message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => is_over = true,
            }
        }
        if let Some(together) = &mut together {
            (submitted, is_over) = together.hear(submitted, is_over)?;
        }
        for submission in submitted {
            scheduler.submit(submission);
        }
        // Who asks after a request was submitted finds it.
        for tell in asked {
            tell(scheduler.figures());
        }
        if is_over {
            return Ok(());
        }
        scheduler.turn();
    }
}

/// Does what the engine of the first of several processes does, turn by turn, until that has ended.
///
/// # Errors
/// [`Error::Ranks`] where the others cannot be reached, or there are none.
pub fn follow<S: Restorable>(tokenizer: Arc<Tokenizer>, stepper: S) -> Result<()> {
    let mut scheduler = Scheduler::new(stepper, tokenizer);
    let together = scheduler.together();
    let mut together = together.ok_or_else(|| Error::Ranks("there are no others".to_owned()))?;
    loop {
        let (submitted, is_over) = together.hear(Vec::new(), false)?;
        if is_over {
            return Ok(());
        }
        for submission in submitted {
            scheduler.submit(submission);
        }
        scheduler.turn();
    }
}
