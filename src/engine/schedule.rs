//! Builds steps from everything that is live and hands their results out. Knows no threads.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::engine::figures::Figures;
use crate::engine::prefixes::{Placed, Prefixes};
use crate::engine::request::{Event, Finish, Request, Timings, Usage};
use crate::engine::sequence::{Part, Sequence, Submission};
use crate::engine::stepper::{Outcome, Restorable, Slot, Work};
use crate::engine::together::Together;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// While answers grow, a step takes this part of the tokens of prompts that it would take else: whoever reads an
/// answer waits for the whole step.
const SHARED_PART: usize = 4;

/// Tokens of an answer without a limit for which memory is promised ahead.
const TOKENS_AHEAD: usize = 256;

/// Tokens of a prompt for which it waits for another one that computes them.
const LEAST_SHARED: usize = 64;

/// Every request that the engine has, from submission to its end.
pub(super) struct Scheduler<S: Restorable> {
    stepper: S,
    tokenizer: Arc<Tokenizer>,
    /// Without a slot, oldest first.
    waiting: VecDeque<Submission>,
    /// With a slot, oldest first.
    live: Vec<Sequence>,
    /// What is kept of ended ones.
    prefixes: Prefixes<S::Rows, S::Checkpoint>,
    /// Steps queued and not collected, oldest first.
    queued: VecDeque<Vec<Part>>,
    next_id: u64,
}

impl<S: Restorable> Scheduler<S> {
    /// Knows of no request, and of all prefixes that are stored.
    pub(super) fn new(mut stepper: S, tokenizer: Arc<Tokenizer>) -> Self {
        let mut prefixes = Prefixes::new();
        prefixes.load(&mut stepper);
        Self {
            stepper,
            tokenizer,
            waiting: VecDeque::new(),
            live: Vec::new(),
            prefixes,
            queued: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Those who compute together with this process, if there are several.
    pub(super) fn together(&self) -> Option<Together> {
        let peers = self.stepper.peers()?;
        Some(Together::new(peers, Arc::clone(&self.tokenizer)))
    }

    /// Takes a request in; it joins the next step that has room for its prompt.
    pub(super) fn submit(&mut self, submission: Submission) {
        self.waiting.push_back(submission);
        // What it shares with a live prompt is captured there while that is still to come.
        self.waits_for_prefix(self.waiting.len() - 1);
    }

    /// Whether a turn would do anything.
    pub(super) fn has_work(&self) -> bool {
        !(self.waiting.is_empty() && self.live.is_empty() && self.queued.is_empty())
    }

    /// Queues one step of everything live, then collects those before it that are not to be under way
    /// meanwhile. Where there is nothing to queue, collects what is left.
    pub(super) fn turn(&mut self) {
        let is_shared = self.live.iter().any(Sequence::is_answering);
        let parts = if is_shared { SHARED_PART } else { 1 };
        let chunk = (self.stepper.prefill_chunk() / parts).max(1);
        self.dismiss();
        self.admit(chunk);
        let (work, parts) = self.plan(chunk);
        // What comes next along a constraint depends on what came last: then nothing is ahead, lest such answers
        // take part in every second step alone.
        let is_guided = self.live.iter().any(Sequence::is_guided);
        let ahead = match self.stepper.steps_ahead() {
            _ if work.is_empty() || is_guided => 0,
            ahead => ahead,
        };
        if !work.is_empty() {
            match self.stepper.step(&work) {
                Ok(()) => self.queued.push_back(parts),
                Err(error) => self.fail(&parts, &error),
            }
        }
        while self.queued.len() > ahead
            && let Some(parts) = self.queued.pop_front()
        {
            self.collect(parts);
        }
    }

    /// What there is.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            live: self.live.iter().map(Sequence::figures).collect(),
            waiting: self.waiting.len(),
            used: self.stepper.used(),
            room: self.stepper.room(),
            offloaded: self.stepper.offloaded(),
            offload_room: self.stepper.offload_room(),
            prefixes: self.prefixes.figures(),
        }
    }

    /// Ends everything with an error.
    pub(super) fn stop(self, why: &str) {
        let stopped = || Error::EngineStopped(why.to_owned());
        for sequence in self.live {
            sequence.failed(stopped());
        }
        for submission in self.waiting {
            submission.outlet.end(Event::Failed(stopped()));
        }
    }

