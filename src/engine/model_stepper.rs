//! The stepper that computes with a model on MLX: the one file of this room that knows either.

use std::collections::{BTreeMap, VecDeque};

use crate::cache::SequenceCache;
use crate::engine::request::{Logprobs, Token};
use crate::engine::stepper::{Input, Sampled, Slot, Stepper, Work};
use crate::error::{Error, Result};
use crate::mlx::{
    Array, Device, async_eval, eval, memory, slice, synchronize, take_failure, to_vec,
};
use crate::models::Model;
use crate::ops::batch::Batch;
use crate::ops::sampling::{Choice, History, choose};
use crate::sample::Sampling;

/// Steps after which MLX's pool of freed buffers is given back (reference: 256).
const STEPS_PER_CLEARING: usize = 256;

/// Computes steps with a model.
pub struct ModelStepper {
    model: Box<dyn Model>,
    prefill_chunk: usize,
    live: BTreeMap<Slot, Live>,
    next_slot: usize,
    queued: VecDeque<Queued>,
    steps: usize,
}

/// A sequence that is open.
struct Live {
    cache: SequenceCache,
    sampling: Sampling,
    seed: u64,
    history: History,
    /// The token sampled last, on the device.
    previous: Option<Array>,
}

/// A step that is not collected.
struct Queued {
    choices: Vec<(Slot, Choice)>,
    /// What must be evaluated where nothing was sampled.
    state: Vec<Array>,
    has_prompt: bool,
}

impl ModelStepper {
    /// Computes with `model` on `device`.
    pub fn new(model: Box<dyn Model>, device: Device) -> Self {
        // A chunk bounds how long a cancelled prompt goes on: seconds on a CPU, a blink on a GPU
        // (reference: 2048).
        let prefill_chunk = match device {
            Device::Cpu => 256,
            Device::Gpu => 2048,
        };
        Self {
            model,
            prefill_chunk,
            live: BTreeMap::new(),
            next_slot: 0,
            queued: VecDeque::new(),
            steps: 0,
        }
    }

    /// Bytes that the cache of `slot` holds for each of its tokens; 0 for an empty one.
    ///
    /// # Errors
    /// Where the slot is not open.
    pub fn cache_bytes_per_token(&mut self, slot: Slot) -> Result<usize> {
        let cache = &self.live(slot)?.cache;
        // Buffers are [1, heads, capacity, width].
        let per_token = |buffer: &Array| buffer.nbytes() / (buffer.shape()[2] as usize).max(1);
        Ok(cache.arrays().map(per_token).sum())
    }

    fn live(&mut self, slot: Slot) -> Result<&mut Live> {
        self.live
            .get_mut(&slot)
            .ok_or_else(|| Error::Mlx(format!("{slot:?} is not open")))
    }

    /// The work of a step on sequences taken out of `self.live`.
    fn run(&self, work: &[Work], live: &mut [Live]) -> Result<Queued> {
        let pieces = work
            .iter()
            .zip(live.iter())
            .enumerate()
            .map(|(index, (work, live))| {
                let tokens = match &work.input {
                    Input::Tokens(tokens) => {
                        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
                        Array::from_slice(&ids, &[ids.len() as i32])
                    }
                    Input::Previous => live.previous.clone().ok_or_else(|| {
                        Error::Mlx(format!("{:?} has no token to go on from", work.slot))
                    })?,
                };
                Ok((index, live.cache.length(), tokens))
            });
        let batch = Batch::new(&pieces.collect::<Result<Vec<_>>>()?)?;
        let mut caches: Vec<&mut SequenceCache> =
            live.iter_mut().map(|live| &mut live.cache).collect();
        let hidden = self.model.forward(&batch, &mut caches)?;
        let sampling: Vec<usize> = (0..work.len())
            .filter(|&index| work[index].sample)
            .collect();
        let mut choices = Vec::with_capacity(sampling.len());
        if !sampling.is_empty() {
            let last =
                |index: &usize| batch.segments[*index].row + batch.segments[*index].length - 1;
            let rows: Vec<i32> = sampling.iter().map(last).collect();
            let all = hidden.shape()[0] as usize == rows.len();
            let chosen = if all {
                hidden
            } else {
                hidden.take_axis(Array::from_slice(&rows, &[rows.len() as i32]), 0)?
            };
            let logits = self.model.logits(&chosen)?;
            for (row, &index) in (0..).zip(&sampling) {
                let live = &mut live[index];
                let position = live.cache.length();
                let row = slice(&logits, 0, row..=row)?;
                let choice = choose(&row, &live.sampling, live.seed, position, &mut live.history)?;
                live.previous = Some(choice.token.clone());
                choices.push((work[index].slot, choice));
            }
        }
        // Caches are evaluated with each step, so that no graph spans two chunks.
        let state: Vec<Array> = live
            .iter()
            .flat_map(|live| live.cache.arrays().cloned())
            .collect();
        let results = choices.iter().flat_map(|(_, choice)| {
            let logprobs = choice.logprobs.iter();
            let logprobs =
                logprobs.flat_map(|found| [&found.chosen, &found.top_tokens, &found.top]);
            std::iter::once(&choice.token).chain(logprobs)
        });
        async_eval(results.chain(&state))?;
        let has_prompt = work
            .iter()
            .any(|work| matches!(work.input, Input::Tokens(_)));
        // Handles on live buffers keep later steps from writing in place: one is enough to wait for.
        let last = state.last().filter(|_| choices.is_empty()).cloned();
        Ok(Queued {
            choices,
            state: last.into_iter().collect(),
            has_prompt,
        })
    }
}

