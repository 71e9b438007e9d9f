//! Draws progress: bars on a terminal, plain lines elsewhere; what the work is is not known here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};
use mlxr::progress::{Progress, Unit};

use super::printer::{Printer, Verbosity};

/// Work that ends sooner is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// Progress on stderr. Without a terminal only downloads are told of, a line when they begin and
/// one when they end.
pub(crate) struct Drawn {
    printer: Printer,
    bars: MultiProgress,
    work: Mutex<HashMap<String, Work>>,
}

struct Work {
    since: Instant,
    total: Option<u64>,
    unit: Unit,
    bar: Option<ProgressBar>,
}

impl Drawn {
    pub(crate) fn new(printer: Printer) -> Self {
        Self {
            printer,
            bars: MultiProgress::new(),
            work: Mutex::default(),
        }
    }

    fn bar(&self, name: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
        let counts = match (unit, total) {
            (Unit::Bytes, Some(_)) => {
                "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            (Unit::Bytes, None) => "{spinner} {binary_bytes} {binary_bytes_per_sec}",
            (Unit::Tokens | Unit::Items, Some(_)) => "{bar:30} {human_pos}/{human_len}",
            (Unit::Tokens | Unit::Items, None) => "{spinner} {human_pos}",
        };
        let style = ProgressStyle::with_template(&format!("{{msg}} {counts}"))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        self.bars
            .add(bar.with_style(style).with_message(name.to_owned()))
    }
}

/// The bar of a prompt while it is evaluated.
pub(crate) struct Prefill {
    drawn: Drawn,
    is_begun: bool,
}

impl Prefill {
    /// The name that the bar has.
    const NAME: &str = "prompt";

    pub(crate) fn new(printer: Printer) -> Self {
        Self {
            drawn: Drawn::new(printer),
            is_begun: false,
        }
    }

    /// So many of so many tokens are evaluated.
    pub(crate) fn advance(&mut self, done: usize, total: usize) {
        if !self.is_begun {
            let total = Some(total as u64);
            self.drawn.start(Self::NAME, total, Unit::Tokens);
            self.is_begun = true;
        }
        self.drawn.advance(Self::NAME, done as u64);
        if done == total {
            self.drawn.finish(Self::NAME);
        }
    }
}

impl Progress for Drawn {
    fn start(&self, name: &str, total: Option<u64>, unit: Unit) {
        if !self.printer.live && unit == Unit::Bytes {
            let size = total
                .map(|bytes| format!(" ({})", BinaryBytes(bytes)))
                .unwrap_or_default();
            self.printer.talk(format_args!("{name}{size}"));
        }
        let work = Work {
            since: Instant::now(),
            total,
            unit,
            bar: None,
        };
        let mut all = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), work);
    }

    fn advance(&self, name: &str, done: u64) {
        let mut all = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = all.get_mut(name) else {
            return;
        };
        let shown = self.printer.live && self.printer.verbosity > Verbosity::Quiet;
        if shown && work.since.elapsed() >= PATIENCE {
            work.bar
                .get_or_insert_with(|| self.bar(name, work.total, work.unit))
                .set_position(done);
        }
    }

    fn notice(&self, sentence: &str) {
        self.printer.talk(sentence);
    }

    fn finish(&self, name: &str) {
        let mut all = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = all.remove(name) else { return };
        if let Some(bar) = work.bar {
            bar.finish_and_clear();
        }
        if !self.printer.live && work.unit == Unit::Bytes {
            let seconds = work.since.elapsed().as_secs_f64();
            self.printer
                .talk(format_args!("{name}: done in {seconds:.1} s"));
        }
    }
}
