//! One request that has a slot: what it still needs, and what has come of it. Knows no other.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::constraint::Guide;
use crate::engine::answer::{Answer, Piece};
use crate::engine::figures::LiveRequest;
use crate::engine::outlet::Outlet;
use crate::engine::prefixes::Placed;
use crate::engine::request::{Event, Finish, Read, Reading, Request, Timings, Token, Usage};
use crate::engine::stepper::{self, Input, Slot, Work};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// A checked request on its way in.
pub(super) struct Submission {
    pub(super) request: Request,
    pub(super) outlet: Outlet,
    pub(super) submitted: Instant,
    /// Along the request's constraint.
    pub(super) guide: Option<Box<Guide>>,
}

/// A sequence's part in a queued step.
#[derive(Debug)]
pub(super) struct Part {
    /// Of the sequence, never given twice.
    pub(super) id: u64,
    /// Its slot when the step was queued.
    pub(super) slot: Slot,
    /// Tokens of the prompt that are evaluated after this step, where it works on the prompt.
    pub(super) prefilled: Option<usize>,
    /// Whether a token is sampled.
    pub(super) sampled: bool,
}

/// A live request.
pub(super) struct Sequence {
    id: u64,
    slot: Slot,
    /// Numbers of tokens of the prompt after which checkpoints are kept.
    captures: Vec<usize>,
    outlet: Outlet,
    tokenizer: Arc<Tokenizer>,
    answer: Answer,
    guide: Option<Box<Guide>>,
    reading: Option<Reading>,
    /// The prompt, then every token sampled, read by the host.
    tokens: Vec<u32>,
    usage: Usage,
    /// Tokens that the slot holds once every queued step is done.
    queued: usize,
    /// Tokens whose sampling is queued or done.
    asked: usize,
    /// Tokens to produce at most.
    limit: usize,
    /// Tokens for whose state memory is promised.
    granted: usize,
    /// No more memory could be promised: the limit is that of memory.
    is_cut_short: bool,
    ignore_eos: bool,
    submitted: Instant,
    timings: Timings,
}

