//! One result: the fields that programs read, and the columns that people do. Measures nothing.

use indicatif::BinaryBytes;
use mlxr::ModelDescription;
use serde::Serialize;

use super::machine::Machine;
use super::pass::Sample;
use super::plan::Test;
use super::statistics::Statistics;
use crate::ui::table::{Align, Table};

/// The result of one test. Fields that llama-bench has too bear its names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) version: &'static str,
    pub(crate) libmlx_version: String,
    pub(crate) cpu_info: String,
    pub(crate) gpu_info: String,
    pub(crate) backends: &'static str,
    pub(crate) device: String,
    /// Threads that compute on the CPU; none on a GPU.
    pub(crate) n_threads: Option<usize>,
    pub(crate) cpu_exact: bool,
    pub(crate) model_filename: String,
    pub(crate) model_type: String,
    /// Bytes.
    pub(crate) model_size: usize,
    pub(crate) model_n_params: usize,
    pub(crate) quant: String,
    /// `pp`, `tg` or `pg`.
    pub(crate) kind: &'static str,
    pub(crate) test: String,
    pub(crate) n_prompt: usize,
    pub(crate) n_gen: usize,
    pub(crate) n_depth: usize,
    pub(crate) n_sequences: usize,
    pub(crate) test_time: String,
    pub(crate) avg_ns: u64,
    pub(crate) stddev_ns: u64,
    pub(crate) median_ns: u64,
    /// Tokens per second, of all sequences together.
    pub(crate) avg_ts: f64,
    pub(crate) stddev_ts: f64,
    pub(crate) median_ts: f64,
    pub(crate) samples_ns: Vec<u64>,
    pub(crate) samples_ts: Vec<f64>,
    /// Mean time until every sequence has its first token, where there is a prompt.
    pub(crate) ttft_ns: Option<u64>,
    /// Bytes that must be read for a token, where tokens are generated and nothing else.
    pub(crate) bytes_per_token: Option<f64>,
    /// Bytes per second.
    pub(crate) device_bandwidth_measured: Option<f64>,
    pub(crate) pct_bandwidth: Option<f64>,
    /// Bytes that MLX's allocator held at most, where MLX computes.
    pub(crate) peak_memory: Option<usize>,
    /// Operations that MLX launches for a step, where a GPU generates and does nothing else.
    pub(crate) operations_per_step: Option<f64>,
    pub(crate) baseline_ts: Option<f64>,
    /// Of the median rates: above 1 is faster than the baseline.
    pub(crate) baseline_ratio: Option<f64>,
}

/// What is the same in all rows of a run.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) name: String,
    pub(crate) model: &'a ModelDescription,
    pub(crate) machine: Machine,
    pub(crate) threads: Option<usize>,
    pub(crate) exact: bool,
    /// Bytes per second.
    pub(crate) bandwidth: Option<f64>,
}

/// What one test gave.
#[derive(Debug)]
pub(crate) struct Measured<'a> {
    pub(crate) test: &'a Test,
    /// At least one.
    pub(crate) samples: &'a [Sample],
    pub(crate) began: String,
    /// Bytes of keys and values of one token of one sequence.
    pub(crate) cache_bytes_per_token: usize,
    pub(crate) peak_memory: Option<usize>,
    /// That MLX launched for one repetition, where a GPU computes.
    pub(crate) operations: Option<usize>,
}

