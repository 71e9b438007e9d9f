//! `mlxr bench cache`: how much of a prompt is computed that begins as earlier ones did, and how soon its first
//! token comes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use mlxr::engine::Engine;
use mlxr::engine::request::{Event, Miss, Request, Timings, Usage};
use mlxr::mlx::Device;
use mlxr::progress::{Progress, Unit};
use mlxr::sample::Sampling;
use mlxr::tokenizer::Tokenizer;
use mlxr::{Error, LoadOptions, ModelDescription, Result};
use serde::Serialize;

use super::machine::Machine;
use super::output::Output;
use super::row::nanoseconds;
use super::statistics::Statistics;
use super::tokens::Tokens;
use super::{SEED, ordinary_tokens, source};
use crate::args::BenchCache;
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Printer;
use crate::ui::progress::Drawn;
use crate::ui::table::{Align, Table};

/// Messages of the conversation.
const MESSAGES: usize = 8;

/// What a template ends a prompt with.
const END: usize = 4;

/// Tokens of an answer, and of a message that follows it.
const ANSWER: usize = 16;
const NEXT: usize = 32;

/// Tokens of prompts that come between.
const OTHER: usize = 64;

/// How the conversation is asked, in this order.
const SCENARIOS: [&str; 8] = [
    "cold",
    "exact repeat",
    "next turn",
    "next turn without thinking",
    "edit in the middle",
    "back to the first",
    "after five others",
    "after one as long",
];

/// What came of one prompt.
struct Asked {
    answer: Vec<u32>,
    usage: Usage,
    timings: Timings,
}

/// The result of one scenario.
#[derive(Debug, Serialize)]
struct Row {
    version: &'static str,
    libmlx_version: String,
    cpu_info: String,
    gpu_info: String,
    device: String,
    model_filename: String,
    model_type: String,
    scenario: &'static str,
    prompt_tokens: usize,
    matched_tokens: usize,
    cached_tokens: usize,
    evaluated_tokens: usize,
    cache_miss: Option<&'static str>,
    /// Until the first step begins: finding, copying and restoring.
    restore_median_ns: u64,
    first_token_median_ns: u64,
    restore_ns: Vec<u64>,
    first_token_ns: Vec<u64>,
}

/// Asks conversations in all ways.
pub(super) fn run(args: &BenchCache, settings: &Settings, printer: Printer) -> Result<Exit> {
    let progress = Arc::new(Drawn::new(printer));
    let (name, source) = source(&args.subject, settings, &progress)?;
    let options = LoadOptions {
        memory: args.budget.bytes(),
        kept: model::kept(&args.kept, settings)?,
        ..model::options(&args.subject.model, settings)
    };
    // The texts are of no interest.
    let tokenizer = Arc::new(Tokenizer::load(&model::BUILT_IN)?);
    let (engine, model) =
        mlxr::open_engine(source.clone(), &tokenizer, &options, progress.clone())?;
    let longest = args.prompt.max(OTHER) + 2 * (END + ANSWER) + NEXT;
    if longest > model.context {
        return Err(Error::Benchmark {
            test: "cache".to_owned(),
            problem: format!(
                "it needs {longest} tokens, the model holds {}",
                model.context
            ),
        });
    }
    let mut tokens = Tokens::new(ordinary_tokens(&source, model.vocabulary)?, SEED);
    let mut asked: [Vec<Asked>; SCENARIOS.len()] = Default::default();
    progress.start("cache", Some(args.repetitions as u64), Unit::Items);
    // What is compiled or mapped on first use is no scenario's.
    conversation(&engine, &mut tokens, OTHER)?;
    for done in 0..args.repetitions {
        progress.advance("cache", done as u64);
        for (all, one) in asked
            .iter_mut()
            .zip(conversation(&engine, &mut tokens, args.prompt)?)
        {
            all.push(one);
        }
    }
    progress.finish("cache");
    let mut output = Output::new(args.output, settings.terminals.stdout, "mlxr_bench_cache");
    let rows = SCENARIOS.iter().zip(&asked);
    let rows = rows.map(|(scenario, asked)| row(&name, &model, scenario, asked));
    let rows: Vec<Row> = rows.collect();
    for row in &rows {
        output.row(row)?;
    }
    output.end(&table(&rows))?;
    Ok(Exit::Success)
}

