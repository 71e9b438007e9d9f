//! A sequence that is open on a device, and how its next token is chosen.

use crate::cache::{Checkpoint, SequenceCache};
use crate::engine::stepper::{Input, Slot, Work};
use crate::error::Result;
use crate::kernels::sampling::Noise;
use crate::mlx::{Array, slice};
use crate::ops::sampling::{Choice, History, Largest, choose};
use crate::sample::Sampling;

/// A sequence that is open.
pub(super) struct Live {
    pub(super) cache: SequenceCache,
    /// Checkpoints that nobody has asked for yet, ascending.
    pub(super) captured: Vec<(usize, Checkpoint)>,
    pub(super) sampling: Sampling,
    pub(super) seed: u64,
    pub(super) history: History,
    /// The token sampled last, on the device.
    pub(super) previous: Option<Array>,
}

impl Live {
    /// One that has no tokens, and is asked for the likeliest.
    pub(super) fn new(cache: SequenceCache) -> Self {
        Self {
            cache,
            captured: Vec::new(),
            sampling: Sampling::greedy(),
            seed: 0,
            history: History::new(&Sampling::greedy(), &[]),
            previous: None,
        }
    }

    /// The tokens that are appended, int32 `[L]`.
    pub(super) fn input(&self, work: &Work) -> Result<Array> {
        match &work.input {
            Input::Tokens(tokens) => {
                let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
                Ok(Array::from_slice(&ids, &[ids.len() as i32]))
            }
            Input::Previous => {
                let previous = self.previous.clone();
                previous.ok_or_else(|| super::no_token(work.slot))
            }
        }
    }
}

/// Chooses a token after each row of `logits`, which are of these parts of the work.
pub(super) fn choose_each(
    work: &[Work],
    live: &mut [Live],
    sampling: &[usize],
    logits: &Array,
) -> Result<Vec<(Slot, Choice)>> {
    let rows = (0..).zip(sampling);
    let choices = rows.map(|(row, &index)| {
        let live = &mut live[index];
        let row = slice(logits, 0, row..=row)?;
        let noise = Noise::new(live.seed, live.cache.length());
        let mask = work[index].mask.as_deref();
        let choice = choose(&row, &live.sampling, noise, mask, &mut live.history)?;
        live.previous = Some(choice.token.clone());
        Ok((work[index].slot, choice))
    });
    choices.collect()
}

/// The tokens that were chosen for all of the work at once.
pub(super) fn take_largest(work: &[Work], live: &mut [Live], chosen: Largest) -> Result<Chosen> {
    for (row, live) in (0..).zip(live) {
        live.previous = Some(slice(&chosen.tokens, 0, row..=row)?);
    }
    let slots = work.iter().map(|work| work.slot).collect();
    Ok(Chosen::AtOnce(slots, chosen.for_host))
}

/// What a step chooses.
pub(super) enum Chosen {
    Each(Vec<(Slot, Choice)>),
    /// A token for each, int32 `[B]`.
    AtOnce(Vec<Slot>, Array),
}

impl Chosen {
    /// What is to be computed.
    pub(super) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Each(choices) => {
                let all = choices.iter().flat_map(|(_, choice)| {
                    let logprobs = choice.logprobs.iter();
                    let logprobs =
                        logprobs.flat_map(|found| [&found.chosen, &found.top_tokens, &found.top]);
                    std::iter::once(&choice.token).chain(logprobs)
                });
                all.collect()
            }
            Self::AtOnce(_, tokens) => vec![tokens],
        }
    }
}
