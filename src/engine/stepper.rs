//! What the engine asks of whoever computes: the one door between the engine and MLX.

use std::ops::Range;
use std::sync::Arc;

use crate::cache::trie::{Checkpoint, Rows};
use crate::engine::request::{Read, Token};
use crate::engine::together::Peers;
use crate::error::Result;
use crate::sample::{Mask, Sampling};

/// A sequence that has a cache, from [`Stepper::open`] to [`Stepper::close`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// The tokens that one sequence contributes to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Tokens known to the host: a piece of a prompt.
    Tokens(Vec<u32>),
    /// The token that was sampled for this slot last: in the step before, and not yet read by the host, or
    /// earlier.
    Previous,
}

/// One sequence's part in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Whose.
    pub slot: Slot,
    /// What is appended to it.
    pub input: Input,
    /// Whether the next token is to be sampled after it.
    pub sample: bool,
    /// The tokens among which it is; `None` is all.
    pub mask: Option<Arc<Mask>>,
    /// What is to be read of the tokens.
    pub reading: Option<Reading>,
    /// Numbers of tokens, ascending, after which a [`Restorable::Checkpoint`] is to be kept.
    pub captures: Vec<usize>,
}

/// What is read of the tokens that one sequence contributes to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// How likely was what came after them.
    Scores {
        /// The token after each one, but for the last where that ends the prompt.
        next: Vec<u32>,
        /// How many of the likeliest tokens are told of beside each one.
        top: usize,
    },
    /// The state after the last one.
    State,
}

/// What a step gave one sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Whose.
    pub slot: Slot,
    /// The token, where one was to be sampled.
    pub token: Option<Token>,
    /// What was to be read.
    pub read: Option<Read>,
    /// Logits were not finite numbers: all else means nothing, and that sequence alone ends.
    pub is_broken: bool,
}

/// Computes steps over several sequences. Lives on the engine's thread and is made there.
///
/// Where [`Stepper::steps_ahead`] says so, steps are queued: [`Stepper::step`] may return before anything is computed, and
/// [`Stepper::collect`] waits for the oldest step not yet collected, so that the engine can queue
/// step n+1 before it reads the tokens of step n. Calls take effect in the order in which they are
/// made: a slot may be rewound or closed while a step that works on it is not collected, and what
/// that step samples for it is then of no interest.
pub trait Stepper {
    /// Tokens that a sequence of this model may hold.
    fn context(&self) -> usize;

    /// Tokens of prompts that one step should take at most, in all.
    fn prefill_chunk(&self) -> usize;

    /// Steps that may be queued and not collected while the next one is built: 0 where nothing is won by it.
    fn steps_ahead(&self) -> usize;

    /// Bytes that the cache of `slot` holds for each of its tokens; 0 for an empty one.
    fn cache_bytes_per_token(&self, slot: Slot) -> usize;

    /// A new, empty sequence.
    fn open(&mut self) -> Result<Slot>;

    /// Sets how tokens are chosen for `slot` from now on. `prompt` is the whole prompt, cached
    /// part included: penalties look back into it.
    fn sampling(
        &mut self,
        slot: Slot,
        sampling: &Sampling,
        seed: u64,
        prompt: &[u32],
    ) -> Result<()>;

    /// Cuts a sequence back to at most `length` tokens; says how many remain (a cache that cannot
    /// stop there keeps fewer, possibly none).
    fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize>;

    /// Queues one step. An error concerns every sequence in `work`: their state is then undefined
    /// and they must be closed; other sequences are untouched.
    fn step(&mut self, work: &[Work]) -> Result<()>;

    /// What the oldest step not collected gave, in the order of its `work`, to those that asked to sample or
    /// to read. An error concerns every sequence in that `work`, as one of
    /// [`Stepper::step`] does.
    fn collect(&mut self) -> Result<Vec<Outcome>>;

    /// Ends a sequence and frees its cache.
    fn close(&mut self, slot: Slot);

    /// The processes that compute every step together with this one, if there are several: all must be told the same.
    fn peers(&self) -> Option<Arc<dyn Peers>> {
        None
    }
}

