//! `mlxr runner`: one model behind standard input and output, for the server. Knows no HTTP.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use mlxr::Sharing;
use mlxr::engine::Engine;
use mlxr::engine::request::{Event, Request};
use mlxr::progress::Progress;
use mlxr::{Error, LoadOptions, Result};

use crate::args::Runner;
use crate::model;
use crate::ranks;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::progress::Drawn;
use crate::wire::{Asked, Failure, Happened, Said};

/// Loads the model and answers until standard input ends.
pub(crate) fn run(flags: &Runner, settings: &Settings, printer: Printer) -> Result<Exit> {
    let memory = flags.budget.bytes();
    let hosts = match ranks::stand_by(flags.together, &flags.model, memory, settings, printer)? {
        ControlFlow::Break(exit) => return Ok(exit),
        ControlFlow::Continue(hosts) => hosts,
    };
    let (sayings, said) = channel();
    let writer = thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || write(&said))
        .map_err(Error::io("start", "a thread"))?;
    let ended = serve(flags, hosts, settings, printer, &sayings);
    drop(sayings);
    let written = writer
        .join()
        .map_err(|_| Error::EngineStopped("its writer panicked".to_owned()))?;
    ended.and(written).map(|()| Exit::Success)
}

fn serve(
    flags: &Runner,
    hosts: Option<PathBuf>,
    settings: &Settings,
    printer: Printer,
    sayings: &Sender<Said>,
) -> Result<()> {
    let loaded =
        model::files(&flags.model, settings, &Drawn::new(printer)).and_then(|(_, files)| {
            let options = LoadOptions {
                memory: flags.budget.bytes(),
                sharing: Sharing {
                    taken: flags.taken,
                    coming: flags.coming,
                },
                kept: model::kept(&flags.kept, settings)?,
                hosts,
                ..model::options(&flags.model, settings)
            };
            mlxr::open(&files, &options, Arc::new(Told(sayings.clone())))
        });
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            say(sayings, Said::Failed(Failure::of_server(&error)));
            return Err(error);
        }
    };
    say(sayings, Said::Ready(Box::new(loaded.description.into())));
    let requests = Requests {
        engine: loaded.engine,
        sayings: sayings.clone(),
        wanted: Arc::default(),
    };
    let read = requests.read();
    // Whatever still runs ends with its next step.
    requests.wanted().clear();
    read
}

/// Writes what is said, until nobody says anything any more.
fn write(said: &Receiver<Said>) -> Result<()> {
    while let Ok(first) = said.recv() {
        for saying in [first].into_iter().chain(said.try_iter()) {
            let line = serde_json::to_string(&saying)
                .map_err(|error| Error::EngineStopped(format!("an event is no JSON: {error}")))?;
            printer::data(&line)?;
            printer::data("\n")?;
        }
        printer::flush()?;
    }
    Ok(())
}

/// Where the writer has ended, standard output has, and standard input is about to.
fn say(sayings: &Sender<Said>, said: Said) {
    drop(sayings.send(said));
}

/// The requests of the server.
#[derive(Clone)]
struct Requests {
    engine: Engine,
    sayings: Sender<Said>,
    /// Those that have not ended and were not cancelled.
    wanted: Arc<Mutex<HashSet<u64>>>,
}

impl Requests {
    /// Does what the server asks until it asks no more.
    fn read(&self) -> Result<()> {
        for line in io::stdin().lock().lines() {
            let line = line.map_err(Error::io("read", "standard input"))?;
            let asked = serde_json::from_str(&line).map_err(|error| Error::Request {
                field: "request",
                problem: error.to_string(),
            })?;
            match asked {
                Asked::Generate { id, request } => self.generate(id, *request)?,
                Asked::Cancel { id } => {
                    self.wanted().remove(&id);
                }
                Asked::Figures { id } => self.figures(id),
            }
        }
        Ok(())
    }

    /// # Errors
    /// Where the engine has stopped: the process is of no use then.
    fn generate(&self, id: u64, request: Request) -> Result<()> {
        self.wanted().insert(id);
        if request.constraint.is_none() {
            return self.submit(id, request);
        }
        // A constraint is made a grammar first, which may take seconds: others are not to wait for that.
        let requests = self.clone();
        let thread = thread::Builder::new().name("submit".to_owned());
        let submitting = thread.spawn(move || {
            // Where the engine has stopped, the next request finds out too.
            drop(requests.submit(id, request));
        });
        submitting.map(drop).map_err(Error::io("start", "a thread"))
    }

    fn submit(&self, id: u64, request: Request) -> Result<()> {
        let (wanted, sayings) = (Arc::clone(&self.wanted), self.sayings.clone());
        let sink = Box::new(move |event: Event<'_>| {
            let event = Happened::of(event);
            let mut wanted = lock(&wanted);
            let is_wanted = if event.as_ref().is_some_and(Happened::is_end) {
                wanted.remove(&id)
            } else {
                wanted.contains(&id)
            };
            drop(wanted);
            if let Some(event) = event {
                say(&sayings, Said::Event { id, event });
            }
            if is_wanted {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if let Err(error) = self.engine.submit(request, sink) {
            self.wanted().remove(&id);
            let event = Happened::Failed(Failure::of(&error));
            say(&self.sayings, Said::Event { id, event });
            if let Error::EngineStopped(_) = error {
                return Err(error);
            }
        }
        Ok(())
    }

    fn figures(&self, id: u64) {
        let sayings = self.sayings.clone();
        let asked = self.engine.inspect(move |figures| {
            let figures = Box::new(figures);
            say(&sayings, Said::Figures { id, figures });
        });
        // An engine that has stopped is not asked for long: the server is told by its requests.
        drop(asked);
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<u64>> {
        lock(&self.wanted)
    }
}

/// A set of numbers is whole whoever panicked.
fn lock(wanted: &Mutex<HashSet<u64>>) -> MutexGuard<'_, HashSet<u64>> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the server what its user should know.
struct Told(Sender<Said>);

impl Progress for Told {
    fn notice(&self, sentence: &str) {
        say(&self.0, Said::Notice(sentence.to_owned()));
    }
}