impl Row {
    pub(crate) fn new(subject: &Subject<'_>, measured: &Measured<'_>) -> Self {
        let Measured {
            test,
            samples,
            began,
            cache_bytes_per_token,
            peak_memory,
            operations,
        } = measured;
        let model = subject.model;
        let seconds: Vec<f64> = samples.iter().map(|s| s.total.as_secs_f64()).collect();
        let rates: Vec<f64> = seconds
            .iter()
            .map(|seconds| test.tokens() as f64 / seconds)
            .collect();
        let (time, rate) = (Statistics::of(&seconds), Statistics::of(&rates));
        let first: Vec<f64> = samples
            .iter()
            .map(|sample| sample.first_token.as_secs_f64())
            .collect();
        let bytes_per_token = (test.kind() == "tg").then(|| {
            // A step reads the weights once for all sequences, and what each of them holds.
            let held = test.depth as f64 + f64::midpoint(1.0, test.generate as f64);
            model.read_bytes as f64 / test.sequences as f64 + held * *cache_bytes_per_token as f64
        });
        let share = |bytes: f64| Some(100.0 * bytes * rate.mean / subject.bandwidth?);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            libmlx_version: model.mlx_version.clone(),
            cpu_info: subject.machine.cpu.clone(),
            gpu_info: subject.machine.gpu.clone(),
            backends: subject.machine.backend,
            device: model.device.to_string(),
            n_threads: subject.threads,
            cpu_exact: subject.exact,
            model_filename: subject.name.clone(),
            model_type: model.architecture.clone(),
            model_size: model.weights_bytes,
            model_n_params: model.parameters,
            quant: model.quantization.clone(),
            kind: test.kind(),
            test: test.name(),
            n_prompt: test.prompt,
            n_gen: test.generate,
            n_depth: test.depth,
            n_sequences: test.sequences,
            test_time: began.clone(),
            avg_ns: nanoseconds(time.mean),
            stddev_ns: nanoseconds(time.deviation),
            median_ns: nanoseconds(time.median),
            avg_ts: rate.mean,
            stddev_ts: rate.deviation,
            median_ts: rate.median,
            samples_ns: seconds.iter().copied().map(nanoseconds).collect(),
            samples_ts: rates,
            ttft_ns: (test.prompt > 0).then(|| nanoseconds(Statistics::of(&first).mean)),
            bytes_per_token,
            device_bandwidth_measured: subject.bandwidth,
            pct_bandwidth: bytes_per_token.and_then(share),
            peak_memory: *peak_memory,
            operations_per_step: operations
                .filter(|_| test.kind() == "tg")
                .map(|operations| operations as f64 / test.generate as f64),
            baseline_ts: None,
            baseline_ratio: None,
        }
    }

    /// Held against the median rate of an earlier run.
    pub(crate) fn against(self, baseline_ts: Option<f64>) -> Self {
        Self {
            baseline_ts,
            baseline_ratio: baseline_ts.map(|old| self.median_ts / old),
            ..self
        }
    }
}

/// From seconds.
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// The columns for people. Those in which all rows would be alike and say nothing are left out.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::default();
    let mut column = |heading, align, cell: &dyn Fn(&Row) -> String| {
        table.column(heading, align, rows.iter().map(cell));
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    column("model", Align::Left, &|row| row.model_filename.clone());
    column("size", Align::Right, &|row| {
        BinaryBytes(row.model_size as u64).to_string()
    });
    column("params", Align::Right, &|row| count(row.model_n_params));
    column("backend", Align::Left, &|row| row.backends.to_owned());
    if rows.iter().any(|row| row.n_threads.is_some()) {
        column("threads", Align::Right, &|row| {
            or_dash(row.n_threads.map(|threads| threads.to_string()))
        });
    }
    column("quant", Align::Left, &|row| row.quant.clone());
    if rows.iter().any(|row| row.n_sequences > 1) {
        column("seqs", Align::Right, &|row| row.n_sequences.to_string());
    }
    column("test", Align::Right, &|row| row.test.clone());
    column("t/s", Align::Right, &|row| {
        format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts)
    });
    column("% bw", Align::Right, &|row| {
        or_dash(row.pct_bandwidth.map(|share| format!("{share:.1}")))
    });
    if rows.iter().any(|row| row.operations_per_step.is_some()) {
        column("ops", Align::Right, &|row| {
            or_dash(row.operations_per_step.map(|count| format!("{count:.0}")))
        });
    }
    if rows.iter().any(|row| row.ttft_ns.is_some()) {
        column("ttft ms", Align::Right, &|row| {
            or_dash(row.ttft_ns.map(|ttft| format!("{:.1}", ttft as f64 / 1e6)))
        });
    }
    if rows.iter().any(|row| row.baseline_ratio.is_some()) {
        column("/ baseline", Align::Right, &|row| {
            or_dash(row.baseline_ratio.map(|ratio| format!("{ratio:.3}")))
        });
    }
    table
}

