//! `/v1/chat/completions`.

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{DONE, EVENTS, PING, Streaming, Totals, messages, prefill};
use super::{chat_logprobs, finish_reason, now, read_limit, read_sampling};
use crate::parse::{Call, Part};
use crate::serve::answering::{Answering, Ended, Grown, Step};
use crate::serve::asking::Asking;
use crate::serve::dialect::{Dialect, json_response};
use crate::serve::fields::Fields;
use crate::serve::form::{self, ToolChoice};
use crate::serve::ids;
use crate::serve::models::{Lease, Served};
use crate::serve::question::{Conversation, Prompt, Question};
use crate::serve::stream::{self, Writer, data};
use crate::serve::thinking;
use crate::wire::Failure;

/// The most tokens that are told of beside each one.
const MOST_LOGPROBS: usize = 20;

/// Answers a conversation.
///
/// # Errors
/// Where it is not one, or cannot be answered.
pub(in crate::serve) async fn answer(
    asking: Asking,
    mut fields: Fields,
) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let streaming = Streaming::read(&mut fields)?;
    let question = read(&mut fields)?;
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let shape = Shape::new(&lease, question.logprobs.is_some());
    let answering = asking.begin(lease, question).await?;
    if streaming.is_wanted {
        stream::respond(answering, Stream::new(shape, streaming.with_usage)).await
    } else {
        whole(answering, &shape).await
    }
}

/// Reads the question out of a request.
fn read(fields: &mut Fields) -> Result<Question, Failure> {
    let question = read_sampling(fields)?;
    let conversation = conversation(fields)?;
    let is_parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
    let limit = read_limit(fields, "max_tokens", 1)?;
    let limit = read_limit(fields, "max_completion_tokens", 1)?.or(limit);
    let top: Option<usize> = fields.take("top_logprobs")?;
    let logprobs = fields.take("logprobs")?.unwrap_or(false);
    if top.is_some_and(|top| top > MOST_LOGPROBS) {
        let problem = format!("it is {MOST_LOGPROBS} at most");
        return Err(Failure::field("top_logprobs", problem));
    }
    if top.is_some() && !logprobs {
        return Err(Failure::field("top_logprobs", "it needs `logprobs`"));
    }
    fields.expect("modalities", &[json!(["text"])]);
    Ok(Question {
        prompt: Prompt::Chat(conversation),
        logprobs: logprobs.then_some(top.unwrap_or(0)),
        limit,
        one_call: !is_parallel,
        constraint: form::of_chat(fields)?,
        ..question
    })
}

/// Reads the conversation out of a request.
///
/// # Errors
/// Where it is not one.
pub(in crate::serve) fn conversation(fields: &mut Fields) -> Result<Conversation, Failure> {
    let messages = messages::read(fields.require("messages")?)?;
    if messages.is_empty() {
        return Err(Failure::field("messages", "there are none"));
    }
    Ok(Conversation {
        messages,
        tools: read_tools(fields)?,
        choice: ToolChoice::read(fields.take("tool_choice")?.as_ref())?,
        arguments: read_arguments(fields)?,
    })
}

/// The tools that the model is told of.
///
/// # Errors
/// Where one is no function with a name.
pub(in crate::serve) fn read_tools(fields: &mut Fields) -> Result<Vec<Value>, Failure> {
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let is_function = |tool: &Value| {
        tool["type"] == "function" && tool.pointer("/function/name").is_some_and(Value::is_string)
    };
    if let Some(index) = tools.iter().position(|tool| !is_function(tool)) {
        let field = format!("tools[{index}]");
        return Err(Failure::field(field, "it is no function with a name"));
    }
    for (index, tool) in tools.iter().enumerate() {
        if tool.pointer("/function/strict") == Some(&true.into()) {
            fields.leave_out_of("tools", format_args!("[{index}].function.strict"));
        }
    }
    Ok(tools)
}

/// The variables of the chat template that a client may set.
fn read_arguments(fields: &mut Fields) -> Result<Map<String, Value>, Failure> {
    let mut arguments = Map::new();
    if let Some(effort) = fields.take::<String>("reasoning_effort")? {
        arguments.extend(thinking::level("reasoning_effort", &effort)?);
    }
    if let Some(is_on) = fields.take("enable_thinking")? {
        arguments.extend(thinking::switched(is_on));
    }
    let given: Option<Map<String, Value>> = fields.take("chat_template_kwargs")?;
    arguments.extend(given.unwrap_or_default());
    Ok(arguments)
}

/// What every piece of an answer bears.
struct Shape {
    id: String,
    created: i64,
    model: String,
    with_logprobs: bool,
    served: std::sync::Arc<Served>,
}

impl Shape {
    fn new(lease: &Lease, with_logprobs: bool) -> Self {
        let served = std::sync::Arc::clone(lease.served());
        Self {
            id: ids::fresh("chatcmpl-"),
            created: now(),
            model: served.name.clone(),
            with_logprobs,
            served,
        }
    }

