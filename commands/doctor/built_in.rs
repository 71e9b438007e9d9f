//! Whether the model that is part of the program answers, which takes everything that computing takes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use mlxr::engine::request::{Event, Request};
use mlxr::files::ModelFiles;
use mlxr::tokenizer::Bos;
use mlxr::{Error, LoadOptions, Loaded, Result};
use serde::Serialize;

use super::check::{self, Check};
use crate::model::BUILT_IN;
use crate::settings::Settings;
use crate::ui::Printer;
use crate::ui::progress::Drawn;
use crate::ui::report::Report;

/// The model that needs no name.
#[derive(Debug, Serialize)]
pub(super) struct BuiltIn {
    bytes: u64,
    /// From loading it to the first token of an answer.
    seconds: Option<f64>,
}

impl BuiltIn {
    /// Computes one token, where there is a library to compute with.
    pub(super) fn look(
        has_library: bool,
        settings: &Settings,
        printer: Printer,
        checks: &mut Vec<Check>,
    ) -> Self {
        let name = "built-in model";
        let bytes = match BUILT_IN {
            ModelFiles::Embedded(_, files) => {
                files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
            }
            ModelFiles::Folder(_) | ModelFiles::Derived(..) => 0,
        };
        let said = format!("part of the program, {}", check::size(bytes));
        let begin = Instant::now();
        let answered = has_library.then(|| answer(settings, printer));
        let seconds = begin.elapsed().as_secs_f64();
        let is_answered = matches!(answered, Some(Ok(())));
        checks.push(match answered {
            None => Check::ok(name, said),
            Some(Ok(())) => Check::ok(name, format!("{said}, answers after {seconds:.2} s")),
            Some(Err(error)) => {
                let hint = Report::of(&error).hint.unwrap_or_default();
                Check::problem(name, format!("{said}, does not answer: {error}"), hint)
            }
        });
        Self {
            bytes,
            seconds: is_answered.then_some(seconds),
        }
    }
}

/// Nothing is kept of it.
fn answer(settings: &Settings, printer: Printer) -> Result<()> {
    let options = LoadOptions {
        library: settings.library.clone(),
        graphs: settings.graphs,
        ..LoadOptions::default()
    };
    let Loaded {
        engine, tokenizer, ..
    } = mlxr::open(&BUILT_IN, &options, Arc::new(Drawn::new(printer)))?;
    let request = Request {
        tokens: tokenizer.encode("Once upon a time", Bos::Auto)?,
        limit: Some(1),
        ..Request::default()
    };
    let (sender, receiver) = channel();
    let sink = Box::new(move |event: Event<'_>| {
        match event {
            Event::Done { .. } => drop(sender.send(Ok(()))),
            Event::Failed(error) => drop(sender.send(Err(error))),
            Event::Waiting
            | Event::Started { .. }
            | Event::Read(_)
            | Event::Prefill { .. }
            | Event::Text { .. } => {}
        }
        ControlFlow::Continue(())
    });
    engine.submit(request, sink)?;
    let fell_silent = |_| Error::EngineStopped("it fell silent".to_owned());
    receiver.recv().map_err(fell_silent)?
}
