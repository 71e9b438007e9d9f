//! Answers as they come from a runner, told apart into thinking, text and calls. Knows no dialect.

use std::collections::HashSet;
use std::sync::Arc;

use mlxr::engine::request::{Finish, Read, Timings, Token, Usage};

use super::child::Generation;
use super::meters::Meters;
use super::models::{Lease, blocking};
use super::question::{Question, Said};
use crate::parse::{Parser, Part};
use crate::wire::{Failure, Fault, Happened};

/// Answers that are on their way. Dropping it cancels what has not ended.
pub(super) struct Answering {
    generation: Generation,
    parsers: Vec<Parser>,
    /// Answers that may not call any more: they have called the one tool that they may.
    one_call: Option<HashSet<usize>>,
    pub(super) prompts: Vec<Said>,
    /// What was heard before anybody asked.
    first: Option<(usize, Happened)>,
    meters: Arc<Meters>,
    /// Answers that have not ended.
    open: usize,
    /// The model stays loaded.
    _lease: Lease,
}

/// What is told of one of the answers.
pub(super) enum Step {
    /// It has a place; of the tokens of its prompt, so many need no computing.
    Started { prompt: usize, cached: usize },
    /// Something was read of its prompt.
    Read(Read),
    /// Its prompt is evaluated so far.
    Prefill { done: usize, total: usize },
    /// It has grown.
    Grown(Grown),
    /// It is complete; this was added last.
    Done(Grown, Ended),
}

/// What was added to an answer.
#[derive(Default)]
pub(super) struct Grown {
    pub(super) parts: Vec<Part>,
    /// The tokens of all parts, those of thinking and tags included.
    pub(super) tokens: Vec<Token>,
}

/// How an answer ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) finish: Finish,
    pub(super) usage: Usage,
    pub(super) timings: Timings,
}

impl Ended {
    /// Tokens of the prompt, of these those that were cached, and tokens of the answer.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let Usage {
            prompt,
            cached,
            completion,
            ..
        } = self.usage;
        (prompt, cached, completion)
    }

    /// Whether the model said all that it wanted to say.
    pub(super) fn is_whole(&self) -> bool {
        matches!(
            self.finish,
            Finish::Eos(_) | Finish::Complete | Finish::Stop(_)
        )
    }
}

impl Answering {
    /// Asks a question.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub(super) async fn begin(
        lease: Lease,
        question: Question,
        meters: Arc<Meters>,
    ) -> Result<Self, Failure> {
        let served = Arc::clone(lease.served());
        let prepared = blocking(move || question.prepare(&served)).await??;
        Ok(Self {
            open: prepared.requests.len(),
            generation: lease.served().child.generate(prepared.requests),
            parsers: prepared.parsers,
            one_call: prepared.one_call.then(HashSet::new),
            prompts: prepared.prompts,
            first: None,
            meters,
            _lease: lease,
        })
    }

    /// Waits until something has happened.
    ///
    /// # Errors
    /// Where that is a failure.
    pub(super) async fn begun(&mut self) -> Result<(), Failure> {
        if self.first.is_none() {
            match self.generation.next().await {
                Some((_, Happened::Failed(failure))) => return Err(failure),
                other => self.first = other,
            }
        }
        Ok(())
    }

    /// What happens next, and to which answer; `None` when all are complete.
    ///
    /// # Errors
    /// Where one failed: the others are then of no use either.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Step)>, Failure> {
        if self.open > 0 {
            let news = match self.first.take() {
                Some(first) => Some(first),
                None => self.generation.next().await,
            };
            let Some((index, happened)) = news else {
                return Err(Failure::new(Fault::Internal, "the runner fell silent"));
            };
            let parser = &mut self.parsers[index];
            let step = match happened {
                Happened::Started { prompt, cached, .. } => Step::Started { prompt, cached },
                Happened::Prefill { done, total } => Step::Prefill { done, total },
                Happened::Read(read) => Step::Read(read),
                Happened::Text { text, tokens } => Step::Grown(Grown {
                    parts: allowed(&mut self.one_call, index, parser.push(&text)),
                    tokens,
                }),
                Happened::Done {
                    finish,
                    usage,
                    timings,
                } => {
                    self.open -= 1;
                    let ended = Ended {
                        finish,
                        usage,
                        timings,
                    };
                    self.meters.answered(&ended.usage, &ended.timings);
                    let grown = Grown {
                        parts: allowed(&mut self.one_call, index, parser.finish(ended.is_whole())),
                        tokens: Vec::new(),
                    };
                    Step::Done(grown, ended)
                }
                Happened::Failed(failure) => return Err(failure),
            };
            return Ok(Some((index, step)));
        }
        Ok(None)
    }

    /// Counts a failure that its client is told of inside of a stream.
    pub(super) fn failed(&self) {
        self.meters.failed();
    }
}

/// The parts of an answer without the calls that it may not make.
fn allowed(one_call: &mut Option<HashSet<usize>>, index: usize, mut parts: Vec<Part>) -> Vec<Part> {
    if let Some(called) = one_call {
        parts.retain(|part| !matches!(part, Part::Call(_)) || called.insert(index));
    }
    parts
}
