//! The results of an earlier run, and how far below them the new ones may be. Measures nothing.

use std::fs;
use std::path::Path;

use mlxr::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Deserializer;

use super::row::Row;
use crate::args::Limit;
use crate::ui::Exit;
use crate::ui::printer;

/// What identifies a row of an earlier run, and its rate.
#[derive(Debug, Deserialize)]
pub(crate) struct Baseline {
    model_filename: String,
    quant: String,
    test: String,
    n_sequences: usize,
    device: String,
    /// None on a GPU.
    n_threads: Option<usize>,
    cpu_exact: bool,
    median_ts: f64,
}

/// A result that can be held against an earlier one.
pub(crate) trait Compared {
    /// What all tests of its kind are called.
    fn kind(&self) -> &str;
    /// What it alone is called.
    fn test(&self) -> &str;
    /// How much faster it is than the earlier one, where there is one.
    fn ratio(&self) -> Option<f64>;
}

impl Compared for Row {
    fn kind(&self) -> &str {
        self.kind
    }

    fn test(&self) -> &str {
        &self.test
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline_ratio
    }
}

/// Reads what `-o json` or `-o jsonl` wrote.
pub(crate) fn read<Earlier: DeserializeOwned>(path: &Path) -> Result<Vec<Earlier>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let rows = if bytes.trim_ascii_start().starts_with(b"{") {
        Deserializer::from_slice(&bytes).into_iter().collect()
    } else {
        serde_json::from_slice(&bytes)
    };
    rows.map_err(|error| Error::Benchmark {
        test: format!("--baseline {}", path.display()),
        problem: format!("not what `-o json` writes: {error}"),
    })
}

/// The median rate that `row` had in an earlier run.
pub(crate) fn rate(baseline: &[Baseline], row: &Row) -> Option<f64> {
    let same = |old: &&Baseline| {
        old.model_filename == row.model_filename
            && old.quant == row.quant
            && old.test == row.test
            && old.n_sequences == row.n_sequences
            && old.device == row.device
            && old.n_threads == row.n_threads
            && old.cpu_exact == row.cpu_exact
    };
    let found = baseline.iter().rfind(same)?;
    (found.median_ts > 0.0).then_some(found.median_ts)
}

/// How a run ends that was measured to its end: what is worse than `limits` allow is told of.
///
/// # Errors
/// As [`violations`].
pub(crate) fn gate(limits: &[Limit], rows: &[impl Compared]) -> Result<Exit> {
    let violations = violations(limits, rows)?;
    for violation in &violations {
        printer::say(violation);
    }
    Ok(if violations.is_empty() {
        Exit::Success
    } else {
        Exit::Gate
    })
}

/// What is worse than `limits` allow, a sentence each.
///
/// # Errors
/// Where a limit applies to nothing that was measured now and then: it would pass unseen.
fn violations(limits: &[Limit], rows: &[impl Compared]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for limit in limits {
        let mut applied = false;
        for row in rows {
            let meant = limit.tests == row.kind() || limit.tests == row.test();
            let Some(ratio) = row.ratio().filter(|_| meant) else {
                continue;
            };
            applied = true;
            let fall = (1.0 - ratio) * 100.0;
            if fall > limit.percent {
                found.push(format!(
                    "{} is {fall:.1} % below the baseline, {} % are allowed",
                    row.test(),
                    limit.percent
                ));
            }
        }
        if !applied {
            return Err(Error::Benchmark {
                test: format!("--fail-if {}", limit.tests),
                problem: "the baseline has no such test of what was measured here".to_owned(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Baseline, rate, read, violations};
    use crate::bench::row::tests::row;

    fn old(test: &str, median_ts: f64) -> Baseline {
        Baseline {
            model_filename: "m".to_owned(),
            quant: "bf16".to_owned(),
            test: test.to_owned(),
            n_sequences: 1,
            device: "cpu".to_owned(),
            n_threads: Some(2),
            cpu_exact: false,
            median_ts,
        }
    }

    #[test]
    fn rows_are_compared_with_their_own_kind_alone() {
        let other = Baseline {
            device: "gpu".to_owned(),
            ..old("tg4", 1.0)
        };
        let fewer = Baseline {
            n_threads: Some(1),
            ..old("tg4", 4.0)
        };
        let exact = Baseline {
            cpu_exact: true,
            ..old("tg4", 5.0)
        };
        let baseline = [
            old("tg4", 50.0),
            other,
            fewer,
            exact,
            old("pp4", 2.0),
            old("tg4 @ d8", 3.0),
        ];
        assert_eq!(rate(&baseline, &row("tg", "tg4", None)), Some(50.0));
        assert_eq!(rate(&baseline, &row("tg", "tg5", None)), None);
        assert_eq!(rate(&[old("tg4", 0.0)], &row("tg", "tg4", None)), None);
    }

    #[test]
    fn a_limit_is_broken_by_more_than_it_allows() {
        let limit = |text: &str| vec![text.parse().unwrap()];
        let rows = [
            row("tg", "tg4", Some(0.96)),
            row("tg", "tg4 @ d8", Some(0.98)),
            row("pp", "pp4", Some(0.5)),
        ];
        assert_eq!(
            violations(&limit("tg<-3%"), &rows).unwrap(),
            ["tg4 is 4.0 % below the baseline, 3 % are allowed"]
        );
        assert!(violations(&limit("tg<-5%"), &rows).unwrap().is_empty());
        assert_eq!(violations(&limit("tg4 @ d8<-1%"), &rows).unwrap().len(), 1);
        let refusal = violations(&limit("pg<-5%"), &rows).unwrap_err();
        assert!(refusal.to_string().contains("no such test"), "{refusal}");
        let new = [row("tg", "tg4", None)];
        violations(&limit("tg<-5%"), &new).unwrap_err();
    }

    #[test]
    fn a_file_that_is_no_baseline_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        read::<Baseline>(&path).unwrap_err();
        for text in ["", "{}", "[{}]", "[{\"test\": 1}]"] {
            std::fs::write(&path, text).unwrap();
            let refusal = read::<Baseline>(&path).unwrap_err().to_string();
            assert!(refusal.contains("old.json"), "{refusal}");
        }
    }
}
