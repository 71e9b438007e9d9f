//! One runner: a process that has a model, what is asked of it, and how it ends. Knows no HTTP and no text.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mlxr::engine::figures::Figures;
use mlxr::engine::request::Request;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::requests::{News, Requests};
use super::words::LastWords;
use crate::ui::Printer;
use crate::wire::{Asked, Facts, Failure, Fault, Said};

/// A runner that has loaded its model.
pub(crate) struct Child {
    /// `None` once it was asked to end.
    asks: Mutex<Option<mpsc::UnboundedSender<Asked>>>,
    requests: Arc<Requests>,
    /// Why it has ended, once it has.
    ended: watch::Receiver<Option<Failure>>,
    kill: Arc<Notify>,
    facts: Facts,
    name: String,
    printer: Printer,
}

impl Child {
    /// Starts a runner of the model `name` by `command`, and waits until it has loaded it.
    ///
    /// # Errors
    /// Where it could not be started, or what it failed with.
    pub(crate) async fn start(
        name: &str,
        mut command: Command,
        printer: Printer,
    ) -> Result<Self, Failure> {
        let started = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the server, which ends its runners in good order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let not_started = |why: String| {
            Failure::new(
                Fault::Internal,
                format!("{name} could not be loaded: {why}"),
            )
        };
        let mut process = started.map_err(|error| not_started(error.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            return Err(not_started("its process has no pipes".to_owned()));
        };
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(write(stdin, asked));
        let words = LastWords::listen(stderr, name.to_owned(), printer);
        let (ending, ended) = watch::channel(None);
        let (ready, is_ready) = oneshot::channel();
        let kill = Arc::new(Notify::new());
        let life = Life {
            name: name.to_owned(),
            requests: Arc::default(),
            ready: Some(ready),
            printer,
        };
        let requests = Arc::clone(&life.requests);
        let killed = Arc::clone(&kill);
        tokio::spawn(async move {
            let failure = life.live(process, stdout, words, &killed).await;
            drop(ending.send(Some(failure)));
        });
        match is_ready.await {
            Ok(Ok(facts)) => Ok(Self {
                asks: Mutex::new(Some(asks)),
                requests,
                ended,
                kill,
                facts: *facts,
                name: name.to_owned(),
                printer,
            }),
            Ok(Err(failure)) => Err(Failure {
                fault: failure.fault,
                ..not_started(failure.message)
            }),
            Err(_) => Err(not_started(reason(ended).await.message)),
        }
    }

    /// What it told of its model.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it takes requests.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended.borrow().is_none() && self.asks().is_some()
    }

    /// Asks it to answer requests. Where it has ended, they fail with the reason.
    pub(crate) fn generate(self: &Arc<Self>, requests: Vec<Request>) -> Generation {
        let (sender, news) = mpsc::unbounded_channel();
        let mut ids = Vec::new();
        for (index, request) in requests.into_iter().enumerate() {
            let id = self.requests.add(index, &sender);
            ids.push(id);
            let request = Box::new(request);
            self.ask(Asked::Generate { id, request });
        }
        Generation {
            child: Arc::clone(self),
            ids,
            news,
        }
    }

    /// What it holds, as it was when its present step began where that takes longer than `patience`.
    pub(crate) async fn figures(&self, patience: Duration) -> Figures {
        let (id, figures) = self.requests.ask();
        self.ask(Asked::Figures { id });
        match timeout(patience, figures).await {
            Ok(Ok(figures)) => figures,
            _ => self.requests.last_figures(),
        }
    }

    /// Lets it end when it has done its present step, or kills it after `patience`; and waits for that.
    pub(crate) async fn stop(&self, patience: Duration) {
        drop(self.asks().take());
        if timeout(patience, reason(self.ended.clone())).await.is_err() {
            self.kill.notify_one();
            reason(self.ended.clone()).await;
        }
    }

    fn ask(&self, asked: Asked) {
        if let Some(asks) = &*self.asks() {
            // Where the process has ended, its requests are told.
            drop(asks.send(asked));
        }
    }

    fn asks(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Asked>>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests that were asked together. Those that have not ended are cancelled when this is dropped.
pub(crate) struct Generation {
    child: Arc<Child>,
    ids: Vec<u64>,
    news: mpsc::UnboundedReceiver<News>,
}

impl Generation {
    /// What happens next, and to which request; `None` when all have ended.
    pub(crate) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let ids = self.ids.iter().copied();
        let unended: Vec<u64> = ids.filter(|id| self.child.requests.remove(*id)).collect();
        for id in &unended {
            self.child.ask(Asked::Cancel { id: *id });
        }
        if !unended.is_empty() {
            let (printer, name) = (self.child.printer, &self.child.name);
            printer.detail(format_args!("{name}: {} cancelled", count(unended.len())));
        }
    }
}

fn count(requests: usize) -> String {
    match requests {
        1 => "1 request".to_owned(),
        more => format!("{more} requests"),
    }
}

/// Writes what is asked, until nobody asks any more: then standard input ends.
async fn write(mut stdin: ChildStdin, mut asked: mpsc::UnboundedReceiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        let Ok(mut line) = serde_json::to_vec(&asked) else {
            continue;
        };
        line.push(b'\n');
        if stdin.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn reason(mut ended: watch::Receiver<Option<Failure>>) -> Failure {
    match ended.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(failure)) => failure.clone(),
        _ => Failure::new(Fault::Gone, "the server is ending"),
    }
}

/// What is known of a runner while it lives.
struct Life {
    name: String,
    requests: Arc<Requests>,
    /// Whoever waits for the model to be loaded.
    ready: Option<oneshot::Sender<Result<Box<Facts>, Failure>>>,
    printer: Printer,
}

impl Life {
    /// Hears what it says until it ends. Requests that then are open fail with the reason, which is given back.
    async fn live(
        mut self,
        mut process: Process,
        stdout: ChildStdout,
        words: LastWords,
        kill: &Notify,
    ) -> Failure {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = tokio::select! {
                read = lines.read_until(b'\n', &mut line) => read,
                () = kill.notified() => {
                    // It may just have ended by itself.
                    drop(process.start_kill());
                    continue;
                }
            };
            match read {
                Ok(1..) => match serde_json::from_slice(&line) {
                    Ok(said) => self.hear(said),
                    Err(error) => self.printer.talk(format_args!(
                        "{}: its runner said what it should not: {error}",
                        self.name
                    )),
                },
                Ok(0) | Err(_) => break,
            }
        }
        // Nothing is heard of it any more; should it live, it must not go on.
        drop(process.start_kill());
        let status = process.wait().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = words.all().await;
        let mut message = format!("the runner of {} ended: {status}", self.name);
        if !words.is_empty() {
            message += ": ";
            message += &words;
        }
        let failure = Failure::new(Fault::Gone, message);
        self.requests.end(&failure);
        failure
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Ready(facts) => self.answer(Ok(facts)),
            Said::Failed(failure) => self.answer(Err(failure)),
            Said::Notice(sentence) => self.printer.talk(format_args!("{}: {sentence}", self.name)),
            Said::Event { id, event } => self.requests.tell(id, event),
            Said::Figures { id, figures } => self.requests.answer(id, *figures),
        }
    }

    fn answer(&mut self, loaded: Result<Box<Facts>, Failure>) {
        if let Some(ready) = self.ready.take() {
            drop(ready.send(loaded));
        }
    }
}