/// State that was stored by this process or another one.
#[derive(Debug, Clone)]
pub struct Stored<R, C> {
    /// All tokens from the beginning.
    pub tokens: Vec<u32>,
    /// Of these, the first whose keys and values are not among `rows`.
    pub start: usize,
    /// Keys and values of the others.
    pub rows: R,
    /// The state of the other layers after all of them.
    pub checkpoint: Option<C>,
}

/// A stepper whose sequences' states can be copied, and put back.
pub trait Restorable: Stepper {
    /// A copy of keys and values.
    type Rows: Rows;

    /// A copy of the state of layers that cannot go back.
    type Checkpoint: Checkpoint;

    /// Whether there are such layers.
    fn needs_checkpoints(&self) -> bool;

    /// Whether a sequence can be cut back to `length` tokens as it is.
    fn reaches(&self, slot: Slot, length: usize) -> bool;

    /// Memory that a sequence's state takes, what it shares with others included.
    fn bytes(&self, slot: Slot) -> usize;

    /// Memory that the state of so many tokens takes at most, that of an answer under way included.
    fn expected_bytes(&self, tokens: usize) -> usize;

    /// Memory that a copy of the state of so many tokens takes beside the state itself, at most.
    fn copy_bytes(&self, tokens: usize) -> usize;

    /// Memory that a checkpoint takes at most.
    fn checkpoint_bytes(&self) -> usize;

    /// Memory that the states of all sequences and all copies take now.
    fn used(&self) -> usize;

    /// Memory that they may take: what is left of the budget when weights and the work of a step have theirs.
    fn room(&self) -> usize;

    /// Memory elsewhere that copies may take, beside [`Self::room`]: that of the host, where a device computes. 0
    /// where there is none, and nothing is offloaded.
    fn offload_room(&self) -> usize;

    /// Memory that copies take there now.
    fn offloaded(&self) -> usize;

    /// Copies keys and values of a run of positions that a sequence holds to there.
    fn offload_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Self::Rows>;

    /// A copy of copied keys and values there.
    fn offload(&mut self, rows: &Self::Rows) -> Result<Self::Rows>;

    /// A copy of the state of the other layers there.
    fn offload_checkpoint(&mut self, checkpoint: &Self::Checkpoint) -> Result<Self::Checkpoint>;

    /// Everything that is stored for this model where it outlives the process, what others go on from first.
    fn stored(&mut self) -> Vec<Stored<Self::Rows, Self::Checkpoint>>;

    /// Whether state is stored where it outlives the process.
    fn stores(&self) -> bool;

    /// Stores keys and values of the last of `tokens`, and the state of the other layers after them. Gives what
    /// is then to be used in their place. That it fails is told, and of no consequence.
    fn store(
        &mut self,
        tokens: &[u32],
        rows: &Self::Rows,
        checkpoint: Option<&Self::Checkpoint>,
    ) -> Option<Stored<Self::Rows, Self::Checkpoint>>;

    /// Takes a sequence out of steps that are queued and need not be computed; says how many tokens it holds
    /// once the others are.
    fn settle(&mut self, slot: Slot) -> Result<usize>;

    /// Copies keys and values of a run of positions that a sequence holds.
    fn copy_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Self::Rows>;

    /// Copies the state of the other layers as it is now.
    fn checkpoint(&mut self, slot: Slot) -> Result<Self::Checkpoint>;

    /// The checkpoints that steps were asked to capture, up to `until` tokens, each with its number of tokens;
    /// those steps are collected.
    fn captured(&mut self, slot: Slot, until: usize) -> Vec<(usize, Self::Checkpoint)>;

    /// Makes a sequence hold `length` tokens: the first `kept` of those it holds, then those of `rows`, which
    /// follow each other and may hold more at both ends. Where there is a need for checkpoints and what is
    /// kept does not reach, `checkpoint` restores it. After an error the state is undefined.
    fn restore(
        &mut self,
        slot: Slot,
        kept: usize,
        rows: &[&Self::Rows],
        checkpoint: Option<&Self::Checkpoint>,
        length: usize,
    ) -> Result<()>;
}

