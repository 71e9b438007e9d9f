//! Steps on the CPU: kernels compute when a step is collected, and nothing is computed ahead, since
//! all cores are at work.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::Budget;
use super::kept::Kept;
use crate::cache::{Checkpoint, Rows, SequenceCache};
use crate::engine::request::{Logprobs, Read, Token};
use crate::engine::stepper::{Input, Outcome, Reading, Restorable, Slot, Stepper, Stored, Work};
use crate::engine::together::Peers;
use crate::error::Result;
use crate::kernels::sampling::{self, Choice, Noise, choose, score};
use crate::memory;
use crate::models::Model;
use crate::ops::batch::Batch;
use crate::ops::tensor::Tensor;
use crate::sample::{Mask, Sampling};

/// Tokens of prompts in a step: a chunk bounds how long a cancelled prompt goes on, which is seconds.
const PREFILL_CHUNK: usize = 256;

/// Tokens of prompts whose logits are looked at together: each takes a row as long as the vocabulary.
const ROWS_READ: usize = 32;

/// The token of a sequence whose logits were not finite: its row of the embedding is zeros.
const NONE: i32 = -1;

/// Computes steps with a model on the CPU.
pub(super) struct HostStepper {
    model: Box<dyn Model>,
    /// Tells what sequences will take.
    empty: SequenceCache,
    budget: Budget,
    kept: Kept,
    peers: Option<Arc<dyn Peers>>,
    live: BTreeMap<Slot, Live>,
    next_slot: usize,
    queued: VecDeque<Queued>,
}

/// A sequence that is open.
struct Live {
    cache: SequenceCache,
    /// Checkpoints that nobody has asked for yet, ascending.
    captured: Vec<(usize, Checkpoint)>,
    sampling: Sampling,
    seed: u64,
    history: History,
    /// The token sampled last.
    previous: Option<i32>,
}

/// A step that is not collected.
enum Queued {
    Waiting(Vec<Work>),
    Done(Result<Vec<Outcome>>),
}

impl HostStepper {
    pub(super) fn new(
        model: Box<dyn Model>,
        kept: Kept,
        budget: Budget,
        peers: Option<Arc<dyn Peers>>,
    ) -> Self {
        Self {
            empty: model.new_cache(),
            budget,
            model,
            kept,
            peers,
            live: BTreeMap::new(),
            next_slot: 0,
            queued: VecDeque::new(),
        }
    }

    fn live(&mut self, slot: Slot) -> Result<&mut Live> {
        self.live
            .get_mut(&slot)
            .ok_or_else(|| super::not_open(slot))
    }

    /// Takes a sequence out of the steps that are not computed yet.
    fn withdraw(&mut self, slot: Slot) {
        for queued in &mut self.queued {
            if let Queued::Waiting(work) = queued {
                work.retain(|work| work.slot != slot);
            }
        }
    }

    /// Computes what is queued.
    fn compute(&mut self) {
        for mut queued in std::mem::take(&mut self.queued) {
            if let Queued::Waiting(work) = queued {
                queued = Queued::Done(self.run(&work));
            }
            self.queued.push_back(queued);
        }
    }

    fn run(&mut self, work: &[Work]) -> Result<Vec<Outcome>> {
        if work.is_empty() {
            return Ok(Vec::new());
        }
        let taken = work.iter().filter_map(|work| {
            let live = self.live.remove(&work.slot);
            live.map(|live| (work.slot, live))
        });
        let mut live: Vec<(Slot, Live)> = taken.collect();
        let outcomes = if live.len() == work.len() {
            step(&*self.model, work, &mut live)
        } else {
            Err(super::some_not_open())
        };
        self.live.extend(live);
        outcomes
    }
}