    /// Lets waiting requests go that nobody wants any more.
    fn dismiss(&mut self) {
        for index in (0..self.waiting.len()).rev() {
            if self.waiting[index].outlet.tell(Event::Waiting).is_break()
                && let Some(submission) = self.waiting.remove(index)
            {
                submission.outlet.end(Event::Done {
                    finish: Finish::Cancelled,
                    usage: Usage::default(),
                    timings: Timings::default(),
                });
            }
        }
    }

    /// Gives slots to waiting requests while the next step has room for prompt tokens, and memory for their
    /// state.
    fn admit(&mut self, chunk: usize) {
        let unqueued =
            |live: &[Sequence]| live.iter().map(Sequence::unqueued_prompt).sum::<usize>();
        while unqueued(&self.live) < chunk
            && let Some(index) = self.next_waiting()
            && let Some(submission) = self.waiting.remove(index)
        {
            let tokens = promised_tokens(&submission.request, self.stepper.context());
            let needs = self.stepper.expected_bytes(tokens);
            let room = self.stepper.room();
            if needs > room {
                let kept = self.prefixes.kept_bytes(&self.stepper).min(room);
                let error = Error::Memory { needs, room, kept };
                submission.outlet.end(Event::Failed(error));
                continue;
            }
            if !self.prefixes.fits(&self.stepper, needs) {
                // Until others have ended.
                self.waiting.insert(index, submission);
                return;
            }
            let seed = submission.request.sampling.seed.unwrap_or_else(fresh_seed);
            let place = match self.place(&submission.request, seed, needs) {
                Ok(place) => place,
                Err(error) => {
                    submission.outlet.end(Event::Failed(error));
                    continue;
                }
            };
            let id = self.next_id;
            self.next_id += 1;
            let (tokenizer, context) = (Arc::clone(&self.tokenizer), self.stepper.context());
            let mut sequence = Sequence::new(id, place, submission, tokenizer, context, tokens);
            match sequence.start(seed) {
                ControlFlow::Continue(()) => {
                    self.live.push(sequence);
                    for index in 0..self.waiting.len() {
                        self.waits_for_prefix(index);
                    }
                }
                ControlFlow::Break(finish) => self.retire(sequence, finish),
            }
        }
    }

    /// The oldest request that need not wait for what a live one is about to compute.
    fn next_waiting(&mut self) -> Option<usize> {
        (0..self.waiting.len()).find(|&index| !self.waits_for_prefix(index))
    }

    /// Whether a live sequence is about to compute much of what a waiting prompt begins with: it is then taken
    /// over, and not computed twice.
    fn waits_for_prefix(&mut self, index: usize) -> bool {
        let request = &self.waiting[index].request;
        if request.reads_all() {
            return false;
        }
        let prompt = &request.tokens;
        let mut restorable = None;
        for sequence in &mut self.live {
            let evaluated = sequence.evaluated_prompt();
            // One token is always computed.
            let shared = sequence.shared(prompt).min(prompt.len().saturating_sub(1));
            if shared <= evaluated {
                continue;
            }
            let (stepper, prefixes) = (&self.stepper, &mut self.prefixes);
            let known = *restorable.get_or_insert_with(|| prefixes.restorable(stepper, prompt));
            let worthwhile = known + LEAST_SHARED;
            let slot = sequence.slot();
            let will_restore = |prefixes: &Prefixes<_, _>| {
                let reached = prefixes.will_restore(stepper, slot, shared);
                reached > evaluated && reached >= worthwhile
            };
            if will_restore(prefixes) {
                return true;
            }
            // Layers that cannot go back: their state is captured where the two prompts part.
            if shared >= worthwhile
                && sequence.is_before(shared)
                && prefixes.capture(stepper, slot, shared)
            {
                sequence.capture(shared);
                return true;
            }
        }
        false
    }

    /// A slot for a request, which samples as it says.
    fn place(&mut self, request: &Request, seed: u64, needs: usize) -> Result<Placed> {
        let placed = self.prefixes.place(&mut self.stepper, request, needs)?;
        let slot = placed.slot;
        let ready = self
            .stepper
            .sampling(slot, &request.sampling, seed, &request.tokens);
        if let Err(error) = ready {
            self.prefixes.close(&mut self.stepper, slot);
            return Err(error);
        }
        Ok(placed)
    }