/// One conversation, asked in the order of [`SCENARIOS`].
fn conversation(
    engine: &Engine,
    tokens: &mut Tokens,
    length: usize,
) -> Result<[Asked; SCENARIOS.len()]> {
    let share = (length - END.min(length)) / MESSAGES;
    let messages: Vec<Vec<u32>> = (0..MESSAGES).map(|_| tokens.draw(share.max(1))).collect();
    let first = request(&messages, tokens);
    let cold = ask(engine, first.clone())?;
    let repeat = ask(engine, first.clone())?;
    // What followed the messages in the prompt is part of what the answer is read with.
    let end = first.tokens[messages.concat().len()..].to_vec();
    let with = |last: [Vec<u32>; 2]| [messages.clone(), last.into()].concat();
    let answer = [end, repeat.answer.clone()].concat();
    let next = request(&with([answer, tokens.draw(NEXT)]), tokens);
    let next = ask(engine, next)?;
    let answer = repeat.answer[repeat.answer.len() / 2..].to_vec();
    let unthought = request(&with([answer, tokens.draw(NEXT)]), tokens);
    let unthought = ask(engine, unthought)?;
    let mut edited = messages.clone();
    edited[MESSAGES / 2] = tokens.draw(share.max(1));
    let edited = ask(engine, request(&edited, tokens))?;
    let back = ask(engine, first.clone())?;
    for _ in 0..5 {
        ask(engine, request(&[tokens.draw(OTHER)], tokens))?;
    }
    let after = ask(engine, first.clone())?;
    // Where memory is short, the conversation leaves it.
    ask(engine, request(&[tokens.draw(length)], tokens))?;
    let left = ask(engine, first)?;
    Ok([cold, repeat, next, unthought, edited, back, after, left])
}

/// A prompt of messages, and what a template ends it with.
fn request(messages: &[Vec<u32>], tokens: &mut Tokens) -> Request {
    let ends = messages.iter().scan(0, |end, message| {
        *end += message.len();
        Some(*end)
    });
    Request {
        joints: ends.collect(),
        tokens: [messages.concat(), tokens.draw(END)].concat(),
        sampling: Sampling::greedy(),
        limit: Some(ANSWER),
        ignore_eos: true,
        ..Request::default()
    }
}

fn ask(engine: &Engine, request: Request) -> Result<Asked> {
    let (sender, receiver) = channel();
    let mut answer = Vec::new();
    let sink = Box::new(move |event: Event<'_>| {
        let told = match event {
            Event::Text { tokens, .. } => {
                answer.extend(tokens.iter().map(|token| token.id));
                Ok(())
            }
            Event::Done { usage, timings, .. } => {
                let answer = std::mem::take(&mut answer);
                sender.send(Ok(Asked {
                    answer,
                    usage,
                    timings,
                }))
            }
            Event::Failed(error) => sender.send(Err(error)),
            Event::Waiting | Event::Started { .. } | Event::Read(_) | Event::Prefill { .. } => {
                Ok(())
            }
        };
        told.map_or(ControlFlow::Break(()), ControlFlow::Continue)
    });
    engine.submit(request, sink)?;
    let gone = |_| Error::EngineStopped("it did not end a request".to_owned());
    receiver.recv().map_err(gone)?
}

fn row(name: &str, model: &ModelDescription, scenario: &'static str, asked: &[Asked]) -> Row {
    let machine = Machine::of(model.device);
    let times = |time: fn(&Timings) -> Duration| -> Vec<f64> {
        let times = asked.iter().map(|asked| time(&asked.timings).as_secs_f64());
        times.collect()
    };
    let median = |times: &[f64]| nanoseconds(Statistics::of(times).median);
    let restore = times(|timings| timings.queued);
    let first_token = times(|timings| timings.first_token);
    // Conversations are of the same lengths: what is kept of one is kept of all.
    let usage = asked.first().map_or(Usage::default(), |asked| asked.usage);
    let all = |times: &[f64]| times.iter().copied().map(nanoseconds).collect();
    Row {
        version: env!("CARGO_PKG_VERSION"),
        libmlx_version: model.mlx_version.clone(),
        cpu_info: machine.cpu,
        gpu_info: machine.gpu,
        device: match model.device {
            Device::Cpu => "cpu".to_owned(),
            Device::Gpu => "gpu".to_owned(),
        },
        model_filename: name.to_owned(),
        model_type: format!("{} {}", model.architecture, model.quantization),
        scenario,
        prompt_tokens: usage.prompt,
        matched_tokens: usage.matched,
        cached_tokens: usage.cached,
        evaluated_tokens: usage.evaluated,
        cache_miss: usage.miss().map(Miss::name),
        restore_median_ns: median(&restore),
        first_token_median_ns: median(&first_token),
        restore_ns: all(&restore),
        first_token_ns: all(&first_token),
    }
}

/// What people read.
fn table(rows: &[Row]) -> Table {
    let mut table = Table::default();
    let milliseconds = |nanoseconds: u64| format!("{:.1}", nanoseconds as f64 / 1e6);
    let names = rows.iter().map(|row| row.model_filename.clone());
    table.column("model", Align::Left, names);
    let scenarios = rows.iter().map(|row| row.scenario.to_owned());
    table.column("scenario", Align::Left, scenarios);
    let mut figures = |heading: &str, figure: &dyn Fn(&Row) -> String| {
        table.column(heading, Align::Right, rows.iter().map(figure));
    };
    figures("prompt", &|row| row.prompt_tokens.to_string());
    figures("known", &|row| row.matched_tokens.to_string());
    figures("cached", &|row| row.cached_tokens.to_string());
    figures("evaluated", &|row| row.evaluated_tokens.to_string());
    figures("restore ms", &|row| milliseconds(row.restore_median_ns));
    figures("first token ms", &|row| {
        milliseconds(row.first_token_median_ns)
    });
    table
}
