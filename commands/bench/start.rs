//! `mlxr bench start`: from the start of the program to its first token, in parts. Loads no model itself.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use mlxr::progress::{Progress, Unit};
use mlxr::{Error, Result};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::output::Output;
use super::row::nanoseconds;
use super::statistics::Statistics;
use crate::args::{BenchStart, Device, ModelArgs};
use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Printer;
use crate::ui::progress::Drawn;
use crate::ui::table::{Align, Table};

/// What the program is asked to go on with. Any model has more to say than nothing.
const PROMPT: &str = "Once upon a time";

/// What a run says of itself in `--stats=json`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Told {
    model: String,
    timings: Timings,
    engine: Engine,
}

#[derive(Debug, Deserialize)]
struct Engine {
    libmlx: String,
    device: String,
}

#[derive(Debug, Deserialize)]
struct Timings {
    started_at: Option<Timestamp>,
    load_parts: LoadParts,
    first_token_ms: f64,
}

#[derive(Debug, Deserialize)]
struct LoadParts {
    tokenizer: Option<Span>,
    library: Span,
    weights: Span,
}

/// Since the program began to run.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Span {
    at_ms: f64,
    ms: f64,
}

impl Span {
    fn end_ms(self) -> f64 {
        self.at_ms + self.ms
    }
}