impl Stepper for ModelStepper {
    fn context(&self) -> usize {
        self.model.context()
    }

    fn prefill_chunk(&self) -> usize {
        self.prefill_chunk
    }

    fn open(&mut self) -> Result<Slot> {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        let live = Live {
            cache: self.model.new_cache(),
            sampling: Sampling::greedy(),
            seed: 0,
            history: History::new(&Sampling::greedy(), &[]),
            previous: None,
        };
        self.live.insert(slot, live);
        Ok(slot)
    }

    fn sampling(
        &mut self,
        slot: Slot,
        sampling: &Sampling,
        seed: u64,
        prompt: &[u32],
    ) -> Result<()> {
        let vocabulary = self.model.vocabulary();
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::ForeignToken { id, vocabulary });
        }
        let live = self.live(slot)?;
        live.history = History::new(sampling, prompt);
        live.sampling = sampling.clone();
        live.seed = seed;
        live.previous = None;
        Ok(())
    }

    fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize> {
        Ok(self.live(slot)?.cache.rewind(length))
    }

    fn step(&mut self, work: &[Work]) -> Result<()> {
        let taken: Vec<(Slot, Live)> = work
            .iter()
            .filter_map(|work| Some((work.slot, self.live.remove(&work.slot)?)))
            .collect();
        let (slots, mut live): (Vec<Slot>, Vec<Live>) = taken.into_iter().unzip();
        let step = if live.len() == work.len() {
            self.run(work, &mut live)
        } else {
            Err(Error::Mlx(
                "a step works on a slot that is not open".to_owned(),
            ))
        };
        self.live.extend(slots.into_iter().zip(live));
        self.queued.push_back(step?);
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<Sampled>> {
        let queued = self
            .queued
            .pop_front()
            .ok_or_else(|| Error::Mlx("no step is queued".to_owned()))?;
        eval(&queued.state)?;
        let sampled = queued.choices.into_iter().map(|(slot, choice)| {
            Ok(Sampled {
                slot,
                token: read(&choice)?,
            })
        });
        let sampled = sampled.collect::<Result<Vec<_>>>()?;
        take_failure()?;
        self.steps += 1;
        if queued.has_prompt || self.steps.is_multiple_of(STEPS_PER_CLEARING) {
            memory::clear_pool()?;
        }
        Ok(sampled)
    }

    fn close(&mut self, slot: Slot) {
        self.live.remove(&slot);
    }
}

impl Drop for ModelStepper {
    /// The last step of an ended sequence is often still under way, one ahead. MLX's streams belong
    /// to the engine's thread and its allocator to the process: neither may end before the work.
    fn drop(&mut self) {
        // An error of work that nobody waits for concerns nobody.
        drop(synchronize());
    }
}

/// Waits for a choice and brings it to the host.
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
        let ids = to_vec(&found.top_tokens)?.into_iter().map(|id| id as u32);
        let mut top: Vec<(u32, f32)> = ids.zip(to_vec(&found.top)?).collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let chosen = to_vec(&found.chosen)?.first().copied().unwrap_or(f32::NAN);
        Ok::<_, Error>(Logprobs { chosen, top })
    });
    Ok(Some(Token {
        id,
        logprobs: logprobs.transpose()?,
    }))
}

impl std::fmt::Debug for ModelStepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelStepper")
            .field("open", &self.live.len())
            .finish_non_exhaustive()
    }
}
