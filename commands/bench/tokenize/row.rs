//! One result: the fields that programs read, and the columns that people do. Measures nothing.

use serde::{Deserialize, Serialize};

use super::pass::Pass;
use super::plan::{Kind, Test};
use crate::bench::baseline::Compared;
use crate::bench::row::nanoseconds;
use crate::bench::statistics::Statistics;
use crate::ui::table::{Align, Table};

/// The result of one test.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    version: &'static str,
    cpu_info: String,
    model_filename: String,
    /// Tokens of the vocabulary.
    n_vocab: usize,
    engine: &'static str,
    /// Why the vocabulary is left to the reference, where it is.
    reference_reason: Option<&'static str>,
    /// The text; none for loading.
    corpus: Option<String>,
    kind: Kind,
    test: String,
    n_threads: usize,
    /// Of one pass, in all threads together, as are the tokens.
    n_bytes: usize,
    n_tokens: usize,
    /// Of each thread in one pass.
    n_calls: usize,
    test_time: String,
    /// Of one pass.
    best_ns: u64,
    median_ns: u64,
    samples_ns: Vec<u64>,
    /// Millions of bytes per second, where there is a text.
    best_mbs: Option<f64>,
    median_mbs: Option<f64>,
    /// Tokens per second, likewise.
    best_ts: Option<f64>,
    median_ts: Option<f64>,
    /// Nanoseconds that a call takes, and that there are for a token, by the median.
    call_ns: f64,
    token_ns: Option<f64>,
    /// Bytes that the process grew by when it loaded for the first time.
    memory_growth: Option<usize>,
    baseline_ns: Option<u64>,
    /// Above 1 is faster than the baseline.
    baseline_ratio: Option<f64>,
}

/// What identifies a row of an earlier run, and its time.
#[derive(Debug, Deserialize)]
pub(super) struct Baseline {
    model_filename: String,
    test: String,
    n_bytes: usize,
    median_ns: u64,
}

/// What is the same in all rows of a run.
pub(super) struct Subject {
    pub(super) model: String,
    pub(super) cpu: String,
}

/// What one test gave.
pub(super) struct Measured {
    /// Bytes and tokens of one pass.
    pub(super) pass: Pass,
    /// Seconds of one pass, at least one sample.
    pub(super) samples: Vec<f64>,
    pub(super) calls: usize,
    pub(super) began: String,
}

impl Row {
    pub(super) fn new(subject: &Subject, test: &Test<'_>, measured: &Measured) -> Self {
        let Pass { bytes, tokens, .. } = measured.pass;
        let samples = &measured.samples;
        let best = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let median = Statistics::of(samples).median;
        // A clock too coarse for a short text must not make a rate that is no number.
        let per_second =
            |count: usize, time: f64| (count > 0).then(|| count as f64 / time.max(1e-9));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            cpu_info: subject.cpu.clone(),
            model_filename: subject.model.clone(),
            n_vocab: test.engine.tokenizer.vocab_size(),
            engine: test.engine.name,
            reference_reason: test.engine.unasked_reason(),
            corpus: test.corpus.map(|corpus| corpus.name.clone()),
            kind: test.kind,
            test: test.name(),
            n_threads: test.threads,
            n_bytes: bytes,
            n_tokens: tokens,
            n_calls: measured.calls,
            test_time: measured.began.clone(),
            best_ns: nanoseconds(best),
            median_ns: nanoseconds(median),
            samples_ns: samples.iter().copied().map(nanoseconds).collect(),
            best_mbs: per_second(bytes, best).map(|rate| rate / 1e6),
            median_mbs: per_second(bytes, median).map(|rate| rate / 1e6),
            best_ts: per_second(tokens, best),
            median_ts: per_second(tokens, median),
            call_ns: median * 1e9 / measured.calls.max(1) as f64,
            token_ns: (tokens > 0).then(|| median * 1e9 / tokens as f64),
            memory_growth: test.engine.memory.filter(|_| test.kind == Kind::Load),
            baseline_ns: None,
            baseline_ratio: None,
        }
    }

    /// Held against the same test of an earlier run, where it had one.
    pub(super) fn against(self, baseline: &[Baseline]) -> Self {
        let same = |old: &&Baseline| {
            old.model_filename == self.model_filename
                && old.test == self.test
                && old.n_bytes == self.n_bytes
        };
        let old = baseline.iter().rfind(same).map(|old| old.median_ns);
        Self {
            baseline_ns: old,
            baseline_ratio: old
                .filter(|old| *old > 0 && self.median_ns > 0)
                .map(|old| old as f64 / self.median_ns as f64),
            ..self
        }
    }

    /// Whether its figure belongs on the line of `head`.
    fn belongs(&self, head: &Self) -> bool {
        self.engine == head.engine
            && (self.corpus.is_none() || self.corpus == head.corpus)
            && (!self.kind.encodes() || self.n_threads == head.n_threads)
    }
}

impl Compared for Row {
    fn kind(&self) -> &str {
        self.kind.name()
    }

    fn test(&self) -> &str {
        &self.test
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline_ratio
    }
}

/// What people read: a line for each text, engine and number of threads.
pub(super) fn table(rows: &[Row]) -> Table {
    let heads: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Cold).collect();
    let mut table = Table::default();
    let mut words = |heading, align, cell: fn(&Row) -> String| {
        table.column(heading, align, heads.iter().map(|head| cell(head)));
    };
    words("model", Align::Left, |head| head.model_filename.clone());
    words("text", Align::Left, |head| {
        head.corpus.clone().unwrap_or_default()
    });
    words("engine", Align::Left, |head| head.engine.to_owned());
    if heads.iter().any(|head| head.n_threads > 1) {
        words("threads", Align::Right, |head| head.n_threads.to_string());
    }
    let mut figures = |heading, kind: Kind, figure: &dyn Fn(&Row) -> String| {
        let cells = heads.iter().map(|head| {
            let mut found = rows.iter().filter(|row| row.kind == kind);
            let found = found.find(|row| row.belongs(head));
            found.map_or("-".to_owned(), figure)
        });
        table.column(heading, Align::Right, cells);
    };
    let one = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let compared = |row: &Row, figure: String| match row.baseline_ratio {
        Some(ratio) => format!("{figure} ({ratio:.2})"),
        None => figure,
    };
    let rate = |row: &Row| compared(row, one(row.median_mbs));
    let rates = |row: &Row| {
        let figure = format!("{} / {}", one(row.best_mbs), one(row.median_mbs));
        compared(row, figure)
    };
    figures("load ms", Kind::Load, &|row| {
        compared(row, one(Some(row.median_ns as f64 / 1e6)))
    });
    figures("MiB", Kind::Load, &|row| {
        one(row
            .memory_growth
            .map(|bytes| bytes as f64 / f64::from(1 << 20)))
    });
    figures("cold MB/s", Kind::Cold, &rates);
    figures("warm MB/s", Kind::Warm, &rates);
    figures("warm Mt/s", Kind::Warm, &|row| {
        one(row.median_ts.map(|rate| rate / 1e6))
    });
    figures("lines MB/s", Kind::Lines, &rate);
    figures("4k MB/s", Kind::Pieces4k, &rate);
    figures("ns / 4k", Kind::Pieces4k, &|row| {
        format!("{:.0}", row.call_ns)
    });
    figures("ns / 100b", Kind::Pieces100, &|row| {
        compared(row, format!("{:.0}", row.call_ns))
    });
    figures("decode MB/s", Kind::Decode, &rate);
    figures("stream ns/token", Kind::Stream, &|row| {
        compared(row, one(row.token_ns))
    });
    table
}