impl Sequence {
    /// A sequence that is placed, for a model that holds `context` tokens. Memory for the state of `granted` is
    /// promised.
    pub(super) fn new(
        id: u64,
        placed: Placed,
        Submission {
            request,
            outlet,
            submitted,
            guide,
        }: Submission,
        tokenizer: Arc<Tokenizer>,
        context: usize,
        granted: usize,
    ) -> Self {
        let prompt = request.tokens.len();
        let room = request.context.unwrap_or(context).saturating_sub(prompt);
        Self {
            id,
            slot: placed.slot,
            captures: placed.captures,
            outlet,
            answer: Answer::new(Arc::clone(&tokenizer), request.stop, request.special),
            tokenizer,
            guide,
            reading: request.reading,
            usage: Usage {
                prompt,
                matched: placed.matched,
                cached: placed.cached,
                ..Usage::default()
            },
            tokens: request.tokens,
            queued: placed.cached,
            asked: 0,
            limit: request.limit.unwrap_or(room).min(room),
            granted,
            is_cut_short: false,
            ignore_eos: request.ignore_eos,
            submitted,
            timings: Timings::default(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Tokens of the prompt that no step has taken.
    pub(super) fn unqueued_prompt(&self) -> usize {
        self.usage.prompt.saturating_sub(self.queued)
    }

    /// Whether all of the prompt is queued, and tokens of the answer are to come.
    pub(super) fn is_answering(&self) -> bool {
        self.unqueued_prompt() == 0 && self.asked < self.limit
    }

    /// Tokens of the prompt whose state the slot has.
    pub(super) fn evaluated_prompt(&self) -> usize {
        self.usage.cached + self.usage.evaluated
    }

    /// How many tokens of its prompt another one begins with.
    pub(super) fn shared(&self, other: &[u32]) -> usize {
        let own = &self.tokens[..self.usage.prompt];
        own.iter().zip(other).take_while(|(a, b)| a == b).count()
    }

    /// Whether no step has taken so many tokens of the prompt yet.
    pub(super) fn is_before(&self, position: usize) -> bool {
        position > self.queued
    }

    /// Keeps a checkpoint after so many tokens too, which [it is before](Self::is_before).
    pub(super) fn capture(&mut self, position: usize) {
        if let Err(place) = self.captures.binary_search(&position) {
            self.captures.insert(place, position);
        }
    }

    /// The first `count` tokens of the prompt.
    pub(super) fn prompt(&self, count: usize) -> &[u32] {
        &self.tokens[..count]
    }

    /// Tells that the request has a place.
    pub(super) fn start(&mut self, seed: u64) -> ControlFlow<Finish> {
        let Usage { prompt, cached, .. } = self.usage;
        self.tell(Event::Started {
            prompt,
            cached,
            seed,
        })
    }

    /// How far it is.
    pub(super) fn figures(&self) -> LiveRequest {
        LiveRequest {
            prompt: self.usage.prompt,
            cached: self.usage.cached,
            evaluated: self.evaluated_prompt(),
            produced: self.usage.completion,
            limit: self.limit,
            age: self.submitted.elapsed(),
        }
    }

    /// For how many tokens it wants memory to be promised, `ahead` more than it has, before its next step
    /// would be the last one that has it.
    pub(super) fn wants(&self, ahead: usize) -> Option<usize> {
        let all = self.usage.prompt + self.limit;
        let is_short = self.unqueued_prompt() == 0 && self.queued + 2 > self.granted;
        let wants = is_short && self.granted < all && !self.is_cut_short;
        wants.then(|| all.min(self.granted + ahead))
    }

    /// Memory for so many tokens is promised.
    pub(super) fn grant(&mut self, tokens: usize) {
        self.granted = tokens;
    }

    /// No more memory can be promised: the next token is the last.
    pub(super) fn stop_at_next(&mut self) {
        self.is_cut_short = self.asked + 1 < self.limit;
        self.limit = self.limit.min(self.asked + 1);
    }

    /// Its part in the next step, with no more than `room` tokens of the prompt.
    pub(super) fn work(&mut self, room: usize) -> Option<(Work, Part)> {
        let (input, prefilled) = match self.unqueued_prompt() {
            0 if self.asked < self.limit && !self.waits() => (Input::Previous, None),
            0 => return None,
            _ if room == 0 => return None,
            left => {
                let until = self.queued + left.min(room);
                (
                    Input::Tokens(self.tokens[self.queued..until].to_vec()),
                    Some(until),
                )
            }
        };
        if self.queued == self.usage.cached {
            self.timings.queued = self.submitted.elapsed();
        }
        let before = self.queued;
        self.queued = prefilled.unwrap_or(before + 1);
        let captures = self.captures.iter().copied();
        let captures = captures.filter(|at| (before + 1..=self.queued).contains(at));
        let captures = captures.collect();
        let sample = self.unqueued_prompt() == 0 && self.asked < self.limit;
        self.asked += usize::from(sample);
        let part = Part {
            id: self.id,
            slot: self.slot,
            prefilled,
            sampled: sample,
        };
        Some((
            Work {
                slot: self.slot,
                input,
                sample,
                reading: prefilled.and_then(|until| self.reads(before, until)),
                mask: self
                    .guide
                    .as_ref()
                    .filter(|_| sample)
                    .map(|guide| guide.mask()),
                captures,
            },
            part,
        ))
    }

    /// What is read of a piece of the prompt.
    fn reads(&self, start: usize, end: usize) -> Option<stepper::Reading> {
        let prompt = &self.tokens[..self.usage.prompt];
        let next = &prompt[start + 1..prompt.len().min(end + 1)];
        match self.reading? {
            Reading::Scores(top) if !next.is_empty() => Some(stepper::Reading::Scores {
                next: next.to_vec(),
                top,
            }),
            Reading::State if end == prompt.len() => Some(stepper::Reading::State),
            Reading::Scores(_) | Reading::State => None,
        }
    }

    /// Whether the answer is along a constraint.
    pub(super) fn is_guided(&self) -> bool {
        self.guide.is_some()
    }

    /// Whether what may come next depends on a token that is not read yet.
    fn waits(&self) -> bool {
        self.guide.is_some() && self.tokens.len() < self.usage.prompt + self.asked
    }

    /// Whether a token ends the answer without being part of it.
    fn is_end(&self, id: u32) -> bool {
        !self.ignore_eos && self.tokenizer.eos_ids().contains(&id)
    }

    /// A step is done in which it had a `part`, with what was read and the token sampled there. An error ends the
    /// sequence.
    pub(super) fn advance(
        &mut self,
        part: &Part,
        read: Option<&Read>,
        token: Option<Token>,
    ) -> Result<ControlFlow<Finish>> {
        let id = token.as_ref().map(|token| token.id);
        let id = id.filter(|&id| !self.is_end(id));
        let is_complete = match (&mut self.guide, id) {
            (Some(guide), Some(id)) => guide.push(id)?.is_break(),
            _ => false,
        };
        Ok(self.told(part, read, token, is_complete))
    }

    /// Records what came of a step, and tells it.
    fn told(
        &mut self,
        part: &Part,
        read: Option<&Read>,
        token: Option<Token>,
        is_complete: bool,
    ) -> ControlFlow<Finish> {
        // Recorded before anyone is told: the next step has this token already, and a sink may end
        // the sequence here.
        self.tokens.extend(token.as_ref().map(|token| token.id));
        if let Some(read) = read {
            self.tell(Event::Read(read))?;
        }
        if let Some(done) = part.prefilled {
            self.prefilled(done)?;
        }
        token.map_or(ControlFlow::Continue(()), |token| {
            self.produced(token, is_complete)
        })
    }

    /// The prompt is evaluated up to `done` tokens.
    fn prefilled(&mut self, done: usize) -> ControlFlow<Finish> {
        let total = self.usage.prompt;
        self.usage.evaluated = done - self.usage.cached;
        self.timings.prompt = self.submitted.elapsed().saturating_sub(self.timings.queued);
        self.tell(Event::Prefill { done, total })?;
        if done == total && self.limit == 0 {
            return ControlFlow::Break(Finish::Length);
        }
        ControlFlow::Continue(())
    }

    /// A token is produced, with which the answer may be complete.
    fn produced(&mut self, token: Token, is_complete: bool) -> ControlFlow<Finish> {
        let id = token.id;
        if self.is_end(id) {
            let rest = self.answer.finish();
            if rest != Piece::default() {
                self.show(rest)?;
            }
            return ControlFlow::Break(Finish::Eos(id));
        }
        let since = self.submitted.elapsed();
        if self.usage.completion == 0 {
            self.timings.first_token = since;
        }
        self.timings.decode = since.saturating_sub(self.timings.first_token);
        self.usage.completion += 1;
        self.answer.push(token);
        let last = self.usage.completion == self.limit;
        let piece = if last || is_complete {
            self.answer.finish()
        } else {
            self.answer.release()
        };
        self.show(piece)?;
        if is_complete {
            ControlFlow::Break(Finish::Complete)
        } else if last && self.is_cut_short {
            ControlFlow::Break(Finish::Memory)
        } else if last {
            ControlFlow::Break(Finish::Length)
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Ends it with `Done`: its slot, and the tokens that the slot holds once every queued step is
    /// done.
    pub(super) fn done(mut self, finish: Finish) -> (Slot, Vec<u32>) {
        self.tokens.truncate(self.queued);
        self.outlet.end(Event::Done {
            finish,
            usage: self.usage,
            timings: self.timings,
        });
        (self.slot, self.tokens)
    }

    /// Ends it with `Failed`: its slot, in an undefined state.
    pub(super) fn failed(self, error: Error) -> Slot {
        self.outlet.end(Event::Failed(error));
        self.slot
    }

    fn show(&mut self, piece: Piece) -> ControlFlow<Finish> {
        self.tell(Event::Text {
            text: &piece.text,
            tokens: &piece.tokens,
        })?;
        piece.stop.map_or(ControlFlow::Continue(()), |stop| {
            ControlFlow::Break(Finish::Stop(stop))
        })
    }

    fn tell(&mut self, event: Event<'_>) -> ControlFlow<Finish> {
        self.outlet.tell(event).map_break(|()| Finish::Cancelled)
    }

    /// The tokens that the slot holds once every queued step is done, as far as the host has read
    /// them, and how many there are.
    #[cfg(test)]
    pub(super) fn recorded(&self) -> (&[u32], usize) {
        (
            &self.tokens[..self.queued.min(self.tokens.len())],
            self.queued,
        )
    }
}
