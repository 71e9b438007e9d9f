//! A stepper without a model, for tests: computes by a rule, and panics where it is misused.

mod copies;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cache::trie::Checkpoint;
use crate::engine::request::{Logprobs, Read, Token};
use crate::engine::stepper::{Input, Outcome, Reading, Restorable, Slot, Stepper, Stored, Work};
use crate::error::{Error, Result};
use crate::sample::Sampling;
use copies::{CHECKPOINT_BYTES, FakeCheckpoint, FakeRows, Held};

/// What a rule gives for logits that are not finite numbers.
pub(super) const NOT_FINITE: u32 = u32::MAX;

/// The next token after all tokens of a sequence, for a seed.
pub(super) type Rule = Box<dyn Fn(&[u32], u64) -> u32 + Send>;

/// A sequence as the fake holds it.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) tokens: Vec<u32>,
    prompt: Vec<u32>,
    seed: u64,
    /// Those that were asked for, and not taken.
    captured: Vec<FakeCheckpoint>,
    /// The token sampled last, and the number of the step that did it.
    sampled: Option<(usize, u32)>,
    /// A failed step has touched it.
    undefined: bool,
    /// Counts openings, since slot numbers come back.
    opening: usize,
}

/// A step that is not collected.
pub(super) struct Queued {
    number: usize,
    /// The slots, each with its opening.
    slots: Vec<(Slot, usize)>,
    outcomes: Vec<Outcome>,
}

/// How far a sequence can be cut back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewinds {
    Anywhere,
    /// As long as everything within so many positions is there: the others are gone.
    Window(usize),
    /// Only to where the sequence is.
    Nowhere,
}

impl Rewinds {
    /// Whether a state after so many tokens gives that after fewer, or as many.
    fn reaches(self, from: usize, to: usize) -> bool {
        match self {
            Self::Anywhere => to <= from,
            Self::Window(window) => to == from || to < from && from < window,
            Self::Nowhere => to == from,
        }
    }
}

pub(super) struct Fake {
    pub(super) context: usize,
    pub(super) chunk: usize,
    pub(super) rewinds: Rewinds,
    /// Steps, counted from 0, that fail when queued.
    pub(super) fail_steps: Vec<usize>,
    /// Steps that fail when collected.
    pub(super) fail_collects: Vec<usize>,
    /// A step that panics.
    pub(super) panic_step: Option<usize>,
    /// A step that gives no token, without an error.
    pub(super) mute_step: Option<usize>,
    /// Whether nothing can be copied.
    pub(super) fail_copies: bool,
    /// Whether no sequence can be opened.
    pub(super) full: bool,
    /// Memory for all tokens and copies: one byte a token.
    pub(super) room: usize,
    /// What copies take.
    pub(super) copies: Arc<AtomicUsize>,
    /// Memory for what is offloaded.
    pub(super) offload_room: usize,
    /// What that takes.
    pub(super) offloaded: Arc<AtomicUsize>,
    /// Every step that was asked for.
    pub(super) steps: Vec<Vec<Work>>,
    pub(super) slots: BTreeMap<Slot, Cache>,
    pub(super) queued: VecDeque<Queued>,
    pub(super) rule: Rule,
    pub(super) openings: usize,
    /// Whether state is stored, and what was.
    pub(super) stores: bool,
    pub(super) stored: Vec<Stored<FakeRows, FakeCheckpoint>>,
}

