//! Many requests, one a line: answered together, written in order. Knows nothing of chats.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use mlxr::{Error, Result};
use serde_json::{Map, Value, json};

use super::answer::{self, Growing, News, Stage};
use super::output::Output;
use super::record::{self, Record};
use crate::ask::Ask;
use crate::ask::prompt::utf8;
use crate::interrupt::Interrupt;
use crate::model::Model;
use crate::ui::report::Report;
use crate::ui::{Exit, printer};

/// Requests that are answered at the same time.
const AT_ONCE: usize = 8;

/// What the main thread waits for. Lines are counted from 1.
enum Happening {
    Line(usize, io::Result<Vec<u8>>),
    EndOfInput,
    News(usize, News),
}

/// Requests on their way, and results that wait for their turn. Both are known by their lines.
struct Batch<'a> {
    model: &'a Model,
    defaults: &'a Ask,
    interrupt: &'a Interrupt,
    output: &'a Output<'a>,
    sender: Sender<Happening>,
    /// One entry for each line that was read and has no result.
    places: Receiver<()>,
    /// With their ids.
    live: HashMap<usize, (Value, Growing)>,
    /// The row to be written and what it means for the exit code; `None` for a blank line.
    results: BTreeMap<usize, Option<(String, Exit)>>,
    /// The next line whose result is to be written.
    next: usize,
    /// Of the first request that failed.
    exit: Exit,
}

/// Answers the requests on standard input; `defaults` holds what they leave out.
///
/// # Errors
/// Where standard input cannot be read or standard output cannot be written. A request that
/// fails is a row; the exit code of the first of them is given back.
pub(crate) fn answer_lines(
    model: &Model,
    defaults: &Ask,
    interrupt: &Interrupt,
    output: &Output<'_>,
) -> Result<Exit> {
    let (sender, happenings) = channel();
    let (take, places) = sync_channel(AT_ONCE);
    let lines = sender.clone();
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || read_lines(io::stdin().lock(), &lines, &take))
        .map_err(Error::io("read", "standard input"))?;

    let mut batch = Batch {
        model,
        defaults,
        interrupt,
        output,
        sender,
        places,
        live: HashMap::new(),
        results: BTreeMap::new(),
        next: 1,
        exit: Exit::Success,
    };
    let mut reading = true;
    while reading || !batch.live.is_empty() {
        match happenings.recv() {
            Ok(Happening::Line(number, line)) => {
                batch.begin(number, line.map_err(Error::io("read", "standard input"))?);
            }
            Ok(Happening::News(number, news)) => batch.hear(number, news),
            Ok(Happening::EndOfInput) | Err(_) => reading = false,
        }
        batch.write()?;
        if batch.live.is_empty() && batch.interrupt.end() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(batch.exit)
}

/// Reads lines as long as there are places for them.
fn read_lines(input: impl BufRead, lines: &Sender<Happening>, places: &SyncSender<()>) {
    for (number, line) in (1..).zip(input.split(b'\n')) {
        if places.send(()).is_err() || lines.send(Happening::Line(number, line)).is_err() {
            return;
        }
    }
    // Nobody is left to be told if this fails.
    drop(lines.send(Happening::EndOfInput));
}

impl Batch<'_> {
    /// Submits the request on a line. After Ctrl-C none is begun.
    fn begin(&mut self, number: usize, line: Vec<u8>) {
        if self.live.is_empty() {
            self.interrupt.begin();
        } else if self.interrupt.pressed() {
            return;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            return self.end(number, None);
        }
        let mut id = Value::from(number);
        if let Err(error) = self.submit(number, line, &mut id) {
            self.live.remove(&number);
            self.fail(number, &id, &error);
        }
    }

    fn submit(&mut self, number: usize, line: Vec<u8>, id: &mut Value) -> Result<()> {
        let line = utf8(format!("line {number} of standard input"), line)?;
        let mut row = serde_json::from_str::<Map<String, Value>>(&line)
            .map_err(|error| not_a_request(&error))?;
        if let Some(given) = row.remove("id").filter(|given| !given.is_null()) {
            *id = given;
        }
        let (prompt, ask) = self.defaults.read(row)?;
        let (request, splitter) = ask.request(prompt, self.model)?;
        self.live
            .insert(number, (id.clone(), Growing::new(splitter, request.limit)));
        let sender = self.sender.clone();
        let sink = answer::sink(self.interrupt.clone(), move |news| {
            let sent = sender.send(Happening::News(number, news));
            sent.map_or(ControlFlow::Break(()), ControlFlow::Continue)
        });
        self.model.engine.submit(request, sink)
    }

    fn hear(&mut self, number: usize, news: News) {
        let Some((id, answer)) = self.live.get_mut(&number) else {
            return;
        };
        match answer.hear(news) {
            Ok(Stage::Prefill { .. } | Stage::Grown(_)) => {}
            Ok(Stage::Complete(_, answer)) => {
                let row = record::line(&Record::answer(self.output.model, &answer).with_id(id));
                self.output.figures(&answer);
                self.live.remove(&number);
                self.end(number, Some((row, Exit::Success)));
            }
            Err(error) => {
                let id = std::mem::take(id);
                self.live.remove(&number);
                self.fail(number, &id, &error);
            }
        }
    }

    fn fail(&mut self, number: usize, id: &Value, error: &Error) {
        let exit = Report::of(error).exit;
        let error = json!({ "kind": exit.name(), "message": error.to_string() });
        let row = record::line(&json!({ "id": id, "error": error }));
        self.end(number, Some((row, exit)));
    }

    /// Keeps a result until its turn, and lets another line in.
    fn end(&mut self, number: usize, result: Option<(String, Exit)>) {
        self.results.insert(number, result);
        // The place was taken before the line was read, so it is there.
        _ = self.places.try_recv();
    }

    /// Writes the results whose turn it is.
    fn write(&mut self) -> Result<()> {
        while let Some(result) = self.results.remove(&self.next) {
            self.next += 1;
            let Some((row, exit)) = result else { continue };
            printer::data(&row)?;
            printer::flush()?;
            if self.exit == Exit::Success {
                self.exit = exit;
            }
        }
        Ok(())
    }
}

fn not_a_request(error: &serde_json::Error) -> Error {
    Error::Request {
        field: "request",
        problem: format!("not a JSON object: {error}"),
    }
}
