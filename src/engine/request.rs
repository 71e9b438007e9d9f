//! What goes into the engine and what comes out of it: plain data.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::Error;
use crate::sample::Sampling;

/// One generation asked for.
#[derive(Debug, Clone, Default)]
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
}

/// One produced token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Present where the request asked for it.
    pub logprobs: Option<Logprobs>,
}

/// Natural-log probabilities from the raw logits, before penalties, temperature and filters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// Of the likeliest tokens, largest first.
    pub top: Vec<(u32, f32)>,
}

/// What the engine tells about one request, in this order: `Started`, `Prefill`…, `Text`…, then
/// exactly one `Done` or `Failed`.
#[derive(Debug)]
pub enum Event<'a> {
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
    /// One decode step. `text` holds whole characters only and may be empty: bytes of an
    /// unfinished character and text that may become a stop string wait, and their tokens with them.
    Text {
        /// What may be shown now.
        text: &'a str,
        /// The tokens that `text` came from.
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

/// Receives the events of one request, on the engine's thread. `Break` ends the generation.
pub type Sink = Box<dyn FnMut(Event<'_>) -> ControlFlow<()> + Send>;

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it with this token, which is not part of the answer.
    Eos(u32),
    /// This stop string was reached.
    Stop(String),
    /// The limit of tokens, or the end of the context.
    Length,
    /// The sink said `Break`, or the request was cancelled.
    Cancelled,
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, taken from an earlier sequence.
    pub cached: usize,
    /// Of these, computed: `prompt - cached` unless cancelled.
    pub evaluated: usize,
    /// Tokens produced, without the end-of-sequence token.
    pub completion: usize,
}

/// Times of one request, taken on the engine's thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission to the first step that works on it.
    pub queued: Duration,
    /// From the first step to the last prompt token's evaluation.
    pub prompt: Duration,
    /// From submission to the first produced token.
    pub first_token: Duration,
    /// From the first produced token to the last.
    pub decode: Duration,
}
