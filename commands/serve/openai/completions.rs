//! `/v1/completions`: a text that is gone on with.

use std::sync::Arc;

use axum::response::Response;
use mlxr::engine::request::{Logprobs, Read};
use serde_json::{Value, json};

use super::scored::Table;
use super::{DONE, EVENTS, PING, Streaming, Totals};
use super::{finish_reason, now, prefill, read_limit, read_sampling};
use crate::parse::Part;
use crate::serve::answering::{Answering, Grown, Step};
use crate::serve::asking::Asking;
use crate::serve::dialect::{Dialect, json_response};
use crate::serve::fields::Fields;
use crate::serve::form;
use crate::serve::ids;
use crate::serve::models::{Lease, Served};
use crate::serve::question::{Prompt, Question, Said};
use crate::serve::stream::{self, Writer, data};
use crate::wire::Failure;

/// The most tokens that are told of beside each one.
const MOST_LOGPROBS: usize = 20;

/// The most prompts of one request.
const MOST_PROMPTS: usize = 256;

/// Goes on with texts.
///
/// # Errors
/// Where there are none, or they cannot be gone on with.
pub(in crate::serve) async fn answer(
    asking: Asking,
    mut fields: Fields,
) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let streaming = Streaming::read(&mut fields)?;
    let echo = fields.take("echo")?.unwrap_or(false);
    let question = read(&mut fields, echo)?;
    if streaming.is_wanted && question.is_scored {
        let problem = "those of the prompt are not told in a stream: not together with `echo`";
        return Err(Failure::field("logprobs", problem));
    }
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let mut shape = Shape::new(&lease, &question);
    let mut answering = asking.begin(lease, question).await?;
    if echo {
        shape.echoed = std::mem::take(&mut answering.prompts);
    }
    if streaming.is_wanted {
        let writer = Stream {
            answers: Answers::new(&shape),
            shape,
            with_usage: streaming.with_usage,
        };
        stream::respond(answering, writer).await
    } else {
        whole(answering, &shape).await
    }
}

/// Reads the question out of a request.
fn read(fields: &mut Fields, echo: bool) -> Result<Question, Failure> {
    let question = read_sampling(fields)?;
    let prompt = Prompt::read("prompt", fields.require("prompt")?)?;
    let suffix: Option<String> = fields.take("suffix")?;
    let prompt = match (suffix.filter(|suffix| !suffix.is_empty()), prompt) {
        (None, prompt) => prompt,
        (Some(after), Prompt::Texts(mut texts)) if texts.len() == 1 => Prompt::Infill {
            before: texts.pop().unwrap_or_default(),
            after,
        },
        (Some(_), _) => {
            return Err(Failure::field(
                "suffix",
                "it needs a prompt that is one text",
            ));
        }
    };
    let prompts = prompt.count();
    if prompts > MOST_PROMPTS {
        let problem = format!("{prompts} prompts are more than {MOST_PROMPTS}");
        return Err(Failure::field("prompt", problem));
    }
    let logprobs: Option<usize> = fields.take("logprobs")?;
    if logprobs.is_some_and(|logprobs| logprobs > MOST_LOGPROBS) {
        let problem = format!("it is {MOST_LOGPROBS} at most");
        return Err(Failure::field("logprobs", problem));
    }
    fields.expect("best_of", &[json!(1), json!(question.choices)]);
    Ok(Question {
        prompt,
        logprobs,
        is_scored: echo && logprobs.is_some(),
        constraint: form::of_chat(fields)?,
        limit: read_limit(fields, "max_tokens", usize::from(!echo))?,
        ..question
    })
}

/// What every piece of an answer bears.
struct Shape {
    id: String,
    created: i64,
    served: Arc<Served>,
    with_logprobs: bool,
    /// Answers to each prompt.
    choices: usize,
    /// Prompts that come before their answers, where that is asked.
    echoed: Vec<Said>,
}

impl Shape {
    fn new(lease: &Lease, question: &Question) -> Self {
        Self {
            id: ids::fresh("cmpl-"),
            created: now(),
            served: Arc::clone(lease.served()),
            with_logprobs: question.logprobs.is_some(),
            choices: question.choices,
            echoed: Vec::new(),
        }
    }

    fn object(&self, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": concat!("mlxr-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }

    fn echoed(&self, index: usize) -> &str {
        self.echoed
            .get(index / self.choices)
            .map_or("", |said| &said.text)
    }
}

/// Where the answers are.
struct Answers {
    totals: Totals,
    /// Characters of the text of each answer that were sent.
    lengths: Vec<usize>,
}

impl Answers {
    fn new(shape: &Shape) -> Self {
        let echoed = shape.echoed.iter().map(|said| said.text.chars().count());
        let lengths = echoed.flat_map(|length| std::iter::repeat_n(length, shape.choices));
        Self {
            totals: Totals::default(),
            lengths: lengths.collect(),
        }
    }

