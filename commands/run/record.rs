//! Answers as JSON and as a line of figures: the shapes that programs read. Prints nothing.

use std::time::Duration;

use jiff::Timestamp;
use mlxr::engine::request::{Finish, Miss, Timings, Usage};
use mlxr::{LoadParts, Span};
use serde::Serialize;
use serde_json::Value;

use super::answer::Answer;
use crate::model::Description;

/// The version of these shapes. Keys may be added under the same version, never changed.
const SCHEMA: u32 = 1;

/// An answer, or its figures alone, as one JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    /// What kind of event this is, in a stream of events.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    schema: u32,
    /// The request that this answers, among many.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    model: &'a str,
    prompt_tokens: usize,
    /// Of the prompt: those that earlier prompts begin with, those taken from them, and those computed.
    matched_tokens: usize,
    cached_tokens: usize,
    evaluated_tokens: usize,
    /// Why more than the last token was computed.
    cache_miss: Option<&'static str>,
    completion_tokens: usize,
    finish: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    seed: u64,
    timings: TimingsRecord,
    memory: Memory,
    engine: Engine<'a>,
}

#[derive(Debug, Serialize)]
struct TimingsRecord {
    /// When the program began to run.
    started_at: Option<Timestamp>,
    load_ms: f64,
    load_parts: LoadPartsRecord,
    queued_ms: f64,
    prompt_ms: f64,
    first_token_ms: f64,
    decode_ms: f64,
    /// Tokens per second; absent where nothing was timed.
    prompt_tps: Option<f64>,
    decode_tps: Option<f64>,
}

/// The parts of loading, some of which may run side by side.
#[derive(Debug, Serialize)]
struct LoadPartsRecord {
    tokenizer: Option<SpanRecord>,
    library: SpanRecord,
    weights: SpanRecord,
}

/// A stretch of time, its beginning since the program began to run.
#[derive(Debug, Serialize)]
struct SpanRecord {
    at_ms: f64,
    ms: f64,
}

/// Bytes.
#[derive(Debug, Serialize)]
struct Memory {
    weights: u64,
}

#[derive(Debug, Serialize)]
struct Engine<'a> {
    version: &'static str,
    libmlx: &'a str,
    device: &'a str,
}

impl<'a> Record<'a> {
    /// The figures of `answer` without its text.
    pub(crate) fn figures(model: &'a Description, answer: &Answer) -> Self {
        let Usage {
            prompt,
            matched,
            cached,
            evaluated,
            completion,
        } = answer.usage;
        let Timings {
            queued,
            prompt: prompt_time,
            first_token,
            decode,
        } = answer.timings;
        let LoadParts {
            tokenizer,
            library,
            weights,
        } = model.load_parts;
        let span = |span: Span| SpanRecord {
            at_ms: milliseconds(model.load_begin + span.start),
            ms: milliseconds(span.length),
        };
        Self {
            kind: None,
            schema: SCHEMA,
            id: None,
            model: &model.name,
            prompt_tokens: prompt,
            matched_tokens: matched,
            cached_tokens: cached,
            evaluated_tokens: evaluated,
            cache_miss: answer.usage.miss().map(Miss::name),
            completion_tokens: completion,
            finish: match answer.finish {
                Finish::Eos(_) => "eos",
                Finish::Complete => "complete",
                Finish::Stop(_) => "stop",
                Finish::Length => "length",
                Finish::Memory => "memory",
                Finish::Cancelled => "cancelled",
            },
            text: None,
            reasoning: None,
            seed: answer.seed,
            timings: TimingsRecord {
                started_at: Timestamp::try_from(model.started_at).ok(),
                load_ms: milliseconds(model.load),
                load_parts: LoadPartsRecord {
                    tokenizer: tokenizer.map(span),
                    library: span(library),
                    weights: span(weights),
                },
                queued_ms: milliseconds(queued),
                prompt_ms: milliseconds(prompt_time),
                first_token_ms: milliseconds(first_token),
                decode_ms: milliseconds(decode),
                prompt_tps: prompt_rate(answer).map(rounded),
                decode_tps: decode_rate(answer).map(rounded),
            },
            memory: Memory {
                weights: model.weights_bytes,
            },
            engine: Engine {
                version: env!("CARGO_PKG_VERSION"),
                libmlx: &model.mlx_version,
                device: &model.device,
            },
        }
    }

    /// All of `answer`.
    pub(crate) fn answer(model: &'a Description, answer: &'a Answer) -> Self {
        let reasoning = (!answer.thinking.is_empty()).then_some(answer.thinking.as_str());
        Self {
            text: Some(&answer.text),
            reasoning,
            ..Self::figures(model, answer)
        }
    }

    /// As the last event of a stream.
    pub(crate) fn done(self) -> Self {
        Self {
            kind: Some("done"),
            ..self
        }
    }

    /// As the result of one request among many.
    pub(crate) fn with_id(self, id: &'a Value) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }
}

/// A value as one line of JSON.
pub(crate) fn line(value: &impl Serialize) -> String {
    // These shapes have string keys and finite numbers only, so they cannot fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// The figures of `answer` for people.
pub(crate) fn summary(answer: &Answer) -> String {
    let Usage {
        prompt,
        matched,
        cached,
        completion,
        ..
    } = answer.usage;
    let known = match matched {
        matched if matched > cached => format!(" of {matched} known"),
        _ => String::new(),
    };
    let rate = |rate: Option<f64>| {
        rate.map(|rate| format!(" ({rate:.1}/s)"))
            .unwrap_or_default()
    };
    format!(
        "prompt {prompt} tokens, {cached}{known} cached, {:.2} s{}; first token after {:.2} s; answer {completion} tokens, {:.2} s{}; seed {}",
        answer.timings.prompt.as_secs_f64(),
        rate(prompt_rate(answer)),
        answer.timings.first_token.as_secs_f64(),
        answer.timings.decode.as_secs_f64(),
        rate(decode_rate(answer)),
        answer.seed,
    )
}

/// Evaluated tokens of the prompt per second.
fn prompt_rate(answer: &Answer) -> Option<f64> {
    per_second(answer.usage.evaluated, answer.timings.prompt)
}

/// Tokens of the answer per second: those after the first, whose time belongs to the prompt.
fn decode_rate(answer: &Answer) -> Option<f64> {
    per_second(
        answer.usage.completion.saturating_sub(1),
        answer.timings.decode,
    )
}

fn per_second(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && !time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// To three digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