impl Fake {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            context: 64,
            chunk: 8,
            rewinds: Rewinds::Anywhere,
            fail_steps: Vec::new(),
            fail_collects: Vec::new(),
            panic_step: None,
            mute_step: None,
            fail_copies: false,
            full: false,
            room: 1 << 20,
            copies: Arc::default(),
            offload_room: 0,
            offloaded: Arc::default(),
            steps: Vec::new(),
            slots: BTreeMap::new(),
            queued: VecDeque::new(),
            rule,
            openings: 0,
            stores: false,
            stored: Vec::new(),
        }
    }

    fn slot(&mut self, slot: Slot) -> &mut Cache {
        let cache = self.slots.get_mut(&slot).expect("the slot is open");
        assert!(!cache.undefined, "{slot:?} is in an undefined state");
        cache
    }

    /// Of what is offloaded, and of the other copies.
    fn counters(&self) -> [Arc<AtomicUsize>; 2] {
        [Arc::clone(&self.offloaded), Arc::clone(&self.copies)]
    }

    fn part(&mut self, number: usize, work: &Work) -> Option<Outcome> {
        let (context, rewinds) = (self.context, self.rewinds);
        let counters = self.counters();
        let unread: Vec<usize> = self.queued.iter().map(|step| step.number).collect();
        let cache = self.slot(work.slot);
        let answering = cache.tokens.len() >= cache.prompt.len();
        match &work.input {
            Input::Tokens(tokens) => {
                assert!(!tokens.is_empty(), "a part has tokens");
                assert!(!answering, "an answer's tokens come from the step before");
                cache.tokens.extend(tokens);
                assert!(
                    cache.prompt.starts_with(&cache.tokens),
                    "the prompt as announced"
                );
                let first = cache.tokens.len() - tokens.len() + 1;
                for &position in &work.captures {
                    let is_inside = (first..=cache.tokens.len()).contains(&position);
                    assert!(is_inside, "a capture is inside its part");
                    let tokens = cache.tokens[..position].to_vec();
                    let [offloaded, resident] = &counters;
                    cache.captured.push(FakeCheckpoint {
                        rewinds,
                        tokens,
                        offloaded: Held::new(offloaded, 0),
                        resident: Held::new(resident, CHECKPOINT_BYTES),
                    });
                }
            }
            Input::Previous => {
                let (step, token) = cache.sampled.expect("a token was sampled before");
                let is_read = !unread.contains(&step);
                assert!(
                    is_read || step + 1 == number,
                    "the token was sampled in the step before, or is read"
                );
                assert!(
                    is_read || work.mask.is_none(),
                    "what may come depends on all that came"
                );
                cache.tokens.push(token);
            }
        }
        assert!(cache.tokens.len() <= context, "within the context");
        let read = work.reading.as_ref().map(|reading| match reading {
            Reading::Scores { next, .. } => {
                Read::Scores(next.iter().map(|&id| score(id)).collect())
            }
            Reading::State => Read::State(cache.tokens.iter().map(|&id| id as f32).collect()),
        });
        if !work.sample {
            return read.is_some().then_some(Outcome {
                slot: work.slot,
                read,
                ..Outcome::default()
            });
        }
        assert!(
            cache.tokens.len() >= cache.prompt.len(),
            "no token is sampled inside the prompt"
        );
        let (tokens, seed) = (cache.tokens.clone(), cache.seed);
        let mut token = (self.rule)(&tokens, seed);
        if let Some(mask) = &work.mask
            && !mask.contains(token)
            && token != NOT_FINITE
        {
            let next = mask.ids().find(|id| *id > token);
            token = next.or(mask.ids().next()).expect("a mask has tokens");
        }
        self.slot(work.slot).sampled = Some((number, token));
        Some(Outcome {
            slot: work.slot,
            token: Some(Token {
                id: token,
                logprobs: None,
            }),
            read,
            is_broken: token == NOT_FINITE,
        })
    }
}

/// How likely the fake takes a token to be.
pub(super) fn score(id: u32) -> Logprobs {
    Logprobs {
        chosen: -(id as f32),
        top: Vec::new(),
    }
}

impl Stepper for Fake {
    fn steps_ahead(&self) -> usize {
        1
    }

    fn context(&self) -> usize {
        self.context
    }

    fn cache_bytes_per_token(&self, _: Slot) -> usize {
        0
    }

    fn prefill_chunk(&self) -> usize {
        self.chunk
    }

    fn open(&mut self) -> Result<Slot> {
        if self.full {
            return Err(Error::Mlx("no room".to_owned()));
        }
        // The lowest free number, so that numbers come back.
        let slot = Slot(
            self.slots
                .keys()
                .zip(0..)
                .take_while(|(slot, free)| slot.0 == *free)
                .count(),
        );
        self.openings += 1;
        self.slots.insert(
            slot,
            Cache {
                opening: self.openings,
                ..Cache::default()
            },
        );
        Ok(slot)
    }