    /// Every live sequence's part in the next step, prompts up to `chunk` tokens in all.
    fn plan(&mut self, chunk: usize) -> (Vec<Work>, Vec<Part>) {
        let mut room = chunk;
        let (stepper, prefixes) = (&mut self.stepper, &mut self.prefixes);
        let parts = self.live.iter_mut().filter_map(|sequence| {
            if let Some(tokens) = sequence.wants(TOKENS_AHEAD) {
                let bytes = stepper.expected_bytes(tokens);
                if prefixes.extend(stepper, sequence.slot(), bytes) {
                    sequence.grant(tokens);
                } else {
                    sequence.stop_at_next();
                }
            }
            let before = sequence.unqueued_prompt();
            let work = sequence.work(room)?;
            room -= before - sequence.unqueued_prompt();
            Some(work)
        });
        parts.unzip()
    }

    /// Reads the oldest queued step's tokens. Those of sequences that have ended are dropped.
    fn collect(&mut self, parts: Vec<Part>) {
        let mut outcomes = match self.stepper.collect() {
            Ok(outcomes) => outcomes,
            Err(error) => return self.fail(&parts, &error),
        };
        for part in parts {
            let found = outcomes.iter().position(|found| found.slot == part.slot);
            let found = found.map(|index| outcomes.swap_remove(index));
            let Outcome {
                token,
                read,
                is_broken,
                ..
            } = found.unwrap_or_default();
            let Some(index) = self.live.iter().position(|live| live.id() == part.id) else {
                continue;
            };
            if is_broken {
                self.fail(&[part], &Error::NotFinite);
                continue;
            }
            if part.sampled && token.is_none() {
                let missing = Error::Mlx("a step gave no token where one was asked for".to_owned());
                self.fail(&[part], &missing);
                continue;
            }
            if let Some(done) = part.prefilled {
                let tokens = self.live[index].prompt(done);
                self.prefixes.advance(&mut self.stepper, part.slot, tokens);
            }
            match self.live[index].advance(&part, read.as_ref(), token) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(finish)) => {
                    let sequence = self.live.remove(index);
                    self.retire(sequence, finish);
                }
                Err(error) => self.fail(&[part], &error),
            }
        }
    }

    /// Ends a sequence that is in good order; its slot may serve a later one.
    fn retire(&mut self, sequence: Sequence, finish: Finish) {
        let (slot, tokens) = sequence.done(finish);
        self.prefixes.retire(&mut self.stepper, slot, &tokens);
    }

    /// Ends whatever a failed step has touched.
    fn fail(&mut self, parts: &[Part], error: &Error) {
        let touched = |slot: Slot| parts.iter().any(|part| part.slot == slot);
        for sequence in self
            .live
            .extract_if(.., |sequence| touched(sequence.slot()))
        {
            let slot = sequence.failed(again(error));
            self.prefixes.close(&mut self.stepper, slot);
        }
        for part in parts {
            if self.prefixes.is_idle(part.slot) {
                self.prefixes.close(&mut self.stepper, part.slot);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn stepper_mut(&mut self) -> &mut S {
        &mut self.stepper
    }

    /// What the tests look into.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (&S, &[Sequence], &Prefixes<S::Rows, S::Checkpoint>) {
        (&self.stepper, &self.live, &self.prefixes)
    }
}

/// Tokens for whose state memory is promised before a request gets a slot: all that it asks for, and of an
/// answer without a limit the beginning.
fn promised_tokens(request: &Request, context: usize) -> usize {
    let prompt = request.tokens.len();
    let room = request.context.unwrap_or(context).saturating_sub(prompt);
    prompt + request.limit.unwrap_or(TOKENS_AHEAD).min(room)
}

/// The same error for one more request.
fn again(error: &Error) -> Error {
    match error {
        Error::NotFinite => Error::NotFinite,
        Error::Mlx(message) => Error::Mlx(message.clone()),
        Error::Request { field, problem } => Error::Request {
            field,
            problem: problem.clone(),
        },
        other => Error::Mlx(other.to_string()),
    }
}

/// A seed nobody can guess: the standard library keys each hasher from the system's randomness.
///
/// 53 bits: what a reader of JSON that keeps numbers as doubles can say back to us.
pub(super) fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 11
}
