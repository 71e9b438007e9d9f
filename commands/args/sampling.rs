//! The arguments that say how tokens are chosen.

use clap::Args;
use mlxr::sample::Sampling;

/// What the user says about how tokens are chosen: as flags, or as fields of a request.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling (defaults: generation_config.json, else as shown)")]
pub(crate) struct SamplingArgs {
    /// 0 always takes the likeliest token [default: 0.8]
    #[arg(
        short,
        long = "temp",
        alias = "temperature",
        value_name = "T",
        allow_negative_numbers = true
    )]
    pub(crate) temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all [default: 40]
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have this probability [default: 0.9]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// Divide the logits of tokens seen before; 1 is off [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) repeat_penalty: Option<f32>,
    /// Tokens that the three penalties look back at; 0 is none, -1 all [default: 64]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..),
    )]
    pub(crate) repeat_last_n: Option<i64>,
    /// Subtract from the logits of tokens seen before [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,
    /// Subtract from the logits of tokens once for each time seen before [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,
    /// Same seed, same text [default: a fresh one]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl SamplingArgs {
    /// These where they are given, else `other`.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            repeat_penalty: self.repeat_penalty.or(other.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(other.repeat_last_n),
            presence_penalty: self.presence_penalty.or(other.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(other.frequency_penalty),
            seed: self.seed.or(other.seed),
        }
    }

    /// These where they are given, else those of `model`.
    pub(crate) fn over(&self, model: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(model.repeat_penalty),
            // A negative count is the whole context.
            repeat_last_n: self
                .repeat_last_n
                .map_or(model.repeat_last_n, |count| usize::try_from(count).ok()),
            presence_penalty: self.presence_penalty.unwrap_or(model.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(model.frequency_penalty),
            seed: self.seed.or(model.seed),
            ..model.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sampling, SamplingArgs};

    #[test]
    fn a_row_beats_a_flag_and_a_flag_beats_the_model() {
        let row = SamplingArgs {
            temperature: Some(0.1),
            ..SamplingArgs::default()
        };
        let flags = SamplingArgs {
            temperature: Some(0.2),
            top_k: Some(2),
            repeat_last_n: Some(-1),
            ..SamplingArgs::default()
        };
        let model = Sampling {
            temperature: 0.3,
            top_k: 3,
            top_p: 0.3,
            ..Sampling::default()
        };
        let chosen = row.or(&flags).over(&model);
        let wanted = Sampling {
            temperature: 0.1,
            top_k: 2,
            repeat_last_n: None,
            ..model
        };
        assert_eq!(chosen, wanted);
    }
}
