//! How the next token is chosen, as plain data; knows nothing of MLX. The choosing is `ops::sampling`.

mod mask;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use mask::{Mask, bits};

/// How the next token is chosen from the logits.
///
/// Order of application: penalties and logit bias on the raw logits; temperature 0 then takes the
/// largest; otherwise top-k, temperature, top-p (on what top-k left, renormalized), min-p, draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep this many of the largest logits; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest; 0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the window, once per distinct
    /// token; 1 is off.
    pub repeat_penalty: f32,
    /// How many last tokens (prompt included) penalties look at: 0 switches all three off, `None`
    /// is the whole context.
    pub repeat_last_n: Option<usize>,
    /// Subtracted once from the logit of each distinct token in the window.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once per occurrence in the window.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Randomness is keyed by (seed, position in the sequence); `None` draws a fresh seed.
    pub seed: Option<u64>,
    /// `Some(n)`: report the chosen token's log-probability and those of the `n` likeliest, from
    /// the raw logits.
    pub logprobs: Option<usize>,
}

impl Default for Sampling {
    /// The reference's defaults: temperature 0.8, top-k 40, top-p 0.9, penalties off.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: Some(64),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            logprobs: None,
        }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Whether any penalty changes any logit.
    #[expect(
        clippy::float_cmp,
        reason = "exactly the neutral values switch penalties off"
    )]
    pub fn has_penalties(&self) -> bool {
        self.repeat_last_n != Some(0)
            && (self.repeat_penalty != 1.0
                || self.presence_penalty != 0.0
                || self.frequency_penalty != 0.0)
    }

    /// How many of the last tokens penalties look back on; 0 where there are none.
    pub fn looks_back(&self) -> usize {
        if self.has_penalties() {
            self.repeat_last_n.unwrap_or(usize::MAX)
        } else {
            0
        }
    }

    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// [`Error::Sampling`] with the field's name.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, problem: String| Err(Error::Sampling { field, problem });
        let range = |field, value: f32, low: f32, high: f32| {
            if value.is_finite() && (low..=high).contains(&value) {
                return Ok(());
            }
            refuse(field, format!("{value} is not between {low} and {high}"))
        };
        range("temperature", self.temperature, 0.0, 100.0)?;
        range("top_p", self.top_p, 0.0, 1.0)?;
        range("min_p", self.min_p, 0.0, 1.0)?;
        range("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        range("frequency_penalty", self.frequency_penalty, -100.0, 100.0)?;
        if !self.repeat_penalty.is_finite() || self.repeat_penalty <= 0.0 {
            return refuse(
                "repeat_penalty",
                format!("{} is not above 0", self.repeat_penalty),
            );
        }
        match self.logit_bias.iter().find(|(_, bias)| bias.is_nan()) {
            Some((id, _)) => refuse(
                "logit_bias",
                format!("token {id} has a bias that is no number"),
            ),
            None => Ok(()),
        }
    }
}
