//! What a packed model lost against its source: both read a text, and their chances for each next token are compared.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mlxr::cache::SequenceCache;
use mlxr::files::ModelFiles;
use mlxr::mlx::{self, Device, DeviceChoice};
use mlxr::models::{self, LoadedModel, Precision, Source};
use mlxr::ops::batch::Batch;
use mlxr::progress::{Progress, Unit};
use mlxr::quantize::{Plan, TensorError, errors};
use mlxr::tokenizer::{Bos, Tokenizer};
use mlxr::{Error, Result};
use serde_json::{Value, json};

use super::statistics::{Estimate, Token, compare};
use crate::settings::Settings;
use crate::ui::printer;
use crate::ui::progress::Drawn;
use crate::ui::table::Table;

/// The text where none is named.
const SAMPLE: &str = include_str!("sample.txt");

/// Tokens that are read in one go: each stretch begins anew.
const STRETCH: usize = 512;

/// Rows of logits at a time: a row may have a quarter of a million numbers.
const ROWS: usize = 32;

/// The file beside the weights.
const FILE: &str = "quant_report.json";

const READING: &str = "comparing answers";

/// What was measured.
pub(super) struct Report {
    tokens: usize,
    pub(super) divergence: Estimate,
    agreement: f64,
    /// Nats per token, of the source and of the packed one.
    losses: [Estimate; 2],
    tensors: Vec<TensorError>,
}

/// Measures a packed model on a text, or on the sample, and stores what was found beside its weights.
pub(super) fn report(
    plan: &Plan,
    source: &ModelFiles,
    target: &Path,
    text: Option<&Path>,
    settings: &Settings,
    progress: &Arc<Drawn>,
) -> Result<Report> {
    let text = match text {
        Some(path) => fs::read_to_string(path).map_err(Error::io("read", path))?,
        None => SAMPLE.to_owned(),
    };
    let packed = ModelFiles::Folder(target.to_path_buf());
    let tokenizer = Tokenizer::load(source)?;
    let ids = tokenizer.encode(&text, Bos::Never)?;
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let bos = tokenizer.bos_id().map(|id| id as i32);
    if ids.len() < 2 {
        return Err(Error::EmptyPrompt);
    }
    let device = mlx::open(DeviceChoice::Auto, settings.library.as_deref())?;
    let precision = match device {
        Device::Cpu => Precision::Float32,
        Device::Gpu => Precision::Stored,
    };
    let load = |files: &ModelFiles| {
        models::load(
            &Source::Files(files.clone()),
            precision,
            usize::MAX,
            &**progress,
        )
    };
    let models = [load(source)?, load(&packed)?];
    let tokens = read(&models, &ids, bos, progress)?;
    let report = Report {
        tokens: tokens.len(),
        divergence: Estimate::of(tokens.iter().map(|token| token.divergence)),
        agreement: tokens.iter().filter(|token| token.agrees).count() as f64
            / tokens.len().max(1) as f64,
        losses: [0, 1].map(|model| Estimate::of(tokens.iter().map(|token| token.losses[model]))),
        tensors: errors(plan, &packed, &**progress)?,
    };
    let path = target.join(FILE);
    let text = serde_json::to_string_pretty(&report.json(plan)).unwrap_or_default() + "\n";
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    Ok(report)
}

/// What both models say of each token but the first of each stretch.
fn read(
    models: &[LoadedModel; 2],
    ids: &[i32],
    bos: Option<i32>,
    progress: &Drawn,
) -> Result<Vec<Token>> {
    let context = models[0].model.context().min(STRETCH);
    let vocabulary = models[0].model.vocabulary();
    progress.start(READING, Some(ids.len() as u64), Unit::Tokens);
    let mut tokens = Vec::new();
    let each = context - usize::from(bos.is_some());
    for (index, stretch) in ids.chunks(each).enumerate() {
        let input: Vec<i32> = bos.into_iter().chain(stretch.iter().copied()).collect();
        let hidden = models.each_ref().map(|loaded| {
            let mut cache: SequenceCache = loaded.model.new_cache();
            loaded
                .model
                .forward(&Batch::new(&[(0, 0, &input)])?, &mut [&mut cache])
        });
        let [source, packed] = hidden;
        let hidden = [source?, packed?];
        let known = input.len() - 1;
        for first in (0..known).step_by(ROWS) {
            let rows = first..known.min(first + ROWS);
            let logits = [0, 1].map(|model| {
                let hidden = hidden[model].rows(rows.clone())?;
                models[model].model.logits(&hidden)?.into_numbers()
            });
            let [source, packed] = logits;
            let (source, packed) = (source?, packed?);
            let both = source
                .chunks_exact(vocabulary)
                .zip(packed.chunks_exact(vocabulary));
            for ((source, packed), &next) in both.zip(&input[first + 1..]) {
                tokens.push(compare(source, packed, next as usize).ok_or(Error::NotFinite)?);
            }
        }
        progress.advance(READING, (index * each + stretch.len()) as u64);
    }
    progress.finish(READING);
    Ok(tokens)
}

impl Report {
    /// Everything, for programs.
    pub(super) fn json(&self, plan: &Plan) -> Value {
        let perplexity = |loss: &Estimate| {
            let (low, high) = loss.interval();
            json!({"value": loss.mean.exp(), "low": low.exp(), "high": high.exp()})
        };
        let (low, high) = self.divergence.interval();
        json!({
            "tokens": self.tokens,
            "kl_divergence": {
                "mean": self.divergence.mean, "low": low, "high": high, "most": self.divergence.most,
            },
            "top1_agreement": self.agreement,
            "perplexity": {"source": perplexity(&self.losses[0]), "packed": perplexity(&self.losses[1])},
            "bytes": plan.bytes(),
            "bits_per_weight": plan.bits_per_weight(),
            "tensors": self.tensors.iter().map(|tensor| json!({
                "name": tensor.name, "relative_error": tensor.relative,
            })).collect::<Vec<_>>(),
        })
    }

    /// A table for people.
    pub(super) fn show(&self, settings: &Settings) -> Result<()> {
        let interval = |estimate: &Estimate, of: fn(f64) -> f64, digits: usize| {
            let (low, high) = estimate.interval();
            format!(
                "{:.digits$} ({:.digits$} to {:.digits$})",
                of(estimate.mean),
                of(low),
                of(high)
            )
        };
        let worst = self
            .tensors
            .iter()
            .max_by(|a, b| a.relative.total_cmp(&b.relative));
        let mut rows = vec![
            ("tokens", self.tokens.to_string()),
            (
                "KL divergence, nats per token",
                interval(&self.divergence, |x| x, 5),
            ),
            ("largest of them", format!("{:.4}", self.divergence.most)),
            (
                "likeliest token the same",
                format!("{:.2} %", 100.0 * self.agreement),
            ),
            (
                "perplexity of the source",
                interval(&self.losses[0], f64::exp, 3),
            ),
            (
                "perplexity of the packed one",
                interval(&self.losses[1], f64::exp, 3),
            ),
        ];
        if let Some(worst) = worst {
            let what = format!("{:.2} % ({})", 100.0 * worst.relative, worst.name);
            rows.push(("weights farthest off", what));
        }
        let heads = ["against the source", "measured (95 % of such texts)"];
        let table = Table::of_pairs(heads, &rows);
        printer::data(&if settings.terminals.stdout {
            table.drawn()
        } else {
            table.markdown()
        })
    }
}