impl<S: Stepper + ?Sized> Stepper for Box<S> {
    fn context(&self) -> usize {
        (**self).context()
    }

    fn prefill_chunk(&self) -> usize {
        (**self).prefill_chunk()
    }

    fn steps_ahead(&self) -> usize {
        (**self).steps_ahead()
    }

    fn cache_bytes_per_token(&self, slot: Slot) -> usize {
        (**self).cache_bytes_per_token(slot)
    }

    fn open(&mut self) -> Result<Slot> {
        (**self).open()
    }

    fn sampling(
        &mut self,
        slot: Slot,
        sampling: &Sampling,
        seed: u64,
        prompt: &[u32],
    ) -> Result<()> {
        (**self).sampling(slot, sampling, seed, prompt)
    }

    fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize> {
        (**self).rewind(slot, length)
    }

    fn step(&mut self, work: &[Work]) -> Result<()> {
        (**self).step(work)
    }

    fn collect(&mut self) -> Result<Vec<Outcome>> {
        (**self).collect()
    }

    fn close(&mut self, slot: Slot) {
        (**self).close(slot);
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        (**self).peers()
    }
}

impl<S: Restorable + ?Sized> Restorable for Box<S> {
    type Rows = S::Rows;
    type Checkpoint = S::Checkpoint;

    fn needs_checkpoints(&self) -> bool {
        (**self).needs_checkpoints()
    }

    fn reaches(&self, slot: Slot, length: usize) -> bool {
        (**self).reaches(slot, length)
    }

    fn bytes(&self, slot: Slot) -> usize {
        (**self).bytes(slot)
    }

    fn expected_bytes(&self, tokens: usize) -> usize {
        (**self).expected_bytes(tokens)
    }

    fn copy_bytes(&self, tokens: usize) -> usize {
        (**self).copy_bytes(tokens)
    }

    fn checkpoint_bytes(&self) -> usize {
        (**self).checkpoint_bytes()
    }

    fn used(&self) -> usize {
        (**self).used()
    }

    fn room(&self) -> usize {
        (**self).room()
    }

    fn offload_room(&self) -> usize {
        (**self).offload_room()
    }

    fn offloaded(&self) -> usize {
        (**self).offloaded()
    }

    fn offload_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Self::Rows> {
        (**self).offload_rows(slot, range)
    }

    fn offload(&mut self, rows: &Self::Rows) -> Result<Self::Rows> {
        (**self).offload(rows)
    }

    fn offload_checkpoint(&mut self, checkpoint: &Self::Checkpoint) -> Result<Self::Checkpoint> {
        (**self).offload_checkpoint(checkpoint)
    }

    fn stored(&mut self) -> Vec<Stored<Self::Rows, Self::Checkpoint>> {
        (**self).stored()
    }

    fn stores(&self) -> bool {
        (**self).stores()
    }

    fn store(
        &mut self,
        tokens: &[u32],
        rows: &Self::Rows,
        checkpoint: Option<&Self::Checkpoint>,
    ) -> Option<Stored<Self::Rows, Self::Checkpoint>> {
        (**self).store(tokens, rows, checkpoint)
    }

    fn settle(&mut self, slot: Slot) -> Result<usize> {
        (**self).settle(slot)
    }

    fn copy_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<Self::Rows> {
        (**self).copy_rows(slot, range)
    }

    fn checkpoint(&mut self, slot: Slot) -> Result<Self::Checkpoint> {
        (**self).checkpoint(slot)
    }

    fn captured(&mut self, slot: Slot, until: usize) -> Vec<(usize, Self::Checkpoint)> {
        (**self).captured(slot, until)
    }

    fn restore(
        &mut self,
        slot: Slot,
        kept: usize,
        rows: &[&Self::Rows],
        checkpoint: Option<&Self::Checkpoint>,
        length: usize,
    ) -> Result<()> {
        (**self).restore(slot, kept, rows, checkpoint, length)
    }
}