/// Appends each one's work to its sequence, reads, and samples.
fn step(model: &dyn Model, work: &[Work], live: &mut [(Slot, Live)]) -> Result<Vec<Outcome>> {
    let ids = work.iter().zip(&*live).map(|(work, (slot, live))| {
        Ok(match &work.input {
            Input::Tokens(tokens) => tokens.iter().map(|&id| id as i32).collect(),
            Input::Previous => vec![live.previous.ok_or_else(|| super::no_token(*slot))?],
        })
    });
    let ids: Vec<Vec<i32>> = ids.collect::<Result<_>>()?;
    let pieces = ids.iter().zip(&*live).enumerate();
    let pieces =
        pieces.map(|(index, (ids, (_, live)))| (index, live.cache.length(), ids.as_slice()));
    let mut batch = Batch::new(&pieces.collect::<Vec<_>>())?;
    for (segment, work) in batch.segments.iter_mut().zip(work) {
        segment.captures.clone_from(&work.captures);
    }
    let mut caches: Vec<_> = live.iter_mut().map(|(_, live)| &mut live.cache).collect();
    let hidden = model.forward(&batch, &mut caches)?;
    for (work, (_, live)) in work.iter().zip(&mut *live) {
        super::take_captured(&mut live.cache, &work.captures, &mut live.captured)?;
    }
    let sampling: Vec<usize> = (0..work.len())
        .filter(|&index| work[index].sample)
        .collect();
    let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
    for (index, work) in work.iter().enumerate() {
        if let Some(reading) = &work.reading {
            let segment = &batch.segments[index];
            let read = read(model, &hidden, segment.row, segment.length, reading)?;
            let outcome = Outcome {
                slot: work.slot,
                is_broken: read.is_none(),
                read,
                token: None,
            };
            outcomes.insert(index, outcome);
        }
    }
    if !sampling.is_empty() {
        let last = |&index: &usize| batch.segments[index].row + batch.segments[index].length - 1;
        let rows: Vec<usize> = sampling.iter().map(last).collect();
        let logits = model.logits(&hidden.take(&rows)?)?;
        let logits = logits.host()?;
        let logits = logits.numbers.chunks_exact(logits.width);
        for (&index, logits) in sampling.iter().zip(logits) {
            let (slot, live) = &mut live[index];
            let outcome = outcomes.entry(index).or_default();
            outcome.slot = *slot;
            outcome.token = live.sample(logits, work[index].mask.as_deref());
            outcome.is_broken |= outcome.token.is_none();
        }
    }
    Ok(outcomes.into_values().collect())
}

/// Reads the states of `length` tokens from `row` on; `None` where they are not finite numbers.
fn read(
    model: &dyn Model,
    hidden: &Tensor,
    row: usize,
    length: usize,
    reading: &Reading,
) -> Result<Option<Read>> {
    let (next, top) = match reading {
        Reading::Scores { next, top } => (next, *top),
        Reading::State => {
            let state = model.states(&hidden.take(&[row + length - 1])?)?;
            let state = state.into_numbers()?;
            let is_finite = state.iter().all(|number| number.is_finite());
            return Ok(is_finite.then_some(Read::State(state)));
        }
    };
    let mut scores = Vec::with_capacity(next.len());
    for (first, next) in (row..).step_by(ROWS_READ).zip(next.chunks(ROWS_READ)) {
        let rows: Vec<usize> = (first..first + next.len()).collect();
        let logits = model.logits(&hidden.take(&rows)?)?;
        let logits = logits.host()?;
        for (logits, &token) in logits.numbers.chunks_exact(logits.width).zip(next) {
            let Some(found) = score(logits, token, top) else {
                return Ok(None);
            };
            scores.push(found.into());
        }
    }
    Ok(Some(Read::Scores(scores)))
}

impl Live {
    /// Chooses the token that comes next, one of `mask`.
    fn sample(&mut self, logits: &[f32], mask: Option<&Mask>) -> Option<Token> {
        let noise = Noise::new(self.seed, self.cache.length());
        let chosen = choose(logits, &self.sampling, &self.history.tokens, mask, noise);
        let id = chosen.as_ref().map_or(NONE, |chosen| chosen.token as i32);
        self.history.push(id);
        self.previous = Some(id);
        let Choice { token, logprobs } = chosen?;
        Some(Token {
            id: token,
            logprobs: logprobs.map(Logprobs::from),
        })
    }
}

impl From<sampling::Logprobs> for Logprobs {
    fn from(found: sampling::Logprobs) -> Self {
        Self {
            chosen: found.chosen,
            top: found.top,
        }
    }
}

/// The tokens that penalties look back on.
struct History {
    window: usize,
    tokens: Vec<i32>,
}

impl History {
    /// Seeded with the end of the prompt.
    fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let window = sampling.looks_back();
        let seed = &prompt[prompt.len().saturating_sub(window)..];
        Self {
            window,
            tokens: seed.iter().map(|&id| id as i32).collect(),
        }
    }

    fn push(&mut self, token: i32) {
        if self.window == 0 {
            return;
        }
        self.tokens.push(token);
        let first = self.tokens.len().saturating_sub(self.window);
        self.tokens.drain(..first);
    }
}

impl Stepper for HostStepper {
    fn context(&self) -> usize {
        self.model.context()
    }

    fn prefill_chunk(&self) -> usize {
        PREFILL_CHUNK
    }

    fn steps_ahead(&self) -> usize {
        0
    }

