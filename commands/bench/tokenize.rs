//! `mlxr bench tokenize`: how fast text becomes tokens and tokens text, by engines whose ids are the same. Loads no
//! model.

mod check;
mod corpus;
mod engines;
mod generated;
mod pass;
mod plan;
mod row;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use mlxr::mlx::Device;
use mlxr::progress::{Progress, Unit};
use mlxr::tokenizer::Bos;
use mlxr::{Error, Result, hub};

use super::baseline;
use super::machine::Machine;
use super::output::Output;
use crate::args::{BenchTokenize, Form};
use crate::interrupt::Interrupt;
use crate::model::BUILT_IN;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::progress::Drawn;
use corpus::Corpus;
use engines::Engines;
use pass::Pass;
use plan::{Kind, Test};
use row::{Baseline, Measured, Row, Subject};

/// Shorter passes are timed several at once, or the clock would be measured.
const SHORTEST: Duration = Duration::from_millis(1);

/// Compares ids, and then measures what the arguments ask for.
pub(super) fn run(args: &BenchTokenize, settings: &Settings, printer: Printer) -> Result<Exit> {
    let earlier = args.baseline.as_deref();
    let earlier = earlier.map(baseline::read::<Baseline>).transpose()?;
    let corpora = Corpus::all(&args.file)?;
    let progress = Drawn::new(printer);
    let (name, files) = match args.model.as_deref().or(settings.model.as_deref()) {
        Some(name) => (
            name,
            hub::resolve_tokenizer(name, &Settings::hub()?, &progress)?,
        ),
        None => ("stories", BUILT_IN),
    };
    let engines = Engines::load(&files, &args.engine, printer)?;
    if let Some((ours, reference)) = engines.pair() {
        for corpus in &corpora {
            if let Some(difference) = check::difference(ours, reference, corpus)? {
                printer::say(difference);
                return Ok(Exit::Gate);
            }
        }
        printer.talk("the ids of both engines are the same");
    }

    let subject = Subject {
        model: name.to_owned(),
        cpu: Machine::of(Device::Cpu).cpu,
    };
    let interrupt = Interrupt::listen().map_err(Error::io("listen to", "signals"))?;
    let bench = Bencher {
        repetitions: args.repetitions,
        interrupt: &interrupt,
        progress: &progress,
    };
    let form = if args.json {
        Some(Form::Jsonl)
    } else {
        args.output
    };
    let mut output = Output::new(form, settings.terminals.stdout, "mlxr_bench_tokenize");
    let mut rows = Vec::new();
    interrupt.begin();
    for test in plan::tests(&engines.measured, &corpora, &args.threads.0) {
        let Some(measured) = bench.measure(&test)? else {
            break;
        };
        let row = Row::new(&subject, &test, &measured);
        let row = row.against(earlier.as_deref().unwrap_or_default());
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

/// Measures one test after the other.
struct Bencher<'a> {
    repetitions: usize,
    interrupt: &'a Interrupt,
    progress: &'a Drawn,
}

impl Bencher<'_> {
    /// `None` where Ctrl-C ended it.
    fn measure(&self, test: &Test<'_>) -> Result<Option<Measured>> {
        let tokenizer = &test.engine.tokenizer;
        let parts = test.corpus.map(|corpus| corpus.cut(test.kind.cut()));
        let parts = parts.unwrap_or_default();
        let calls = parts.len();
        let ids = || tokenizer.encode(&parts.concat(), Bos::Never);
        match test.kind {
            Kind::Load => self.repeat(test, 1, || {
                let begin = Instant::now();
                let tokenizer = test.engine.fresh()?;
                let time = begin.elapsed();
                drop(tokenizer);
                Ok(Pass {
                    time,
                    bytes: 0,
                    tokens: 0,
                })
            }),
            Kind::Cold => self.repeat(test, calls, || {
                pass::encode(&test.engine.fresh()?, &parts, test.threads)
            }),
            Kind::Warm | Kind::Lines | Kind::Pieces4k | Kind::Pieces100 => {
                self.repeat(test, calls, || {
                    pass::encode(tokenizer, &parts, test.threads)
                })
            }
            Kind::Decode => {
                let ids = ids()?;
                self.repeat(test, 1, || Ok(pass::decode(tokenizer, &ids)))
            }
            Kind::Stream => {
                let ids = ids()?;
                self.repeat(test, ids.len(), || Ok(pass::stream(tokenizer, &ids)))
            }
        }
    }

    /// Times a pass as often as it is to be timed; what is to be warm runs once before.
    fn repeat(
        &self,
        test: &Test<'_>,
        calls: usize,
        mut pass: impl FnMut() -> Result<Pass>,
    ) -> Result<Option<Measured>> {
        let name = test.name();
        self.progress
            .start(&name, Some(self.repetitions as u64), Unit::Items);
        let began = Timestamp::now().to_string();
        let warm = !matches!(test.kind, Kind::Load | Kind::Cold);
        let mut last = if warm { Some(pass()?) } else { None };
        let at_once = last.map_or(1, |first| {
            let short = SHORTEST.as_nanos() / first.time.as_nanos().max(1);
            1 + short as usize
        });
        let mut samples = Vec::with_capacity(self.repetitions);
        for repetition in 0..self.repetitions {
            let mut seconds = 0.0;
            for _ in 0..at_once {
                if self.interrupt.pressed() {
                    self.progress.finish(&name);
                    return Ok(None);
                }
                let one = pass()?;
                seconds += one.time.as_secs_f64();
                last = Some(one);
            }
            samples.push(seconds / at_once as f64);
            self.progress.advance(&name, repetition as u64 + 1);
        }
        self.progress.finish(&name);
        Ok(last.map(|pass| Measured {
            pass,
            samples,
            calls,
            began,
        }))
    }
}
