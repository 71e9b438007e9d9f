//! What a packed model lost against its source: both read a text, and their chances for each next token are compared.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mlxr::files::ModelFiles;
use mlxr::quantize::{Plan, TensorError, errors};
use mlxr::{Error, Result};
use serde_json::{Value, json};

use super::reading::{Place, Reading, Text};
use super::statistics::Estimate;
use crate::settings::Settings;
use crate::ui::printer;
use crate::ui::progress::Drawn;
use crate::ui::table::Table;

/// The file beside the weights.
const FILE: &str = "quant_report.json";

/// What was measured.
pub(super) struct Report {
    tokens: usize,
    pub(super) divergence: Estimate,
    agreement: f64,
    /// Nats per token, of the source and of the packed one.
    losses: [Estimate; 2],
    tensors: Vec<TensorError>,
}

/// Measures a packed model on a text, and stores what was found beside its weights.
pub(super) fn report(
    plan: &Plan,
    source: &ModelFiles,
    target: &Path,
    text: &Text,
    place: Place,
    progress: &Arc<Drawn>,
) -> Result<Report> {
    let packed = ModelFiles::Folder(target.to_path_buf());
    let loaded = place.load(source, progress)?;
    let reading = Reading::new(&loaded, text, usize::MAX, progress)?;
    let tokens = reading.compare(&place.load(&packed, progress)?)?;
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
        printer::data(&table.shown(settings.terminals.stdout))
    }
}