    /// One answer has grown: its choice in the answer's form.
    fn choice(&mut self, shape: &Shape, index: usize, grown: Grown, reason: Option<&str>) -> Value {
        if self.lengths.len() <= index {
            self.lengths.resize(index + 1, 0);
        }
        let text = text(grown.parts);
        let logprobs = if shape.with_logprobs {
            let mut table = Table::new(&shape.served.read.tokenizer);
            table.add_answer(&grown.tokens, self.lengths[index]);
            table.value()
        } else {
            Value::Null
        };
        self.lengths[index] += text.chars().count();
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
    }
}

fn text(parts: Vec<Part>) -> String {
    let texts = parts.into_iter().map(|part| match part {
        Part::Thinking(text) | Part::Content(text) => text,
        Part::Call(_) => String::new(),
    });
    texts.collect()
}

/// Sends the answers when they are complete.
async fn whole(mut answering: Answering, shape: &Shape) -> Result<Response, Failure> {
    let mut totals = Totals::default();
    let mut choices: Vec<(Grown, Option<&str>)> = Vec::new();
    let mut scores: Vec<Vec<Logprobs>> = Vec::new();
    scores.resize_with(shape.echoed.len(), Vec::new);
    while let Some((index, step)) = answering.next().await? {
        if choices.len() <= index {
            choices.resize_with(index + 1, Default::default);
        }
        let (grown, reason) = &mut choices[index];
        let added = match step {
            Step::Read(Read::Scores(read)) => {
                if let Some(scores) = scores.get_mut(index / shape.choices) {
                    scores.extend(read);
                }
                continue;
            }
            Step::Started { .. } | Step::Read(_) | Step::Prefill { .. } => continue,
            Step::Grown(added) => added,
            Step::Done(added, ended) => {
                totals.add(&ended, index.is_multiple_of(shape.choices), 0);
                *reason = Some(finish_reason(&ended.finish));
                added
            }
        };
        grown.parts.extend(added.parts);
        grown.tokens.extend(added.tokens);
    }
    let mut answers = Answers::new(shape);
    let choices = choices
        .into_iter()
        .enumerate()
        .map(|(index, (grown, reason))| {
            let echoed = shape.echoed.get(index / shape.choices);
            let table = echoed.filter(|_| shape.with_logprobs).map(|said| {
                let mut table = Table::new(&shape.served.read.tokenizer);
                table.add_prompt(&said.text, &said.tokens, &scores[index / shape.choices]);
                table.add_answer(&grown.tokens, said.text.chars().count());
                table.value()
            });
            let mut choice = answers.choice(shape, index, grown, reason);
            let text = choice["text"].as_str().unwrap_or_default();
            choice["text"] = format!("{}{text}", shape.echoed(index)).into();
            if let Some(table) = table {
                choice["logprobs"] = table;
            }
            choice
        });
    let mut object = shape.object(&choices.collect());
    object["usage"] = totals.usage();
    Ok(json_response(&object))
}

/// Answers as a stream of events.
struct Stream {
    shape: Shape,
    answers: Answers,
    with_usage: bool,
}

impl Stream {
    fn chunk(&self, choices: &Value, usage: Value) -> String {
        let mut object = self.shape.object(choices);
        if self.with_usage {
            object["usage"] = usage;
        }
        data(&object)
    }
}

impl Writer for Stream {
    const MEDIA: &'static str = EVENTS;

    fn begin(&mut self) -> String {
        let indices = 0..self.shape.echoed.len() * self.shape.choices;
        let echoes = indices.map(|index| {
            let choice = json!({
                "index": index,
                "text": self.shape.echoed(index),
                "logprobs": null,
                "finish_reason": null,
            });
            self.chunk(&json!([choice]), Value::Null)
        });
        echoes.collect()
    }

    fn step(&mut self, index: usize, step: Step) -> String {
        let (grown, reason) = match step {
            Step::Started { .. } | Step::Read(_) => return String::new(),
            Step::Prefill { done, total } => return prefill(done, total),
            Step::Grown(grown) if grown.parts.is_empty() && grown.tokens.is_empty() => {
                return String::new();
            }
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => {
                let is_first = index.is_multiple_of(self.shape.choices);
                self.answers.totals.add(&ended, is_first, 0);
                (grown, Some(finish_reason(&ended.finish)))
            }
        };
        let choice = self.answers.choice(&self.shape, index, grown, reason);
        self.chunk(&json!([choice]), Value::Null)
    }

    fn end(&mut self) -> String {
        let usage = if self.with_usage {
            self.chunk(&json!([]), self.answers.totals.usage())
        } else {
            String::new()
        };
        usage + DONE
    }

    fn fail(&mut self, failure: &Failure) -> String {
        data(&Dialect::OpenAi.failure(failure))
    }

    fn ping(&mut self) -> String {
        PING.to_owned()
    }
}