    fn object(&self, kind: &str, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("mlxr-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }

    fn logprobs(&self, grown: &Grown) -> Value {
        if self.with_logprobs {
            chat_logprobs(&self.served.read.tokenizer, &grown.tokens)
        } else {
            Value::Null
        }
    }
}

/// A call of a tool; in a stream it says which one it is.
fn call(call: Call, index: Option<usize>) -> Value {
    let mut value = json!({
        "id": ids::fresh("call_"),
        "type": "function",
        "function": {
            "name": call.name,
            "arguments": Value::Object(call.arguments).to_string(),
        },
    });
    if let Some(index) = index {
        value["index"] = index.into();
    }
    value
}

/// One answer as it grows.
#[derive(Default)]
struct Choice {
    content: String,
    thinking: String,
    calls: usize,
    /// Tokens before the first that is part of the answer, where the model thinks.
    thought: usize,
}

impl Choice {
    /// Counts what was added.
    fn count(&mut self, grown: &Grown) {
        let thinks = |part: &Part| matches!(part, Part::Thinking(_));
        if grown.parts.iter().any(thinks) || grown.parts.is_empty() {
            self.thought += grown.tokens.len();
        }
    }

    fn reasoning(&self) -> usize {
        if self.thinking.is_empty() {
            0
        } else {
            self.thought
        }
    }

    fn reason(&self, ended: &Ended) -> &'static str {
        if self.calls > 0 && ended.is_whole() {
            "tool_calls"
        } else {
            finish_reason(&ended.finish)
        }
    }
}

/// Sends the answers when they are complete.
async fn whole(mut answering: Answering, shape: &Shape) -> Result<Response, Failure> {
    let mut totals = Totals::default();
    let mut choices: Vec<(Choice, Vec<Value>, Vec<Value>)> = Vec::new();
    let mut ended_choices = Vec::new();
    while let Some((index, step)) = answering.next().await? {
        if choices.len() <= index {
            choices.resize_with(index + 1, Default::default);
        }
        let (choice, calls, logprobs) = &mut choices[index];
        let (grown, ended) = match step {
            Step::Started { .. } | Step::Read(_) | Step::Prefill { .. } => continue,
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => (grown, Some(ended)),
        };
        choice.count(&grown);
        if let Value::Array(entries) = shape.logprobs(&grown)["content"].take() {
            logprobs.extend(entries);
        }
        for part in grown.parts {
            match part {
                Part::Thinking(text) => choice.thinking.push_str(&text),
                Part::Content(text) => choice.content.push_str(&text),
                Part::Call(made) => {
                    choice.calls += 1;
                    calls.push(call(made, None));
                }
            }
        }
        if let Some(ended) = ended {
            totals.add(&ended, index == 0, choice.reasoning());
            ended_choices.push((index, choice.reason(&ended)));
        }
    }
    ended_choices.sort_unstable();
    let choices = choices.into_iter().zip(ended_choices);
    let choices = choices.map(|((choice, calls, logprobs), (index, reason))| {
        let content = if choice.content.is_empty() && !calls.is_empty() {
            Value::Null
        } else {
            choice.content.into()
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !choice.thinking.is_empty() {
            message["reasoning_content"] = choice.thinking.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let logprobs = if shape.with_logprobs {
            json!({"content": logprobs, "refusal": null})
        } else {
            Value::Null
        };
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
    });
    let mut object = shape.object("chat.completion", &choices.collect());
    object["usage"] = totals.usage();
    Ok(json_response(&object))
}

/// Answers as a stream of events.
struct Stream {
    shape: Shape,
    with_usage: bool,
    totals: Totals,
    choices: Vec<Choice>,
}

impl Stream {
    fn new(shape: Shape, with_usage: bool) -> Self {
        Self {
            shape,
            with_usage,
            totals: Totals::default(),
            choices: Vec::new(),
        }
    }

    fn chunk(&self, choices: &Value, usage: Value) -> String {
        let mut object = self.shape.object("chat.completion.chunk", choices);
        if self.with_usage {
            object["usage"] = usage;
        }
        data(&object)
    }

    fn delta(&self, index: usize, delta: &Value, logprobs: &Value, reason: Option<&str>) -> String {
        let choice = json!({
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": reason,
        });
        self.chunk(&json!([choice]), Value::Null)
    }

    /// The first piece of an answer says whose it is.
    fn open(&mut self, index: usize) -> String {
        let mut text = String::new();
        while self.choices.len() <= index {
            let role = json!({"role": "assistant", "content": ""});
            text += &self.delta(self.choices.len(), &role, &Value::Null, None);
            self.choices.push(Choice::default());
        }
        text
    }

    fn grow(&mut self, index: usize, grown: Grown) -> String {
        let mut text = String::new();
        let mut logprobs = self.shape.logprobs(&grown);
        self.choices[index].count(&grown);
        for part in grown.parts {
            let choice = &mut self.choices[index];
            let delta = match part {
                Part::Thinking(text) => {
                    choice.thinking.push_str(&text);
                    json!({"reasoning_content": text})
                }
                Part::Content(text) => json!({"content": text}),
                Part::Call(made) => {
                    choice.calls += 1;
                    json!({"tool_calls": [call(made, Some(choice.calls - 1))]})
                }
            };
            text += &self.delta(index, &delta, &logprobs.take(), None);
        }
        if !logprobs.is_null() && !grown.tokens.is_empty() {
            text += &self.delta(index, &json!({}), &logprobs, None);
        }
        text
    }
}

impl Writer for Stream {
    const MEDIA: &'static str = EVENTS;

    fn begin(&mut self) -> String {
        self.open(0)
    }

    fn step(&mut self, index: usize, step: Step) -> String {
        let (grown, ended) = match step {
            Step::Started { .. } | Step::Read(_) => return String::new(),
            Step::Prefill { done, total } => return prefill(done, total),
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => (grown, Some(ended)),
        };
        let mut text = self.open(index);
        text += &self.grow(index, grown);
        if let Some(ended) = ended {
            let choice = &self.choices[index];
            self.totals.add(&ended, index == 0, choice.reasoning());
            let reason = choice.reason(&ended);
            text += &self.delta(index, &json!({}), &Value::Null, Some(reason));
        }
        text
    }

    fn end(&mut self) -> String {
        let usage = if self.with_usage {
            self.chunk(&json!([]), self.totals.usage())
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
