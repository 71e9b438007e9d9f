//! `mlxr run`: a prompt in, an answer out. Knows no other command.

mod answer;
mod batch;
mod chat;
mod output;
mod record;

use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};

use mlxr::{Error, Result};

use crate::args::Run;
use crate::ask::prompt::{self, Situation, Source};
use crate::ask::{Ask, Prompt, constraint};
use crate::interrupt::Interrupt;
use crate::model::{self, Model};
use crate::ranks;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::progress::Prefill;
use answer::{Answer, Growing, News, Stage};
use output::{Form, Output};

/// Answers what the arguments and standard input ask.
pub(crate) fn run(flags: &Run, settings: &Settings, printer: Printer) -> Result<Exit> {
    let memory = flags.budget.bytes();
    let hosts = match ranks::stand_by(flags.together, &flags.model, memory, settings, printer)? {
        ControlFlow::Break(exit) => return Ok(exit),
        ControlFlow::Continue(hosts) => hosts,
    };
    let form = match (flags.json, flags.jsonl) {
        (true, _) => Form::Json,
        (_, true) => Form::JsonLines,
        (false, false) => Form::Text,
    };
    let terminals = settings.terminals;
    let situation = Situation {
        // What starts several processes may leave standard input open for ever; `-` asks for it.
        stdin_terminal: terminals.stdin
            || settings.is_started_by_others() && !flags.prompt.is_empty(),
        may_chat: terminals.stdout && form == Form::Text && !flags.framing.raw,
        lines: form == Form::JsonLines,
    };
    let ask = Ask::new(&flags.framing, &flags.sampling)?;
    let ask = ask.ending(flags.stop.clone(), flags.max_tokens, flags.ctx);
    let ask = ask.along(constraint::of_flags(&flags.constraint)?);
    let source = prompt::source(&flags.prompt, situation, io::stdin().lock())?;
    let interrupt = Interrupt::listen().map_err(Error::io("listen to", "signals"))?;

    let model = model::open(
        &flags.model,
        flags.budget.bytes(),
        model::kept(&flags.kept, settings)?,
        hosts,
        settings,
        printer,
    )?;
    let output = Output {
        printer,
        form,
        stats: flags.stats,
        model: &model.description,
    };
    match source {
        Source::Lines => batch::answer_lines(&model, &ask, &interrupt, &output),
        Source::Chat => {
            let history = settings.data.as_ref().map(|folder| folder.join("history"));
            chat::chat(&model, &ask, &interrupt, &output, history.as_deref())
        }
        Source::Text(text) => {
            stream(&model, &ask, Prompt::Text(text), &interrupt, &output).map(|(exit, _)| exit)
        }
    }
}

/// Asks, and writes the answer as it grows.
fn stream(
    model: &Model,
    ask: &Ask,
    prompt: Prompt,
    interrupt: &Interrupt,
    output: &Output<'_>,
) -> Result<(Exit, Answer)> {
    let (request, splitter) = ask.request(prompt, model)?;
    let growing = Growing::new(splitter, request.limit);
    let (sender, news) = channel();
    let sink = answer::sink(interrupt.clone(), move |news| {
        sender
            .send(news)
            .map_or(ControlFlow::Break(()), ControlFlow::Continue)
    });
    interrupt.begin();
    let submitted = model.engine.submit(request, sink);
    let ended = submitted.and_then(|()| listen(growing, &news, output));
    let interrupted = interrupt.end();
    let (exit, answer) = ended?;
    Ok((if interrupted { Exit::Interrupted } else { exit }, answer))
}

fn listen(
    mut growing: Growing,
    news: &Receiver<News>,
    output: &Output<'_>,
) -> Result<(Exit, Answer)> {
    let mut prefill = Prefill::new(output.printer);
    loop {
        let next = match news.try_recv() {
            Ok(next) => next,
            // Nothing is on its way, so there is time to hand on what was written.
            Err(_) => printer::flush().and_then(|()| {
                news.recv()
                    .map_err(|_| Error::EngineStopped("it fell silent".to_owned()))
            })?,
        };
        let stage = match growing.hear(next) {
            Ok(stage) => stage,
            Err(error) => {
                output.broken_off(growing.text())?;
                return Err(error);
            }
        };
        match stage {
            Stage::Prefill { done, total } => {
                prefill.advance(done, total);
            }
            Stage::Grown(added) => output.grown(&added)?,
            Stage::Complete(added, answer) => {
                output.grown(&added)?;
                return Ok((output.complete(&answer)?, answer));
            }
        }
    }
}
