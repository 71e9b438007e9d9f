//! What goes into the engine and what comes out of it: plain data.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::sample::Sampling;
use crate::tokenizer::Special;

/// One generation asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// The prompt, already encoded.
    pub tokens: Vec<u32>,
    /// Offsets in `tokens` where messages end: good places to resume from.
    pub joints: Vec<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it. They may span tokens.
    pub stop: Vec<String>,
    /// Tokens to produce at most; `None` goes on to the end of the context.
    pub limit: Option<usize>,
    /// Prompt and answer together may have this many tokens; `None` is what the model allows.
    pub context: Option<usize>,
    /// Go on after end-of-sequence tokens (they are then part of the answer).
    pub ignore_eos: bool,
    /// Whether special tokens are written in the answer's text, for those who read thinking and calls of tools
    /// out of it.
    pub special: Special,
    /// What is told of the prompt itself.
    pub reading: Option<Reading>,
    /// What the answer must look like.
    pub constraint: Option<Constraint>,
    /// The constraint begins once the answer holds this text, such as the end of thinking; until then all is free.
    pub constraint_after: Option<String>,
}

/// What a prompt is read for, beside its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// How likely each of its tokens was after those before it, with so many of the likeliest beside. All of the
    /// prompt is computed for it, whatever is cached.
    Scores(usize),
    /// The state of the model after it, which stands for the text.
    State,
}

/// What was read of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// Of the next tokens of the prompt, the second one coming first: nothing comes before the first.
    Scores(Vec<Logprobs>),
    /// After the last norm, `[hidden]`.
    State(Vec<f32>),
}

impl Request {
    /// Whether the states of all tokens of the prompt are looked at.
    pub(super) fn reads_all(&self) -> bool {
        matches!(self.reading, Some(Reading::Scores(_)))
    }

    /// Refuses what a model that holds `context` tokens cannot serve.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::ContextOverflow`] where no token of an answer would fit,
    /// [`Error::Sampling`], or [`Error::Request`] with the field's name.
    pub fn check(&self, context: usize) -> Result<()> {
        let refuse = |field, problem: String| Err(Error::Request { field, problem });
        self.sampling.check()?;
        if self.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let limit = self.context.unwrap_or(context);
        if limit > context {
            return refuse(
                "context",
                format!("{limit} tokens are more than the model's {context}"),
            );
        }
        if self.tokens.len() >= limit {
            return Err(Error::ContextOverflow {
                tokens: self.tokens.len(),
                limit,
            });
        }
        if !self.joints.is_sorted() || self.joints.last() > Some(&self.tokens.len()) {
            return refuse(
                "joints",
                "they are not ascending offsets in the prompt".to_owned(),
            );
        }
        if self.stop.iter().any(String::is_empty) {
            return refuse("stop", "a stop string is empty".to_owned());
        }
        if self.constraint.is_some() && self.ignore_eos {
            return refuse(
                "ignore_eos",
                "an answer along a constraint ends where that does".to_owned(),
            );
        }
        if self.constraint.is_none() && self.constraint_after.is_some() {
            return refuse("constraint_after", "there is no constraint".to_owned());
        }
        Ok(())
    }
}

/// One produced token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Present where the request asked for it.
    pub logprobs: Option<Logprobs>,
}

/// Natural-log probabilities from the raw logits, before penalties, temperature and filters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// Of the likeliest tokens, largest first.
    pub top: Vec<(u32, f32)>,
}

/// What the engine tells about one request, in this order: `Waiting`…, `Started`, `Read` and `Prefill`…, `Text`…,
/// then exactly one `Done` or `Failed`.
#[derive(Debug)]
pub enum Event<'a> {
    /// The request waits for a place. Told with every step meanwhile, so that one that nobody wants any more
    /// can say so.
    Waiting,
    /// The request has a place.
    Started {
        /// Tokens of the prompt.
        prompt: usize,
        /// Of these, how many need no computing because an earlier sequence left them.
        cached: usize,
        /// The seed in force: the one asked for, or the fresh one that was drawn.
        seed: u64,
    },
    /// So many tokens of the prompt are evaluated (cached ones included).
    Prefill {
        /// Tokens evaluated.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// Of the tokens that were just evaluated, what the request asks to be read. Told before their `Prefill`.
    Read(&'a Read),
    /// One decode step. `text` holds whole characters only and may be empty: bytes of an
    /// unfinished character and text that may become a stop string wait, and their tokens with them.
    /// Sent for every produced token, and once more before `Done` where an end-of-sequence token
    /// lets something go that has waited.
    Text {
        /// What may be shown now.
        text: &'a str,
        /// The tokens whose text begins in `text`; a token without text goes with the next one.
        tokens: &'a [Token],
    },
    /// The normal end. Also sent after a `Break` or a cancel, with [`Finish::Cancelled`].
    Done {
        /// Why.
        finish: Finish,
        /// Counts.
        usage: Usage,
        /// Times.
        timings: Timings,
    },
    /// The end with an error; nothing follows.
    Failed(Error),
}

/// Receives the events of one request, on the engine's thread, which does nothing else meanwhile.
/// `Break` ends the generation; so does a panic, after which the sink is not called again.
pub type Sink = Box<dyn FnMut(Event<'_>) -> ControlFlow<()> + Send>;

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model ended it with this token, which is not part of the answer.
    Eos(u32),
    /// The answer is all that the constraint asks for, and nothing may follow.
    Complete,
    /// This stop string was reached.
    Stop(String),
    /// The limit of tokens, or the end of the context.
    Length,
    /// No more memory could be had for what it keeps.
    Memory,
    /// The sink said `Break`, or the request was cancelled.
    Cancelled,
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, so many begin as earlier sequences did.
    pub matched: usize,
    /// Of those, taken from an earlier sequence.
    pub cached: usize,
    /// Of these, computed: `prompt - cached` unless cancelled before.
    pub evaluated: usize,
    /// Tokens produced, without the end-of-sequence token, with those of a stop string.
    pub completion: usize,
}

/// Why most of a prompt had to be computed, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// No earlier sequence begins so.
    NothingKnown,
    /// What is known goes on differently from there.
    Differs,
    /// Earlier sequences begin so, but their state there is not kept, or not any more.
    NotKept,
}

impl Miss {
    /// What programs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NothingKnown => "nothing_known",
            Self::Differs => "differs",
            Self::NotKept => "not_kept",
        }
    }
}

impl Usage {
    /// Why more than the last token of the prompt was computed, if it was.
    pub fn miss(&self) -> Option<Miss> {
        if self.cached + 1 >= self.prompt {
            None
        } else if self.matched == 0 {
            Some(Miss::NothingKnown)
        } else if self.cached < self.matched {
            Some(Miss::NotKept)
        } else {
            Some(Miss::Differs)
        }
    }
}

/// Times of one request, taken on the engine's thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From submission to the first step that works on it.
    pub queued: Duration,
    /// From the first step to the last prompt token's evaluation.
    pub prompt: Duration,
    /// From submission to the first produced token; 0 where there is none.
    pub first_token: Duration,
    /// From the first produced token to the last.
    pub decode: Duration,
}
