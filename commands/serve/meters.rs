//! What is counted over the life of the server.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mlxr::engine::request::{Timings, Usage};

/// Bounds of the classes in which times are counted, in seconds.
const SECONDS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Meters {
    answers: AtomicU64,
    failures: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    produced_tokens: AtomicU64,
    first_token: Times,
    answer: Times,
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Times {
    /// Below each bound, and above all.
    counts: [AtomicU64; SECONDS.len() + 1],
    microseconds: AtomicU64,
}

impl Times {
    fn add(&self, time: Duration) {
        let class = SECONDS.partition_point(|bound| *bound < time.as_secs_f64());
        self.counts[class].fetch_add(1, Ordering::Relaxed);
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(time, Ordering::Relaxed);
    }

    fn write(&self, name: &str, text: &mut String) {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let mut all = 0;
        let bounds = SECONDS
            .iter()
            .map(f64::to_string)
            .chain(["+Inf".to_owned()]);
        row(text, format_args!("# TYPE {name} histogram"));
        for (count, bound) in counts.zip(bounds) {
            all += count;
            row(text, format_args!("{name}_bucket{{le=\"{bound}\"}} {all}"));
        }
        let seconds = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        row(
            text,
            format_args!("{name}_sum {seconds}\n{name}_count {all}"),
        );
    }
}

impl Meters {
    /// An answer is complete.
    pub(super) fn answered(&self, usage: &Usage, timings: &Timings) {
        let add =
            |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Ordering::Relaxed);
        add(&self.answers, 1);
        add(&self.prompt_tokens, usage.prompt);
        add(&self.cached_tokens, usage.cached);
        add(&self.produced_tokens, usage.completion);
        self.first_token.add(timings.first_token);
        self.answer.add(timings.first_token + timings.decode);
    }

    /// One failed, or was refused.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them, as Prometheus reads them.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, counter) in [
            ("mlxr_answers_total", &self.answers),
            ("mlxr_failures_total", &self.failures),
            ("mlxr_prompt_tokens_total", &self.prompt_tokens),
            ("mlxr_prompt_tokens_cached_total", &self.cached_tokens),
            ("mlxr_generation_tokens_total", &self.produced_tokens),
        ] {
            let count = counter.load(Ordering::Relaxed);
            row(
                &mut text,
                format_args!("# TYPE {name} counter\n{name} {count}"),
            );
        }
        self.first_token
            .write("mlxr_time_to_first_token_seconds", &mut text);
        self.answer.write("mlxr_answer_duration_seconds", &mut text);
        text
    }
}

/// Adds a line.
pub(super) fn row(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _: std::fmt::Result = writeln!(text, "{line}");
}
