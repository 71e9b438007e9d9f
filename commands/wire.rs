//! What the server and its runners say to each other, a line of JSON each. Knows neither of them.

mod failure;
mod held;

use std::time::Duration;

use mlxr::ModelDescription;
use mlxr::engine::figures::Figures;
use mlxr::engine::request::{Event, Finish, Logprobs, Read, Request, Timings, Token, Usage};
use serde::{Deserialize, Serialize};

pub(crate) use failure::{Failure, Fault};
pub(crate) use held::{Held, HeldModel, HeldPrefix, HeldRequest, LoadedModel};

/// What a runner is asked, on its standard input. Where that ends, the runner ends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// Answer a request. What happens to it bears this number.
    Generate { id: u64, request: Box<Request> },
    /// Nobody wants the rest of the answer.
    Cancel { id: u64 },
    /// Tell what there is. What is told bears this number.
    Figures { id: u64 },
}

/// What a runner says, on its standard output: once `Ready` or `Failed`, then what happens to requests.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The user should know this; it ends nothing.
    Notice(String),
    /// The model answers from now on.
    Ready(Box<Facts>),
    /// The model could not be loaded.
    Failed(Failure),
    /// Something happened to a request.
    Event { id: u64, event: Happened },
    /// What there was when it was asked.
    Figures { id: u64, figures: Box<Figures> },
}

/// An [`Event`] on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Happened {
    Started {
        prompt: usize,
        cached: usize,
        seed: u64,
    },
    Prefill {
        done: usize,
        total: usize,
    },
    Read(Read),
    Text {
        text: String,
        tokens: Vec<Token>,
    },
    Done {
        finish: Finish,
        usage: Usage,
        timings: Timings,
    },
    Failed(Failure),
}

impl Happened {
    /// `None` for what a server need not know.
    pub(crate) fn of(event: Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Waiting => return None,
            Event::Started {
                prompt,
                cached,
                seed,
            } => Self::Started {
                prompt,
                cached,
                seed,
            },
            Event::Prefill { done, total } => Self::Prefill { done, total },
            Event::Read(Read::Scores(scores)) => {
                Self::Read(Read::Scores(scores.iter().map(finite).collect()))
            }
            Event::Read(read) => Self::Read(read.clone()),
            Event::Text { text, tokens } => Self::Text {
                text: text.to_owned(),
                tokens: tokens.iter().map(told).collect(),
            },
            Event::Done {
                finish,
                usage,
                timings,
            } => Self::Done {
                finish,
                usage,
                timings,
            },
            Event::Failed(error) => Self::Failed(Failure::of(&error)),
        })
    }

    /// Whether nothing follows.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed(_))
    }
}

fn told(token: &Token) -> Token {
    Token {
        id: token.id,
        logprobs: token.logprobs.as_ref().map(finite),
    }
}

/// JSON has no word for the logarithm of nothing.
fn finite(logprobs: &Logprobs) -> Logprobs {
    let top = logprobs.top.iter();
    Logprobs {
        chosen: logprobs.chosen.max(f32::MIN),
        top: top
            .map(|&(id, logprob)| (id, logprob.max(f32::MIN)))
            .collect(),
    }
}

/// What a runner tells of the model that it has loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) architecture: String,
    /// Tokens that a sequence may hold.
    pub(crate) context: usize,
    pub(crate) weights_bytes: usize,
    /// What it may take of the device's memory.
    pub(crate) memory_bytes: usize,
    pub(crate) parameters: usize,
    pub(crate) quantization: String,
    pub(crate) device: String,
    pub(crate) mlx_version: String,
    pub(crate) load: Duration,
}

impl From<ModelDescription> for Facts {
    fn from(description: ModelDescription) -> Self {
        Self {
            architecture: description.architecture,
            context: description.context,
            weights_bytes: description.weights_bytes,
            memory_bytes: description.memory_bytes,
            parameters: description.parameters,
            quantization: description.quantization,
            device: description.device.to_string(),
            mlx_version: description.mlx_version,
            load: description.load_time,
        }
    }
}
