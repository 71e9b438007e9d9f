//! Steps as graphs of MLX, queued before their tokens are read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::Budget;
use super::fused::Fused;
use super::kept::Kept;
use super::live::{Chosen, Live, choose_each, take_largest};
use super::reading::{Reader, read_all};
use crate::cache::{Checkpoint, Rows, SequenceCache};
use crate::engine::stepper::{Input, Outcome, Restorable, Slot, Stepper, Stored, Work};
use crate::engine::together::Peers;
use crate::error::Result;
use crate::memory::held;
use crate::mlx::{Array, async_eval, eval, memory, synchronize};
use crate::models::Model;
use crate::ops::batch::Batch;
use crate::ops::decode::Program;
use crate::ops::sampling::{History, largest, takes_largest};
use crate::sample::Sampling;

/// Steps after which MLX's pool of freed buffers is given back (reference: 256).
const STEPS_PER_CLEARING: usize = 256;

/// Tokens of prompts in a step (reference: 2048).
const PREFILL_CHUNK: usize = 2048;

/// Computes steps with a model on a device.
pub(super) struct DeviceStepper {
    model: Box<dyn Model>,
    /// Tells what sequences will take.
    empty: SequenceCache,
    budget: Budget,
    kept: Kept,
    peers: Option<Arc<dyn Peers>>,
    live: BTreeMap<Slot, Live>,
    next_slot: usize,
    queued: VecDeque<Queued>,
    steps: usize,
    /// Computes steps of decoding, where it can.
    fused: Option<Fused>,
}

/// A step that is not collected.
struct Queued {
    chosen: Chosen,
    readings: Vec<(Slot, Reader)>,
    /// What must be evaluated where nothing was sampled.
    state: Vec<Array>,
    /// Buffers that nothing needs any more, but that a kernel may still write.
    retired: Vec<Array>,
    has_prompt: bool,
}

impl DeviceStepper {
    pub(super) fn new(
        model: Box<dyn Model>,
        program: Option<Program>,
        kept: Kept,
        budget: Budget,
        peers: Option<Arc<dyn Peers>>,
    ) -> Self {
        Self {
            empty: model.new_cache(),
            budget,
            kept,
            peers,
            model,
            live: BTreeMap::new(),
            next_slot: 0,
            queued: VecDeque::new(),
            steps: 0,
            fused: program.map(Fused::new),
        }
    }

    fn live(&mut self, slot: Slot) -> Result<&mut Live> {
        self.live
            .get_mut(&slot)
            .ok_or_else(|| super::not_open(slot))
    }

    /// Keeps the buffers of a sequence until all that is queued is done: MLX does not know which of them a kernel
    /// writes by their addresses.
    fn retire(&mut self, slot: Slot) {
        if let (Some(live), Some(last)) = (self.live.get(&slot), self.queued.back_mut()) {
            last.retired.extend(live.cache.arrays().cloned());
        }
    }

    /// The work of a step on sequences taken out of `self.live`.
    fn run(&mut self, work: &[Work], live: &mut [Live]) -> Result<Queued> {
        let tokens = work.iter().zip(&*live).map(|(work, live)| live.input(work));
        let tokens: Vec<Array> = tokens.collect::<Result<_>>()?;
        if let Some(fused) = &mut self.fused
            && fused.takes(work)
        {
            let all = fused.tokens(work, &tokens)?;
            let mut caches: Vec<&mut SequenceCache> =
                live.iter_mut().map(|live| &mut live.cache).collect();
            if let Some(logits) = fused.step(&all, &mut caches)? {
                let is_plain = |(work, live): (&Work, &Live)| {
                    work.mask.is_none() && takes_largest(&live.sampling)
                };
                let chosen = if work.iter().zip(&*live).all(is_plain) {
                    let chosen = largest(&logits)?;
                    fused.ends_at_once(work, &chosen.tokens);
                    take_largest(work, live, chosen)?
                } else {
                    let sampling: Vec<usize> = (0..work.len()).collect();
                    let choices = choose_each(work, live, &sampling, &logits)?;
                    if let Some((_, choice)) = choices.last() {
                        fused.ends(&choice.token);
                    }
                    Chosen::Each(choices)
                };
                async_eval(chosen.arrays())?;
                return Ok(Queued {
                    chosen,
                    readings: Vec::new(),
                    state: Vec::new(),
                    retired: Vec::new(),
                    has_prompt: has_prompt(work),
                });
            }
        }
        if let Some(fused) = &mut self.fused {
            fused.interrupted();
        }
        self.run_graph(work, live, tokens)
    }