    fn sampling(&mut self, slot: Slot, _: &Sampling, seed: u64, prompt: &[u32]) -> Result<()> {
        let cache = self.slot(slot);
        assert!(
            prompt.starts_with(&cache.tokens),
            "the cache holds a start of the prompt"
        );
        assert!(
            cache.tokens.len() < prompt.len(),
            "one token is left to compute"
        );
        (cache.prompt, cache.seed) = (prompt.to_vec(), seed);
        Ok(())
    }

    fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize> {
        let rewinds = self.rewinds;
        let cache = self.slot(slot);
        assert!(length <= cache.tokens.len(), "a rewind goes back");
        cache.tokens.truncate(match rewinds {
            _ if rewinds.reaches(cache.tokens.len(), length) => length,
            _ => 0,
        });
        cache.sampled = None;
        Ok(cache.tokens.len())
    }

    fn step(&mut self, work: &[Work]) -> Result<()> {
        let number = self.steps.len();
        self.steps.push(work.to_vec());
        assert!(!work.is_empty(), "a step has work");
        assert!(self.queued.len() <= 1, "one step ahead");
        let prompts = work.iter().map(|work| match &work.input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Previous => 0,
        });
        assert!(
            prompts.sum::<usize>() <= self.chunk,
            "prompts keep to the chunk"
        );
        assert_ne!(self.panic_step, Some(number), "told to panic");
        let slots = work
            .iter()
            .map(|work| (work.slot, self.slot(work.slot).opening))
            .collect();
        if self.fail_steps.contains(&number) {
            for work in work {
                self.slot(work.slot).undefined = true;
            }
            return Err(Error::Mlx(format!("step {number} failed")));
        }
        let outcomes = work
            .iter()
            .filter_map(|work| self.part(number, work))
            .collect();
        self.queued.push_back(Queued {
            number,
            slots,
            outcomes,
        });
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<Outcome>> {
        let Queued {
            number,
            slots,
            outcomes,
        } = self.queued.pop_front().expect("a queued step");
        if self.mute_step == Some(number) {
            return Ok(Vec::new());
        }
        if !self.fail_collects.contains(&number) {
            return Ok(outcomes);
        }
        for (slot, opening) in slots {
            if let Some(cache) = self
                .slots
                .get_mut(&slot)
                .filter(|held| held.opening == opening)
            {
                cache.undefined = true;
            }
        }
        Err(Error::Mlx(format!("collecting step {number} failed")))
    }

    fn close(&mut self, slot: Slot) {
        self.slots.remove(&slot).expect("an open slot is closed");
    }
}

impl Restorable for Fake {
    type Rows = FakeRows;
    type Checkpoint = FakeCheckpoint;

    fn needs_checkpoints(&self) -> bool {
        self.rewinds != Rewinds::Anywhere
    }

    fn reaches(&self, slot: Slot, length: usize) -> bool {
        self.rewinds.reaches(self.slots[&slot].tokens.len(), length)
    }

    fn bytes(&self, slot: Slot) -> usize {
        self.slots[&slot].tokens.len()
    }

    fn expected_bytes(&self, tokens: usize) -> usize {
        tokens
    }

    fn copy_bytes(&self, tokens: usize) -> usize {
        tokens
    }

    fn checkpoint_bytes(&self) -> usize {
        CHECKPOINT_BYTES
    }

    fn used(&self) -> usize {
        let caches = self.slots.values().map(|cache| cache.tokens.len());
        caches.sum::<usize>() + self.copies.load(Ordering::Relaxed)
    }

    fn room(&self) -> usize {
        self.room
    }

    fn offload_room(&self) -> usize {
        self.offload_room
    }

    fn offloaded(&self) -> usize {
        self.offloaded.load(Ordering::Relaxed)
    }

    fn offload_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<FakeRows> {
        let rows = self.copy_rows(slot, range)?;
        Ok(rows.with(rows.tokens.len(), 0))
    }

    fn offload(&mut self, rows: &FakeRows) -> Result<FakeRows> {
        if self.fail_copies {
            return Err(Error::Mlx("no room for a copy".to_owned()));
        }
        Ok(rows.moved())
    }

