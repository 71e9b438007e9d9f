//! OpenAI's dialect: what its interfaces have in common.

pub(super) mod chat;
pub(super) mod completions;
pub(super) mod embeddings;
mod messages;
pub(super) mod models;
pub(super) mod responses;
mod scored;

use jiff::Timestamp;
use mlxr::engine::request::{Finish, Token};
use mlxr::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::answering::Ended;
use super::fields::Fields;
use super::question::Question;
use crate::args::SamplingArgs;
use crate::wire::Failure;

/// The media type of server-sent events.
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// Ends a stream in which nothing failed.
const DONE: &str = "data: [DONE]\n\n";

/// Keeps a stream alive.
const PING: &str = ": keep-alive\n\n";

/// Tells how far a prompt is evaluated, to people and proxies; clients pass it over.
fn prefill(done: usize, total: usize) -> String {
    format!(": prompt {done}/{total}\n\n")
}

/// Fields that are labels for others, or that change no answer.
const LABELS: [&str; 7] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// The most answers to one prompt.
const MOST_CHOICES: usize = 64;

/// How a stream is wanted.
#[derive(Debug, Clone, Copy, Default)]
struct Streaming {
    is_wanted: bool,
    with_usage: bool,
}

impl Streaming {
    fn read(fields: &mut Fields) -> Result<Self, Failure> {
        let is_wanted = fields.take("stream")?.unwrap_or_default();
        let with_usage = fields.within("stream_options", |options| {
            options.pass_over(&["include_obfuscation"]);
            options.take("include_usage")
        })?;
        Ok(Self {
            is_wanted,
            with_usage: with_usage.flatten().unwrap_or_default(),
        })
    }
}

/// Reads how tokens are chosen, and which texts end the answer.
fn read_sampling(fields: &mut Fields) -> Result<Question, Failure> {
    fields.pass_over(&LABELS);
    // Prompts are kept for all, and an answer is as long as it is.
    fields.expect("cache_prompt", &[true.into()]);
    fields.expect("verbosity", &["medium".into()]);
    let penalty = fields.take("repeat_penalty")?;
    let choices = fields.take("n")?.unwrap_or(1);
    if !(1..=MOST_CHOICES).contains(&choices) {
        let problem = format!("{choices} is not between 1 and {MOST_CHOICES}");
        return Err(Failure::field("n", problem));
    }
    let bias: Option<Map<String, Value>> = fields.take("logit_bias")?;
    Ok(Question {
        sampling: SamplingArgs {
            temperature: fields.take("temperature")?,
            top_k: fields.take("top_k")?,
            top_p: fields.take("top_p")?,
            min_p: fields.take("min_p")?,
            repeat_penalty: fields.take("repetition_penalty")?.or(penalty),
            repeat_last_n: fields.take("repeat_last_n")?,
            presence_penalty: fields.take("presence_penalty")?,
            frequency_penalty: fields.take("frequency_penalty")?,
            seed: fields.seed()?,
        },
        logit_bias: bias
            .unwrap_or_default()
            .into_iter()
            .map(read_bias)
            .collect::<Result<_, _>>()?,
        stop: fields.texts("stop")?,
        choices,
        ..Question::default()
    })
}

fn read_bias((id, bias): (String, Value)) -> Result<(u32, f32), Failure> {
    let id = id.parse();
    let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
    match (id, bias) {
        (Ok(id), Some(bias)) => Ok((id, bias as f32)),
        _ => Err(Failure::field(
            "logit_bias",
            "it maps ids of tokens to numbers between -100 and 100",
        )),
    }
}

/// A limit of tokens, at least so many; less is none at all for some clients, and means nothing.
fn read_limit(fields: &mut Fields, name: &str, least: usize) -> Result<Option<usize>, Failure> {
    match fields.take::<i64>(name)? {
        None | Some(-1) => Ok(None),
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if limit >= least => Ok(Some(limit)),
            _ => Err(Failure::field(name, format!("it must be at least {least}"))),
        },
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_second()
}

/// What several answers took together.
#[derive(Debug, Default)]
struct Totals {
    prompt: usize,
    cached: usize,
    completion: usize,
    reasoning: usize,
}

impl Totals {
    /// Adds an answer; the prompt counts with the first of its answers.
    fn add(&mut self, ended: &Ended, is_first: bool, reasoning: usize) {
        if is_first {
            self.prompt += ended.usage.prompt;
            self.cached += ended.usage.cached;
        }
        self.completion += ended.usage.completion;
        self.reasoning += reasoning;
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }
}

/// Why an answer ended.
fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Eos(_) | Finish::Complete | Finish::Stop(_) => "stop",
        Finish::Length | Finish::Memory | Finish::Cancelled => "length",
    }
}

/// The log-probabilities of tokens as chats have them.
fn chat_logprobs(tokenizer: &Tokenizer, tokens: &[Token]) -> Value {
    let entry = |id: u32, logprob: f32| {
        let bytes = tokenizer.piece(id).unwrap_or_default();
        json!({
            "token": String::from_utf8_lossy(bytes),
            "logprob": logprob,
            "bytes": bytes,
        })
    };
    let content = tokens.iter().filter_map(|token| {
        let logprobs = token.logprobs.as_ref()?;
        let mut value = entry(token.id, logprobs.chosen);
        let top = logprobs
            .top
            .iter()
            .map(|(id, logprob)| entry(*id, *logprob));
        value["top_logprobs"] = top.collect();
        Some(value)
    });
    json!({"content": content.collect::<Value>(), "refusal": null})
}
