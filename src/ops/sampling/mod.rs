//! The next token from a row of logits on a device: nothing is read back to choose it. On the CPU
//! [`crate::kernels::sampling`] does the same.
//!
//! Order: logit bias and penalties on the raw logits; of these, tokens that may be chosen; temperature 0
//! takes the largest; else top-k, temperature, top-p on what is left, min-p, and a draw. The noise of a token in a draw follows from
//! seed, position and token alone, so a text does not depend on what else is in the batch, on what
//! was cached, or on the order in which candidates are ranked.

mod device;
mod largest;
#[cfg(test)]
mod tests;

pub use largest::{Largest, largest, takes_largest};

use crate::error::Result;
use crate::kernels::sampling::Noise;
use crate::mlx::{Array, ops, slice};
use crate::sample::{Mask, Sampling};

/// What is chosen from one row, not yet evaluated.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The token, int32 `[1]`; -1 where the logits are not finite numbers.
    pub token: Array,
    /// Present where the sampling asks for it.
    pub logprobs: Option<ChoiceLogprobs>,
}

/// Log-probabilities from the raw logits.
#[derive(Debug, Clone)]
pub struct ChoiceLogprobs {
    /// Of the token chosen, float32 `[1]`.
    pub chosen: Array,
    /// The likeliest tokens, int32 `[n]`, in no order.
    pub top_tokens: Array,
    /// Theirs, float32 `[n]`.
    pub top: Array,
}

/// How likely some tokens are, not yet evaluated.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Their log-probabilities, float32 `[R]`; NaN where the logits are not finite numbers.
    pub chosen: Array,
    /// The likeliest tokens of each row, int32 `[R, n]`, in no order.
    pub top_tokens: Array,
    /// Theirs, float32 `[R, n]`.
    pub top: Array,
}

impl Scores {
    /// What is to be evaluated.
    pub fn arrays(&self) -> [&Array; 3] {
        [&self.chosen, &self.top_tokens, &self.top]
    }
}

/// How likely each of `tokens` is by its row of logits `[R, V]`, with the `top` likeliest.
///
/// # Errors
/// What MLX says.
pub fn score(logits: &Array, tokens: &[u32], top: usize) -> Result<Scores> {
    device::score(logits, tokens, top)
}

/// The tokens that penalties look back on, as arrays on the device.
#[derive(Debug, Clone)]
pub struct History {
    window: usize,
    tokens: Option<Array>,
}

impl History {
    /// Seeded with the end of the prompt.
    pub fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let window = sampling.looks_back();
        let seed = &prompt[prompt.len().saturating_sub(window)..];
        let ids: Vec<i32> = seed.iter().map(|&id| id as i32).collect();
        let tokens = (!ids.is_empty()).then(|| Array::from_slice(&ids, &[ids.len() as i32]));
        Self { window, tokens }
    }

    /// Notes a sampled token, int32 `[1]`.
    fn push(&mut self, token: &Array) -> Result<()> {
        if self.window == 0 {
            return Ok(());
        }
        let all = match &self.tokens {
            Some(tokens) => ops::concatenate(&[tokens, token], 0)?,
            None => token.clone(),
        };
        let kept = i32::try_from(self.window).unwrap_or(i32::MAX);
        self.tokens = Some(slice(&all, 0, -kept..)?);
        Ok(())
    }
}

/// Chooses the token that comes next, one of `mask`, from its row of logits `[1, V]`.
///
/// # Errors
/// What MLX says.
pub fn choose(
    logits: &Array,
    sampling: &Sampling,
    noise: Noise,
    mask: Option<&Mask>,
    history: &mut History,
) -> Result<Choice> {
    let seen = history.tokens.as_ref();
    let choice = device::choose(logits, sampling, seen, mask, noise)?;
    history.push(&choice.token)?;
    Ok(choice)
}
