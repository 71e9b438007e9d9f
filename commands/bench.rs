//! `mlxr bench`: how fast a model computes, by tests as llama-bench has them. Knows no other command.

mod baseline;
mod cache;
mod machine;
mod output;
mod pass;
mod plan;
mod row;
mod start;
mod statistics;
mod tokenize;
mod tokens;

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use jiff::Timestamp;
use mlxr::engine::stepper::Stepper;
use mlxr::mlx::{Device, count_operations, memory};
use mlxr::models::{SHAPES, Source};
use mlxr::progress::{Progress, Unit};
use mlxr::tokenizer::Tokenizer;
use mlxr::{Error, Result, bandwidth};

use crate::args::{Bench, BenchCommand, SubjectArgs};
use crate::interrupt::Interrupt;
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Printer;
use crate::ui::progress::Drawn;
use baseline::Baseline;
use machine::Machine;
use output::Output;
use pass::Sequences;
use plan::Test;
use row::{Measured, Row, Subject};
use tokens::Tokens;

/// Draws the same tokens in every run.
const SEED: u64 = 0;

/// Measures what the arguments ask for.
pub(crate) fn run(args: &Bench, settings: &Settings, printer: Printer) -> Result<Exit> {
    match &args.command {
        Some(BenchCommand::Start(args)) => return start::run(args, settings, printer),
        Some(BenchCommand::Cache(args)) => return cache::run(args, settings, printer),
        Some(BenchCommand::Tokenize(args)) => return tokenize::run(args, settings, printer),
        None => {}
    }
    let tests = plan::tests(args)?;
    let baseline = args.baseline.as_deref();
    let baseline = baseline.map(baseline::read::<Baseline>).transpose()?;
    let progress = Arc::new(Drawn::new(printer));
    let (name, source) = source(&args.subject, settings, &progress)?;
    let options = model::options(&args.subject.model, settings);
    let (mut stepper, description) = mlxr::open_stepper(&source, &options, progress.clone())?;
    plan::check(&tests, description.context)?;
    let mut tokens = Tokens::new(ordinary_tokens(&source, description.vocabulary)?, SEED);
    let threads = args.subject.model.threads;
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let generates = tests.iter().any(|test| test.kind() == "tg");
    let subject = Subject {
        name,
        model: &description,
        machine: Machine::of(description.device),
        threads: (description.device == Device::Cpu).then(|| threads.unwrap_or_else(cores)),
        exact: args.subject.model.cpu_exact,
        bandwidth: generates
            .then(|| bandwidth::measure(description.device, threads))
            .transpose()?,
    };
    printer.detail(format_args!(
        "{name}: loaded in {:.2} s; MLX {} on {}",
        description.load_time.as_secs_f64(),
        description.mlx_version,
        description.device,
        name = subject.name,
    ));
    if let Some(bandwidth) = subject.bandwidth {
        printer.talk(format_args!("the memory gives {:.1} GB/s", bandwidth / 1e9));
    }

    let interrupt = Interrupt::listen().map_err(Error::io("listen to", "signals"))?;
    let mut output = Output::new(args.output, settings.terminals.stdout, "mlxr_bench");
    let mut rows = Vec::new();
    interrupt.begin();
    for test in &tests {
        if let Some(delay) = args.delay {
            thread::sleep(delay);
        }
        let bench = Bencher {
            subject: &subject,
            repetitions: args.repetitions,
            interrupt: &interrupt,
            progress: &progress,
        };
        let Some(row) = bench.measure(test, &mut stepper, &mut tokens)? else {
            break;
        };
        let old = baseline.as_ref().and_then(|old| baseline::rate(old, &row));
        let row = row.against(old);
        output.row(&row)?;
        rows.push(row);
    }
    let interrupted = interrupt.end();
    output.end(&row::table(&rows))?;
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    baseline::gate(&args.fail_if, &rows)
}

/// What is to be measured, and its name.
fn source(args: &SubjectArgs, settings: &Settings, progress: &Drawn) -> Result<(String, Source)> {
    let shape = args.random.as_ref().and_then(|name| {
        SHAPES
            .iter()
            .find(|shape| shape.name == *name)
            .map(|shape| (format!("random:{name}"), shape.clone()))
    });
    match shape {
        Some((name, shape)) => Ok((name, Source::Random(shape, args.quant.0.clone()))),
        None => model::files(&args.model, settings, progress)
            .map(|(name, files)| (name, Source::Files(files))),
    }
}

/// The tokens that a text may hold: none that are special. A model without a tokenizer has no others.
fn ordinary_tokens(source: &Source, vocabulary: usize) -> Result<Vec<u32>> {
    let all = 0..vocabulary as u32;
    let ordinary: Vec<u32> = match source {
        Source::Random(shape, _) => all.take(shape.first_special as usize).collect(),
        Source::Files(files) => match Tokenizer::load(files) {
            Ok(tokenizer) => {
                let eos = tokenizer.eos_ids();
                all.take(tokenizer.vocab_size())
                    .filter(|id| !eos.contains(id) && !tokenizer.is_special(*id))
                    .collect()
            }
            Err(Error::MissingFile { .. }) => all.collect(),
            Err(error) => return Err(error),
        },
    };
    if ordinary.is_empty() {
        return Err(Error::Benchmark {
            test: "bench".to_owned(),
            problem: "the model has no tokens that are not special".to_owned(),
        });
    }
    Ok(ordinary)
}

/// Measures one test after the other on one model.
struct Bencher<'a> {
    subject: &'a Subject<'a>,
    repetitions: usize,
    interrupt: &'a Interrupt,
    progress: &'a Drawn,
}

impl Bencher<'_> {
    /// Runs a test once, and then as often as it is to be timed. `None` where Ctrl-C ended it.
    fn measure(
        &self,
        test: &Test,
        stepper: &mut impl Stepper,
        tokens: &mut Tokens,
    ) -> Result<Option<Row>> {
        let name = match test.sequences {
            1 => test.name(),
            count => format!("{} x {count}", test.name()),
        };
        let passes = 1 + self.repetitions as u64;
        self.progress.start(&name, Some(passes), Unit::Items);
        memory::reset_peak()?;
        let began = Timestamp::now().to_string();
        let sequences = Sequences::open(stepper, test, tokens)?;
        let mut samples = Vec::with_capacity(self.repetitions);
        let mut operations = None;
        for pass in 0..passes {
            if self.interrupt.pressed() {
                self.progress.finish(&name);
                return Ok(None);
            }
            self.progress.advance(&name, pass);
            // The first one makes everything warm, and is not timed: counting takes time.
            if pass == 0 {
                let (done, count) = count_operations(|| sequences.pass(stepper, test, tokens));
                done?;
                operations = count.filter(|_| self.subject.model.device == Device::Gpu);
            } else {
                samples.push(sequences.pass(stepper, test, tokens)?);
            }
        }
        self.progress.finish(&name);
        let slot = sequences.first();
        let cache_bytes = slot.map(|slot| stepper.cache_bytes_per_token(slot));
        let peak_memory = match self.subject.model.device {
            Device::Cpu => None,
            Device::Gpu => Some(memory::usage()?.peak),
        };
        let row = Row::new(
            self.subject,
            &Measured {
                test,
                samples: &samples,
                began,
                cache_bytes_per_token: cache_bytes.unwrap_or(0),
                peak_memory,
                operations,
            },
        );
        sequences.close(stepper);
        Ok(Some(row))
    }
}
