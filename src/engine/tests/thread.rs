//! The engine on its thread: handles, waiting, and every way in which the thread can end.

use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::engine::Engine;
use crate::error::Error;

fn engine(fake: impl FnOnce(&mut Fake) + Send + 'static) -> Engine {
    Engine::start(Arc::clone(&TOKENIZER), move || {
        let mut made = Fake::new(Box::new(any_token));
        fake(&mut made);
        Ok(made)
    })
    .unwrap()
}

/// A sink whose events can be waited for. Dropping the receiver makes it say `Break`.
fn channelled() -> (Sink, Receiver<Kept>) {
    let (sender, receiver) = channel();
    let sink: Sink = Box::new(move |event| {
        let is_gone = Kept::of(event).is_some_and(|event| sender.send(event).is_err());
        if is_gone {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    (sink, receiver)
}

fn endless() -> Request {
    Request {
        ignore_eos: true,
        ..request(&bytes("abc"))
    }
}

/// A request that is waited for until it has ended; the error where it failed.
fn failure(events: &Receiver<Kept>) -> Option<String> {
    match events.iter().last() {
        Some(Kept::Failed(error)) => Some(error),
        _ => None,
    }
}

#[test]
fn a_handle_is_shared_between_threads() {
    fn is_shared<T: Send + Sync + Clone>(value: T) -> T {
        value
    }
    let engine = is_shared(engine(|_| ()));
    assert_eq!(engine.context(), 64);
    let expected = Bench::hashing().answer(request(&bytes("abc")));
    let workers = (0..4).map(|_| {
        let engine = engine.clone();
        thread::Builder::new().spawn(move || {
            let (sink, events) = channelled();
            engine.submit(request(&bytes("abc")), sink).unwrap();
            let ids = events.iter().map(|event| match event {
                Kept::Text { ids, .. } => ids,
                _ => Vec::new(),
            });
            ids.flatten().collect::<Vec<_>>()
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        assert_eq!(worker.unwrap().join().unwrap(), expected.ids);
    }
}

#[test]
fn a_stepper_that_cannot_be_made_is_an_error() {
    let start = |make: fn() -> crate::Result<Fake>| {
        Engine::start(Arc::clone(&TOKENIZER), make)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(start(|| Err(Error::Mlx("no".to_owned()))), "MLX: no");
    assert_eq!(
        start(|| panic!("made to panic")),
        "the engine has stopped: its thread panicked: made to panic"
    );
}

#[test]
fn a_bad_request_comes_back_and_its_sink_is_not_called() {
    let (sink, events) = channelled();
    let refused = engine(|_| ()).submit(Request::default(), sink);
    assert!(matches!(refused, Err(Error::EmptyPrompt)));
    assert_eq!(events.iter().count(), 0);
}

#[test]
fn dropping_the_last_handle_fails_what_is_in_flight() {
    let engine = engine(|fake| fake.context = usize::MAX);
    let second = engine.clone();
    let (sink, events) = channelled();
    engine.submit(endless(), sink).unwrap();
    drop(engine);
    assert!(matches!(events.recv(), Ok(Kept::Started { .. })));
    drop(second);
    assert_eq!(
        failure(&events).as_deref(),
        Some("the engine has stopped: its last handle is gone")
    );
}

#[test]
fn a_panic_on_the_thread_reaches_everyone() {
    let engine = engine(|fake| fake.panic_step = Some(3));
    let waiting = [0, 1, 2].map(|_| {
        let (sink, events) = channelled();
        engine.submit(endless(), sink).map(|()| events)
    });
    for events in waiting {
        // A request may also come too late, and is then refused.
        let told = events.map_or_else(|error| Some(error.to_string()), |events| failure(&events));
        let told = told.unwrap();
        assert!(told.starts_with("the engine has stopped"), "{told}");
        assert!(told.contains("told to panic"), "{told}");
    }
    let (sink, events) = channelled();
    while engine
        .submit(endless(), Box::new(|_| ControlFlow::Continue(())))
        .is_ok()
    {
        thread::yield_now();
    }
    let refused = engine.submit(endless(), sink).unwrap_err().to_string();
    assert!(refused.contains("told to panic"), "{refused}");
    assert_eq!(
        events.iter().count(),
        0,
        "a refused request's sink is not called"
    );
}

#[test]
fn a_sink_may_submit_and_may_hold_the_last_handle() {
    let engine = engine(|_| ());
    let (mut next, events) = channelled();
    let handle = Mutex::new(Some((engine.clone(), channelled().0)));
    let sink: Sink = Box::new(move |event| {
        if matches!(event, Event::Done { .. })
            && let Some((engine, sink)) = handle.lock().unwrap().take()
        {
            engine.submit(request(&bytes("abcd")), sink).unwrap();
        }
        next(event)
    });
    engine.submit(request(&bytes("abc")), sink).unwrap();
    drop(engine);
    assert!(matches!(events.iter().last(), Some(Kept::Done { .. })));
}

#[test]
fn a_client_that_has_left_ends_its_request() {
    let engine = engine(|fake| fake.context = usize::MAX);
    let (sink, events) = channelled();
    let (mut inner, (done, is_done)) = (sink, channel());
    let sink: Sink = Box::new(move |event| {
        if let Event::Done { finish, .. } = &event {
            done.send(finish.clone()).unwrap();
        }
        inner(event)
    });
    engine.submit(endless(), sink).unwrap();
    assert!(matches!(events.recv(), Ok(Kept::Started { .. })));
    drop(events);
    assert_eq!(is_done.recv(), Ok(Finish::Cancelled));
}