    fn offload_checkpoint(&mut self, checkpoint: &FakeCheckpoint) -> Result<FakeCheckpoint> {
        Ok(checkpoint.moved())
    }

    fn stored(&mut self) -> Vec<Stored<FakeRows, FakeCheckpoint>> {
        std::mem::take(&mut self.stored)
    }

    fn stores(&self) -> bool {
        self.stores
    }

    fn store(
        &mut self,
        tokens: &[u32],
        rows: &FakeRows,
        checkpoint: Option<&FakeCheckpoint>,
    ) -> Option<Stored<FakeRows, FakeCheckpoint>> {
        assert_eq!(
            tokens[rows.start..],
            rows.tokens,
            "rows end with the tokens"
        );
        assert!(checkpoint.is_none_or(|checkpoint| checkpoint.tokens == tokens));
        let stored = Stored {
            tokens: tokens.to_vec(),
            start: rows.start,
            rows: rows.with(0, 0),
            checkpoint: checkpoint.map(|saved| saved.with(0, 0)),
        };
        self.stored.push(stored.clone());
        Some(stored)
    }

    fn settle(&mut self, slot: Slot) -> Result<usize> {
        Ok(self.slot(slot).tokens.len())
    }

    fn copy_rows(&mut self, slot: Slot, range: Range<usize>) -> Result<FakeRows> {
        if self.fail_copies {
            return Err(Error::Mlx("no room for a copy".to_owned()));
        }
        Ok(FakeRows {
            start: range.start,
            offloaded: Held::new(&self.offloaded, 0),
            resident: Held::new(&self.copies, range.len()),
            tokens: self.slot(slot).tokens[range].to_vec(),
        })
    }

    fn checkpoint(&mut self, slot: Slot) -> Result<FakeCheckpoint> {
        let rewinds = self.rewinds;
        let tokens = self.slot(slot).tokens.clone();
        Ok(FakeCheckpoint {
            rewinds,
            tokens,
            offloaded: Held::new(&self.offloaded, 0),
            resident: Held::new(&self.copies, CHECKPOINT_BYTES),
        })
    }

    fn captured(&mut self, slot: Slot, until: usize) -> Vec<(usize, FakeCheckpoint)> {
        let captured = &mut self.slot(slot).captured;
        let later = captured.partition_point(|checkpoint| checkpoint.tokens.len() <= until);
        let taken = captured.drain(..later);
        taken
            .map(|checkpoint| (checkpoint.tokens.len(), checkpoint))
            .collect()
    }

    fn restore(
        &mut self,
        slot: Slot,
        kept: usize,
        rows: &[&FakeRows],
        checkpoint: Option<&FakeCheckpoint>,
        length: usize,
    ) -> Result<()> {
        let rewinds = self.rewinds;
        let cache = self.slot(slot);
        let reaches = kept == length && rewinds.reaches(cache.tokens.len(), length);
        cache.tokens.truncate(kept);
        assert_eq!(cache.tokens.len(), kept, "what is kept is held");
        for rows in rows {
            let held = cache.tokens.len();
            assert!(rows.start <= held, "rows follow each other");
            let new = rows.tokens.iter().skip(held - rows.start);
            cache.tokens.extend(new);
        }
        assert!(cache.tokens.len() >= length, "rows for everything");
        cache.tokens.truncate(length);
        if !reaches && rewinds != Rewinds::Anywhere {
            let checkpoint = checkpoint.expect("a checkpoint where one is needed");
            assert!(checkpoint.restores(length), "a checkpoint that restores");
            assert_eq!(
                checkpoint.tokens[..length],
                cache.tokens,
                "it is that of these tokens"
            );
        }
        cache.captured.clear();
        cache.sampled = None;
        Ok(())
    }
}

/// A rule that looks at everything: small letters, halves of characters, now and then an end.
pub(super) fn any_token(tokens: &[u32], seed: u64) -> u32 {
    let mut hasher = DefaultHasher::new();
    (tokens, seed).hash(&mut hasher);
    match hasher.finish() % 32 {
        0 => 2,
        1..=3 => 130,
        4..=6 => 105,
        letter => letter as u32 % 6 + 67,
    }
}