    fn run_graph(&self, work: &[Work], live: &mut [Live], tokens: Vec<Array>) -> Result<Queued> {
        let pieces = tokens.into_iter().zip(&*live).enumerate();
        let pieces = pieces.map(|(index, (tokens, live))| (index, live.cache.length(), tokens));
        let mut batch = Batch::of_arrays(&pieces.collect::<Vec<_>>())?;
        for (segment, work) in batch.segments.iter_mut().zip(work) {
            segment.captures.clone_from(&work.captures);
        }
        let mut caches: Vec<&mut SequenceCache> =
            live.iter_mut().map(|live| &mut live.cache).collect();
        let hidden = self.model.forward(&batch, &mut caches)?;
        for (work, live) in work.iter().zip(&mut *live) {
            super::take_captured(&mut live.cache, &work.captures, &mut live.captured)?;
        }
        let sampling: Vec<usize> = (0..work.len())
            .filter(|&index| work[index].sample)
            .collect();
        let mut readings = Vec::new();
        for (work, segment) in work.iter().zip(&batch.segments) {
            if let Some(reading) = &work.reading {
                let model = &*self.model;
                let reader = Reader::new(model, &hidden, segment.row, segment.length, reading)?;
                readings.push((work.slot, reader));
            }
        }
        let mut choices = Vec::new();
        if !sampling.is_empty() {
            let last =
                |index: &usize| batch.segments[*index].row + batch.segments[*index].length - 1;
            let rows: Vec<usize> = sampling.iter().map(last).collect();
            let chosen = if hidden.device()?.shape()[0] as usize == rows.len() {
                hidden
            } else {
                hidden.take(&rows)?
            };
            let logits = self.model.logits(&chosen)?;
            choices = choose_each(work, live, &sampling, logits.device()?)?;
        }
        // Caches are evaluated with each step, so that no graph spans two chunks.
        let state: Vec<Array> = live
            .iter()
            .flat_map(|live| {
                let captured = live.captured.iter();
                let captured = captured.flat_map(|(_, checkpoint)| checkpoint.arrays());
                live.cache.arrays().chain(captured).cloned()
            })
            .collect();
        let read = readings.iter().flat_map(|(_, reader)| reader.arrays());
        // Handles on live buffers keep later steps from writing in place: one is enough to wait for.
        let last = state.last().filter(|_| choices.is_empty()).cloned();
        let chosen = Chosen::Each(choices);
        async_eval(chosen.arrays().into_iter().chain(read).chain(&state))?;
        Ok(Queued {
            chosen,
            readings,
            state: last.into_iter().collect(),
            retired: Vec::new(),
            has_prompt: has_prompt(work),
        })
    }
}

fn has_prompt(work: &[Work]) -> bool {
    work.iter()
        .any(|work| matches!(work.input, Input::Tokens(_)))
}

impl Stepper for DeviceStepper {
    fn context(&self) -> usize {
        self.model.context()
    }

    fn prefill_chunk(&self) -> usize {
        PREFILL_CHUNK
    }

    fn steps_ahead(&self) -> usize {
        1
    }

    fn cache_bytes_per_token(&self, slot: Slot) -> usize {
        let live = self.live.get(&slot);
        live.map_or(0, |live| live.cache.bytes_per_token())
    }

    fn open(&mut self) -> Result<Slot> {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        let live = Live::new(self.model.new_cache());
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
        let live = self.live(slot)?;
        live.history = History::new(sampling, prompt);
        live.sampling = sampling.clone();
        live.seed = seed;
        live.previous = None;
        Ok(())
    }

    fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize> {
        if !self.reaches(slot, length) {
            self.retire(slot);
        }
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
            Err(super::some_not_open())
        };
        self.live.extend(slots.into_iter().zip(live));
        self.queued.push_back(step?);
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<Outcome>> {
        let queued = self.queued.pop_front().ok_or_else(super::nothing_queued)?;
        eval(&queued.state)?;
        let tokens = read_all(&queued.chosen)?.into_iter();
        let outcomes = tokens.map(|(slot, token)| Outcome {
            slot,
            is_broken: token.is_none(),
            token,
            read: None,
        });
        let mut outcomes: Vec<Outcome> = outcomes.collect();
        for (slot, reader) in queued.readings {
            let read = reader.read()?;
            let found = outcomes.iter().position(|found| found.slot == slot);
            let index = found.unwrap_or_else(|| {
                let outcome = Outcome {
                    slot,
                    ..Outcome::default()
                };
                outcomes.push(outcome);
                outcomes.len() - 1
            });
            outcomes[index].is_broken |= read.is_none();
            outcomes[index].read = read;
        }
        self.steps += 1;
        if queued.has_prompt || self.steps.is_multiple_of(STEPS_PER_CLEARING) {
            memory::clear_pool()?;
        }
        Ok(outcomes)
    }

    fn close(&mut self, slot: Slot) {
        self.retire(slot);
        self.live.remove(&slot);
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.peers.clone()
    }
}

impl Restorable for DeviceStepper {
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

    fn copy_bytes(&self, tokens: usize) -> usize {
        self.expected_bytes(tokens)
    }

    fn checkpoint_bytes(&self) -> usize {
        self.empty.checkpoint_bytes()
    }

    fn used(&self) -> usize {
        // As long as not all weights have been used, this is less than the truth.
        let active = memory::usage().map_or(0, |usage| usage.active);
        active.saturating_sub(self.budget.weights)
    }

    fn room(&self) -> usize {
        self.budget.room(PREFILL_CHUNK)
    }

    fn offload_room(&self) -> usize {
        self.budget.offload
    }

    fn offloaded(&self) -> usize {
        held()
    }

    fn offload_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Rows> {
        let rows = self.live(slot)?.cache.offload_rows(range)?;
        // What it went through is memory of the host, of no use to steps.
        memory::clear_pool()?;
        Ok(rows)
    }

    fn offload(&mut self, rows: &Rows) -> Result<Rows> {
        let copy = rows.offload()?;
        memory::clear_pool()?;
        Ok(copy)
    }

    fn offload_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<Checkpoint> {
        checkpoint.offload()
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
        self.retire(slot);
        let live = self.live(slot)?;
        live.captured.clear();
        let restored = live.cache.restore(kept, rows, checkpoint, length);
        if !rows.is_empty() {
            memory::clear_pool()?;
        }
        self.kept.discard_damaged(restored)
    }
}

impl Drop for DeviceStepper {
    /// The last step of an ended sequence is often still under way, one ahead. MLX's streams belong
    /// to the engine's thread and its allocator to the process: neither may end before the work.
    fn drop(&mut self) {
        // An error of work that nobody waits for concerns nobody.
        drop(synchronize());
    }
}