    fn cache_bytes_per_token(&self, slot: Slot) -> usize {
        let live = self.live.get(&slot);
        live.map_or(0, |live| live.cache.bytes_per_token())
    }

    fn open(&mut self) -> Result<Slot> {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        let sampling = Sampling::greedy();
        let live = Live {
            cache: self.model.new_cache(),
            captured: Vec::new(),
            history: History::new(&sampling, &[]),
            sampling,
            seed: 0,
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
        super::check_tokens(prompt, self.model.vocabulary())?;
        self.compute();
        let live = self.live(slot)?;
        live.history = History::new(sampling, prompt);
        live.sampling = sampling.clone();
        live.seed = seed;
        live.previous = None;
        Ok(())
    }

    fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize> {
        // What is not computed need not be cut away.
        self.withdraw(slot);
        Ok(self.live(slot)?.cache.rewind(length))
    }

    fn step(&mut self, work: &[Work]) -> Result<()> {
        if let Some(work) = work.iter().find(|work| !self.live.contains_key(&work.slot)) {
            return Err(super::not_open(work.slot));
        }
        self.queued.push_back(Queued::Waiting(work.to_vec()));
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<Outcome>> {
        match self.queued.pop_front() {
            Some(Queued::Waiting(work)) => self.run(&work),
            Some(Queued::Done(outcomes)) => outcomes,
            None => Err(super::nothing_queued()),
        }
    }

    fn close(&mut self, slot: Slot) {
        self.withdraw(slot);
        self.live.remove(&slot);
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.peers.clone()
    }
}

impl Restorable for HostStepper {
    type Rows = Rows;
    type Checkpoint = Checkpoint;

    fn needs_checkpoints(&self) -> bool {
        self.empty.needs_checkpoints()
    }

    fn reaches(&self, slot: Slot, length: usize) -> bool {
        let live = self.live.get(&slot);
        live.is_some_and(|live| live.cache.reaches(length))
    }

    fn bytes(&self, slot: Slot) -> usize {
        self.live.get(&slot).map_or(0, |live| live.cache.bytes())
    }

    fn expected_bytes(&self, tokens: usize) -> usize {
        self.empty.expected_bytes(tokens, PREFILL_CHUNK)
    }

    fn copy_bytes(&self, _: usize) -> usize {
        // Pages are shared.
        0
    }

    fn checkpoint_bytes(&self) -> usize {
        self.empty.checkpoint_bytes()
    }

    fn used(&self) -> usize {
        memory::held()
    }

    fn room(&self) -> usize {
        self.budget.room(PREFILL_CHUNK)
    }

    fn offload_room(&self) -> usize {
        0
    }

    fn offloaded(&self) -> usize {
        0
    }

    fn offload_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Rows> {
        self.copy_rows(slot, range)
    }

    fn offload(&mut self, rows: &Rows) -> Result<Rows> {
        Ok(rows.clone())
    }

    fn offload_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<Checkpoint> {
        Ok(checkpoint.clone())
    }

    fn stored(&mut self) -> Vec<Stored<Rows, Checkpoint>> {
        self.kept.all()
    }

    fn stores(&self) -> bool {
        self.kept.0.is_some()
    }

    fn store(
        &mut self,
        tokens: &[u32],
        rows: &Rows,
        checkpoint: Option<&Checkpoint>,
    ) -> Option<Stored<Rows, Checkpoint>> {
        self.kept.keep(tokens, rows, checkpoint)
    }

    fn settle(&mut self, slot: Slot) -> Result<usize> {
        self.withdraw(slot);
        Ok(self.live(slot)?.cache.length())
    }

    fn copy_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Rows> {
        self.live(slot)?.cache.copy_rows(range)
    }

    fn checkpoint(&mut self, slot: Slot) -> Result<Checkpoint> {
        let cache = &mut self.live(slot)?.cache;
        cache.checkpoint(cache.length())
    }

    fn captured(&mut self, slot: Slot, until: usize) -> Vec<(usize, Checkpoint)> {
        let live = self.live.get_mut(&slot);
        live.map_or(Vec::new(), |live| {
            super::drain_captured(&mut live.captured, until)
        })
    }

    fn restore(
        &mut self,
        slot: Slot,
        kept: usize,
        rows: &[&Rows],
        checkpoint: Option<&Checkpoint>,
        length: usize,
    ) -> Result<()> {
        let live = self.live(slot)?;
        live.captured.clear();
        let restored = live.cache.restore(kept, rows, checkpoint, length);
        self.kept.discard_damaged(restored)
    }
}
