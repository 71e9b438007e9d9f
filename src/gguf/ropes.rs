//! How rotary periods are changed for long contexts, as `rope_scaling` says it.

use serde_json::{Value as Json, json};

use super::Facts;

/// What Llama 3's scaling always has.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;

/// How far a factor may be from the one that follows from what was found.
const CLOSE: f64 = 1e-3;

impl Facts<'_> {
    /// `rope_scaling`, or null.
    pub(super) fn rope_scaling(&self) -> Result<Json, String> {
        if let Some(factors) = &self.factors {
            return self.llama3(factors);
        }
        let key = self.key("rope.scaling.type");
        let number = |name: &str| self.metadata.optional_number(&self.key(name));
        let factor = || {
            let found = number("rope.scaling.factor")?;
            found.ok_or_else(|| {
                format!("its metadata have no `{}`", self.key("rope.scaling.factor"))
            })
        };
        match self.metadata.get(&key).map(|kind| kind.text()) {
            None | Some(Some("none")) => Ok(Json::Null),
            Some(Some("linear")) => Ok(json!({"rope_type": "linear", "factor": factor()?})),
            Some(Some("yarn")) => {
                let mut scaling = json!({"rope_type": "yarn", "factor": factor()?});
                for (name, field) in [
                    (
                        "rope.scaling.original_context_length",
                        "original_max_position_embeddings",
                    ),
                    ("rope.scaling.yarn_beta_fast", "beta_fast"),
                    ("rope.scaling.yarn_beta_slow", "beta_slow"),
                ] {
                    if let Some(number) = number(name)? {
                        scaling[field] = json!(number);
                    }
                }
                Ok(scaling)
            }
            Some(kind) => Err(format!(
                "`{key}` is `{}`, which is not read from GGUF",
                kind.unwrap_or("not a text")
            )),
        }
    }

    /// GGUF has the factors that Llama 3's scaling leads to; those it is described by are found again, the context of
    /// the first training among the powers of two.
    fn llama3(&self, factors: &[f32]) -> Result<Json, String> {
        let theta = self
            .metadata
            .optional_number(&self.key("rope.freq_base"))?
            .unwrap_or(1e4);
        let width = self.head_width()?;
        let most = factors.iter().copied().fold(1.0, f32::max);
        let factor = f64::from(most);
        let fits = |context: f64| {
            factors.len() == width / 2
                && factors.iter().enumerate().all(|(pair, &found)| {
                    let period =
                        std::f64::consts::TAU * theta.powf(2.0 * pair as f64 / width as f64);
                    let turns = context / period;
                    let share = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
                    let wanted = 1.0 / ((1.0 - share) / factor + share);
                    (f64::from(found) / wanted - 1.0).abs() < CLOSE
                })
        };
        let mut contexts = (5..=20).rev().map(|power| f64::from(1 << power));
        let context = contexts.find(|context| fits(*context)).ok_or(
            "the factors in rope_freqs.weight are not those of Llama 3: put the model's config.json beside the file",
        )?;
        Ok(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LOW,
            "high_freq_factor": HIGH,
            "original_max_position_embeddings": context as u64,
        }))
    }
}