fn count(parameters: usize) -> String {
    let parameters = parameters as f64;
    if parameters < 1e9 {
        format!("{:.2} M", parameters / 1e6)
    } else {
        format!("{:.2} B", parameters / 1e9)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use mlxr::mlx::Device;
    use mlxr::{LoadParts, Span};

    use super::*;

    const NO_TIME: Span = Span {
        start: Duration::ZERO,
        length: Duration::ZERO,
    };

    /// A model of 1000 bytes that are read for each token.
    fn measured(test: Test, seconds: &[f64]) -> Row {
        let model = ModelDescription {
            architecture: "A".to_owned(),
            context: 100,
            vocabulary: 10,
            weights_bytes: 1500,
            memory_bytes: 2000,
            read_bytes: 1000,
            parameters: 750,
            quantization: "bf16".to_owned(),
            device: Device::Cpu,
            mlx_version: String::new(),
            load_time: Duration::ZERO,
            load_parts: LoadParts {
                tokenizer: None,
                library: NO_TIME,
                weights: NO_TIME,
            },
        };
        let subject = Subject {
            name: "m".to_owned(),
            model: &model,
            machine: Machine {
                cpu: String::new(),
                gpu: String::new(),
                backend: "CPU",
            },
            threads: Some(2),
            exact: false,
            bandwidth: Some(1e5),
        };
        let samples = seconds.iter().map(|seconds| Sample {
            total: Duration::from_secs_f64(*seconds),
            first_token: Duration::from_secs_f64(seconds / 2.0),
        });
        let measured = Measured {
            test: &test,
            samples: &samples.collect::<Vec<_>>(),
            began: String::new(),
            cache_bytes_per_token: 10,
            peak_memory: None,
            operations: Some(27),
        };
        Row::new(&subject, &measured)
    }

    /// A row that was held against a baseline.
    pub(crate) fn row(kind: &'static str, test: &str, ratio: Option<f64>) -> Row {
        let four = Test {
            prompt: 0,
            generate: 4,
            depth: 0,
            sequences: 1,
        };
        Row {
            kind,
            test: test.to_owned(),
            baseline_ratio: ratio,
            ..measured(four, &[1.0])
        }
    }

    #[test]
    fn rates_count_all_sequences_and_weights_are_read_once_for_all() {
        let test = Test {
            prompt: 0,
            generate: 9,
            depth: 100,
            sequences: 4,
        };
        let row = measured(test, &[1.0, 2.0]);
        assert_eq!((row.avg_ns, row.median_ns), (1_500_000_000, 1_500_000_000));
        assert_eq!(row.samples_ts, [36.0, 18.0]);
        assert!((row.avg_ts - 27.0).abs() < 1e-9, "{}", row.avg_ts);
        // 1000 / 4 of weights, and on average 105 tokens of 10 bytes.
        assert_eq!(row.bytes_per_token, Some(1300.0));
        let share = row.pct_bandwidth.unwrap();
        assert!((share - 35.1).abs() < 1e-9, "{share}");
        assert_eq!(row.ttft_ns, None);
        assert!((row.operations_per_step.unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(row.against(Some(54.0)).baseline_ratio, Some(0.5));
    }

    #[test]
    fn prompts_have_a_first_token_and_no_share_of_the_bandwidth() {
        let test = Test {
            prompt: 8,
            generate: 0,
            depth: 0,
            sequences: 1,
        };
        let row = measured(test, &[1.0, 3.0]);
        assert_eq!(row.ttft_ns, Some(1_000_000_000));
        assert_eq!((row.bytes_per_token, row.pct_bandwidth), (None, None));
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let rows = [row("tg", "tg4", None)];
        let plain = table(&rows).shown(false);
        let headings = plain.lines().next().unwrap();
        assert!(!headings.contains("seqs") && !headings.contains("baseline"));
        let rows = [row("tg", "tg4", Some(1.25))];
        assert!(table(&rows).shown(false).contains("1.250"));
    }
}