/// A part of a start: its name, and what it takes in milliseconds.
type Part = (&'static str, f64);

/// The result for one part of the start.
#[derive(Debug, Serialize)]
struct Row {
    version: &'static str,
    libmlx_version: String,
    cpu_info: String,
    device: String,
    model_filename: String,
    test: &'static str,
    /// `total`, or what it is a part of.
    part: &'static str,
    /// Other parts that ran at the same time, so that the parts add up to more than the total.
    beside: Vec<&'static str>,
    test_time: String,
    avg_ns: u64,
    stddev_ns: u64,
    median_ns: u64,
    samples_ns: Vec<u64>,
}

/// Starts the program again and again.
pub(super) fn run(args: &BenchStart, settings: &Settings, printer: Printer) -> Result<Exit> {
    let program = Settings::program()?;
    let arguments = arguments(&args.model);
    let progress = Drawn::new(printer);
    // What is not there is told once and for what it is, and what must be fetched is no part of a start.
    model::files(&args.model, settings, &progress)?;
    let began = Timestamp::now().to_string();
    let runs = 1 + args.repetitions as u64;
    progress.start("start", Some(runs), Unit::Items);
    let mut starts = Vec::with_capacity(args.repetitions);
    for done in 0..runs {
        progress.advance("start", done);
        let start = start(&program, &arguments)?;
        // The first one makes the page cache warm.
        if done > 0 {
            starts.push(start);
        }
    }
    progress.finish("start");
    let mut output = Output::new(args.output, settings.terminals.stdout, "mlxr_bench_start");
    let rows = rows(&starts, &began);
    for row in &rows {
        output.row(row)?;
    }
    output.end(&table(&rows))?;
    Ok(Exit::Success)
}

/// The words after the program's name.
fn arguments(model: &ModelArgs) -> Vec<OsString> {
    let device = match model.device {
        Device::Auto => "auto",
        Device::Cpu => "cpu",
        Device::Gpu => "gpu",
    };
    let fixed = [
        "run",
        "-q",
        "--raw",
        "-t",
        "0",
        "-n",
        "1",
        "--stats=json",
        "--device",
        device,
    ];
    let mut words: Vec<OsString> = fixed.map(OsString::from).into();
    if let Some(threads) = model.threads {
        words.extend(["--threads".into(), threads.to_string().into()]);
    }
    if model.cpu_exact {
        words.push("--cpu-exact".into());
    }
    if let Some(name) = &model.model {
        words.extend(["-m".into(), name.into()]);
    }
    words.extend(["--".into(), PROMPT.into()]);
    words
}

/// One start: what it took until the first byte of the answer was there, and its parts.
struct Start {
    told: Told,
    total: Duration,
    /// From spawning until the program's own code ran.
    process: Duration,
}

fn start(program: &Path, arguments: &[OsString]) -> Result<Start> {
    let refuse = |problem: String| Error::Benchmark {
        test: "start".to_owned(),
        problem,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (began_at, begin) = (SystemTime::now(), Instant::now());
    let mut child = command.spawn().map_err(Error::io("start", program))?;
    let mut first = [0];
    let read = match &mut child.stdout {
        Some(stdout) => stdout.read_exact(&mut first),
        None => Err(ErrorKind::BrokenPipe.into()),
    };
    let total = begin.elapsed();
    let output = child
        .wait_with_output()
        .map_err(Error::io("wait for", program))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let told = stderr.lines().rev().find_map(|line| {
        let told = serde_json::from_str::<Told>(line);
        told.ok()
    });
    let (Some(told), Ok(())) = (told, read) else {
        let said = stderr.lines().next().unwrap_or("nothing");
        let said = said.strip_prefix("mlxr: error: ").unwrap_or(said);
        return Err(refuse(format!(
            "the program gave no first token; it said: {said}"
        )));
    };
    let process = told
        .timings
        .started_at
        .and_then(|at| SystemTime::from(at).duration_since(began_at).ok());
    Ok(Start {
        told,
        total,
        process: process.unwrap_or_default(),
    })
}

/// The parts of a start, `rest` being what is left of the total, which comes last.
fn parts(told: &Told, process: Duration, total: Duration) -> Vec<Part> {
    let Timings {
        load_parts,
        first_token_ms,
        ..
    } = &told.timings;
    let loads = loads(load_parts);
    let (total, process) = (milliseconds(total), milliseconds(process));
    let spans: Vec<Span> = loads.iter().map(|(_, span)| *span).collect();
    let accounted = process + covered(spans) + first_token_ms;
    let loads = loads.into_iter().map(|(name, span)| (name, span.ms));
    std::iter::once(("process", process))
        .chain(loads)
        .chain([
            ("first token", *first_token_ms),
            ("rest", total - accounted),
            ("total", total),
        ])
        .collect()
}

fn loads(parts: &LoadParts) -> Vec<(&'static str, Span)> {
    let tokenizer = parts.tokenizer.map(|span| ("tokenizer", span));
    let others = [("library", parts.library), ("weights", parts.weights)];
    tokenizer.into_iter().chain(others).collect()
}

/// The time in which at least one of the spans was under way.
fn covered(mut spans: Vec<Span>) -> f64 {
    spans.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let mut end = f64::NEG_INFINITY;
    let mut sum = 0.0;
    for span in spans {
        sum += (span.end_ms() - span.at_ms.max(end)).max(0.0);
        end = end.max(span.end_ms());
    }
    sum
}

/// Which other parts of loading ran at the same time as `name`.
fn beside(parts: &LoadParts, name: &str) -> Vec<&'static str> {
    let loads = loads(parts);
    let Some((_, own)) = loads.iter().find(|(part, _)| *part == name) else {
        return Vec::new();
    };
    let overlaps = |span: &Span| span.at_ms < own.end_ms() && own.at_ms < span.end_ms();
    let others = loads.iter().filter(|(part, _)| *part != name);
    others
        .filter(|(_, span)| overlaps(span))
        .map(|(part, _)| *part)
        .collect()
}

fn rows(starts: &[Start], began: &str) -> Vec<Row> {
    let Some(first) = starts.first() else {
        return Vec::new();
    };
    let all: Vec<Vec<Part>> = starts
        .iter()
        .map(|start| parts(&start.told, start.process, start.total))
        .collect();
    let cpu = Machine::of(mlxr::mlx::Device::Cpu).cpu;
    let row = |index: usize| {
        let seconds: Vec<f64> = all.iter().map(|parts| parts[index].1 / 1e3).collect();
        let figures = Statistics::of(&seconds);
        let part = all[0][index].0;
        Row {
            version: env!("CARGO_PKG_VERSION"),
            libmlx_version: first.told.engine.libmlx.clone(),
            cpu_info: cpu.clone(),
            device: first.told.engine.device.clone(),
            model_filename: first.told.model.clone(),
            test: "start",
            part,
            beside: beside(&first.told.timings.load_parts, part),
            test_time: began.to_owned(),
            avg_ns: nanoseconds(figures.mean),
            stddev_ns: nanoseconds(figures.deviation),
            median_ns: nanoseconds(figures.median),
            samples_ns: seconds.into_iter().map(nanoseconds).collect(),
        }
    };
    (0..all[0].len()).map(row).collect()
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::default();
    let mut column = |heading, align, cell: &dyn Fn(&Row) -> String| {
        table.column(heading, align, rows.iter().map(cell));
    };
    let in_milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    column("model", Align::Left, &|row| row.model_filename.clone());
    column("device", Align::Left, &|row| row.device.clone());
    column("part", Align::Left, &|row| {
        if row.beside.is_empty() {
            row.part.to_owned()
        } else {
            format!("{} (beside {})", row.part, row.beside.join(", "))
        }
    });
    column("ms", Align::Right, &|row| {
        let (mean, deviation) = (in_milliseconds(row.avg_ns), in_milliseconds(row.stddev_ns));
        format!("{mean:.1} ± {deviation:.1}")
    });
    column("median", Align::Right, &|row| {
        format!("{:.1}", in_milliseconds(row.median_ns))
    });
    table
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tokenizer: (f64, f64), library: (f64, f64), weights: (f64, f64)) -> Told {
        let span = |(at_ms, ms)| Span { at_ms, ms };
        Told {
            model: "m".to_owned(),
            timings: Timings {
                started_at: None,
                load_parts: LoadParts {
                    tokenizer: Some(span(tokenizer)),
                    library: span(library),
                    weights: span(weights),
                },
                first_token_ms: 20.0,
            },
            engine: Engine {
                libmlx: String::new(),
                device: "cpu".to_owned(),
            },
        }
    }

    fn rest(told: &Told) -> f64 {
        let times = (Duration::from_millis(5), Duration::from_millis(100));
        let parts = parts(told, times.0, times.1);
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        let order = [
            "process",
            "tokenizer",
            "library",
            "weights",
            "first token",
            "rest",
            "total",
        ];
        assert_eq!(names, order);
        parts[5].1
    }

    #[test]
    fn parts_one_after_the_other_and_the_rest_make_the_total() {
        let told = told((1.0, 30.0), (31.0, 20.0), (51.0, 10.0));
        assert!((rest(&told) - 15.0).abs() < 1e-9);
        assert!(beside(&told.timings.load_parts, "library").is_empty());
    }

    #[test]
    fn parts_side_by_side_are_told_and_counted_once() {
        let told = told((1.0, 40.0), (2.0, 20.0), (30.0, 21.0));
        // From 1 to 51 at least one is under way.
        assert!((rest(&told) - 25.0).abs() < 1e-9);
        let parts = &told.timings.load_parts;
        assert_eq!(beside(parts, "tokenizer"), ["library", "weights"]);
        assert_eq!(beside(parts, "weights"), ["tokenizer"]);
        assert!(beside(parts, "total").is_empty());
    }
}
