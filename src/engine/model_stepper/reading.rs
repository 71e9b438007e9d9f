//! What steps give, brought to the host.

use super::live::Chosen;
use crate::engine::request::{Logprobs, Read, Token};
use crate::engine::stepper::{Reading, Slot};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, to_vec};
use crate::models::Model;
use crate::ops::sampling::{Choice, Scores, score};
use crate::ops::tensor::Tensor;

/// Tokens of prompts whose logits are looked at together: each takes a row as long as the vocabulary.
const ROWS_READ: usize = 128;

/// What is read of a sequence's tokens, not yet evaluated.
pub(super) enum Reader {
    /// For some rows at a time.
    Scores(Vec<Scores>),
    State(Array),
}

impl Reader {
    /// Reads the states of `length` tokens from `row` on.
    pub(super) fn new(
        model: &dyn Model,
        hidden: &Tensor,
        row: usize,
        length: usize,
        reading: &Reading,
    ) -> Result<Self> {
        let (next, top) = match reading {
            Reading::Scores { next, top } => (next, *top),
            Reading::State => {
                let state = model.states(&hidden.take(&[row + length - 1])?)?;
                let state = state.device()?.as_dtype(Dtype::Float32)?;
                return Ok(Self::State(state.reshape(&[-1])?));
            }
        };
        let pieces = (row..).step_by(ROWS_READ).zip(next.chunks(ROWS_READ));
        let scores = pieces.map(|(first, next)| {
            let rows: Vec<usize> = (first..first + next.len()).collect();
            let logits = model.logits(&hidden.take(&rows)?)?;
            score(logits.device()?, next, top)
        });
        Ok(Self::Scores(scores.collect::<Result<_>>()?))
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Scores(scores) => scores.iter().flat_map(Scores::arrays).collect(),
            Self::State(state) => vec![state],
        }
    }

    /// Waits for it and brings it to the host; `None` where it is not finite numbers.
    pub(super) fn read(&self) -> Result<Option<Read>> {
        match self {
            Self::Scores(scores) => {
                let mut all = Vec::new();
                for scores in scores {
                    let (chosen, top) = (to_vec(&scores.chosen)?, to_vec(&scores.top)?);
                    let ids = to_vec(&scores.top_tokens)?;
                    let count = ids.len() / chosen.len().max(1);
                    if chosen.iter().any(|logprob| logprob.is_nan()) {
                        return Ok(None);
                    }
                    for (row, &chosen) in chosen.iter().enumerate() {
                        let row = row * count..(row + 1) * count;
                        let top = likeliest(&ids[row.clone()], &top[row]);
                        all.push(Logprobs { chosen, top });
                    }
                }
                Ok(Some(Read::Scores(all)))
            }
            Self::State(state) => {
                let state = to_vec(state)?;
                let is_finite = state.iter().all(|number| number.is_finite());
                Ok(is_finite.then_some(Read::State(state)))
            }
        }
    }
}

/// Tokens with their log-probabilities, the likeliest first.
fn likeliest(ids: &[f32], logprobs: &[f32]) -> Vec<(u32, f32)> {
    let pairs = ids.iter().zip(logprobs);
    let mut top: Vec<(u32, f32)> = pairs.map(|(&id, &logprob)| (id as u32, logprob)).collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    top
}

/// Waits for what was chosen and brings it to the host; no token where logits were not finite numbers.
pub(super) fn read_all(chosen: &Chosen) -> Result<Vec<(Slot, Option<Token>)>> {
    match chosen {
        Chosen::Each(choices) => {
            let choices = choices.iter();
            let tokens = choices.map(|(slot, choice)| Ok((*slot, read(choice)?)));
            tokens.collect()
        }
        Chosen::AtOnce(slots, tokens) => {
            let ids = tokens.to_vec_exact::<i32>();
            let ids = ids.map_err(|error| Error::Mlx(error.to_string()))?;
            let tokens = ids.into_iter().map(|id| {
                let logprobs = None;
                u32::try_from(id).ok().map(|id| Token { id, logprobs })
            });
            Ok(slots.iter().copied().zip(tokens).collect())
        }
    }
}

fn read(choice: &Choice) -> Result<Option<Token>> {
    let scalar = |array: &Array| {
        array
            .try_item_exact::<i32>()
            .map_err(|error| Error::Mlx(error.to_string()))
    };
    let Ok(id) = u32::try_from(scalar(&choice.token)?) else {
        return Ok(None);
    };
    let logprobs = choice.logprobs.as_ref().map(|found| {
        let top = likeliest(&to_vec(&found.top_tokens)?, &to_vec(&found.top)?);
        let chosen = to_vec(&found.chosen)?.first().copied().unwrap_or(f32::NAN);
        Ok::<_, Error>(Logprobs { chosen, top })
    });
    Ok(Some(Token {
        id,
        logprobs: logprobs.transpose()?,
    }))
}
