//! Answers as Ollama's clients read them: lines of JSON.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mlxr::engine::request::{Finish, Token};
use serde_json::{Map, Value, json};

use crate::parse::{Call, Part};
use crate::serve::answering::{Ended, Grown, Step};
use crate::serve::dialect::Dialect;
use crate::serve::models::Served;
use crate::serve::stream::Writer;
use crate::wire::Failure;

/// Where the text of an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In a message.
    Chat,
    /// In a field of its own.
    Generate,
}

impl Form {
    /// The answer to a request without a prompt.
    pub(super) fn loaded(self, model: &str, reason: &str) -> Value {
        let mut line = head(model);
        line.extend(self.said(String::new(), String::new(), Vec::new()));
        line.insert("done".to_owned(), true.into());
        line.insert("done_reason".to_owned(), reason.into());
        line.into()
    }

    fn said(self, content: String, thinking: String, calls: Vec<Call>) -> Map<String, Value> {
        let (mut message, name) = match self {
            Self::Chat => (json!({"role": "assistant"}), "content"),
            Self::Generate => (json!({}), "response"),
        };
        message[name] = content.into();
        if !thinking.is_empty() {
            message["thinking"] = thinking.into();
        }
        if !calls.is_empty() {
            let call =
                |call: Call| json!({"function": {"name": call.name, "arguments": call.arguments}});
            message["tool_calls"] = calls.into_iter().map(call).collect();
        }
        match (self, message) {
            (Self::Chat, message) => Map::from_iter([("message".to_owned(), message)]),
            (Self::Generate, Value::Object(fields)) => fields,
            (Self::Generate, _) => Map::new(),
        }
    }
}

/// What every line begins with.
fn head(model: &str) -> Map<String, Value> {
    Map::from_iter([
        ("model".to_owned(), model.into()),
        ("created_at".to_owned(), Timestamp::now().to_string().into()),
    ])
}

/// An answer that is sent as it grows.
pub(super) struct Stream {
    form: Form,
    served: Arc<Served>,
    with_logprobs: bool,
    since: Instant,
}

impl Stream {
    pub(super) fn new(form: Form, served: &Arc<Served>, with_logprobs: bool) -> Self {
        Self {
            form,
            served: Arc::clone(served),
            with_logprobs,
            since: Instant::now(),
        }
    }

    /// The log-probabilities of tokens, if they are asked for.
    pub(super) fn logprobs(&self, tokens: &[Token]) -> Vec<Value> {
        let entry = |id: u32, logprob: f32| {
            let bytes = self.served.read.tokenizer.piece(id).unwrap_or_default();
            json!({
                "token": String::from_utf8_lossy(bytes),
                "logprob": logprob,
                "bytes": bytes,
            })
        };
        let told = tokens
            .iter()
            .filter(|_| self.with_logprobs)
            .filter_map(|token| {
                let logprobs = token.logprobs.as_ref()?;
                let mut value = entry(token.id, logprobs.chosen);
                if !logprobs.top.is_empty() {
                    let top = logprobs
                        .top
                        .iter()
                        .map(|(id, logprob)| entry(*id, *logprob));
                    value["top_logprobs"] = top.collect();
                }
                Some(value)
            });
        told.collect()
    }

    /// What was said, as fields of a line.
    pub(super) fn said(
        &self,
        content: String,
        thinking: String,
        calls: Vec<Call>,
        logprobs: Vec<Value>,
    ) -> Map<String, Value> {
        let mut said = self.form.said(content, thinking, calls);
        if !logprobs.is_empty() {
            said.insert("logprobs".to_owned(), logprobs.into());
        }
        said
    }

    /// The last line, with what was said last.
    pub(super) fn last(&mut self, said: Map<String, Value>, ended: &Ended) -> Value {
        let reason = match ended.finish {
            Finish::Eos(_) | Finish::Complete | Finish::Stop(_) => "stop",
            Finish::Length | Finish::Memory | Finish::Cancelled => "length",
        };
        let (prompt, cached, completion) = ended.counts();
        let timings = ended.timings;
        let mut line = head(&self.served.name);
        line.extend(said);
        let figures = json!({
            "done": true,
            "done_reason": reason,
            "total_duration": nanoseconds(self.since.elapsed()),
            "load_duration": nanoseconds(timings.queued),
            "prompt_eval_count": prompt,
            "prompt_eval_cached_count": cached,
            "prompt_eval_duration": nanoseconds(timings.prompt),
            "eval_count": completion,
            "eval_duration": nanoseconds(timings.decode),
        });
        if let Value::Object(figures) = figures {
            line.extend(figures);
        }
        line.into()
    }

    fn line(&self, said: Map<String, Value>) -> String {
        let mut line = head(&self.served.name);
        line.extend(said);
        line.insert("done".to_owned(), false.into());
        format!("{}\n", Value::from(line))
    }

    /// A line for each part. Log-probabilities go with the first.
    fn grown(&self, grown: Grown) -> String {
        let mut logprobs = self.logprobs(&grown.tokens);
        let mut lines = String::new();
        for part in grown.parts {
            let logprobs = std::mem::take(&mut logprobs);
            let none = String::new;
            let said = match part {
                Part::Thinking(text) => self.said(none(), text, Vec::new(), logprobs),
                Part::Content(text) => self.said(text, none(), Vec::new(), logprobs),
                Part::Call(call) => self.said(none(), none(), vec![call], logprobs),
            };
            lines += &self.line(said);
        }
        if !logprobs.is_empty() {
            lines += &self.line(self.said(String::new(), String::new(), Vec::new(), logprobs));
        }
        lines
    }
}

impl Writer for Stream {
    const MEDIA: &'static str = "application/x-ndjson";

    fn begin(&mut self) -> String {
        String::new()
    }

    fn step(&mut self, _index: usize, step: Step) -> String {
        match step {
            Step::Started { .. } | Step::Read(_) | Step::Prefill { .. } => String::new(),
            Step::Grown(grown) => self.grown(grown),
            Step::Done(grown, ended) => {
                let lines = self.grown(grown);
                let said = self.form.said(String::new(), String::new(), Vec::new());
                lines + &format!("{}\n", self.last(said, &ended))
            }
        }
    }

    fn end(&mut self) -> String {
        String::new()
    }

    fn fail(&mut self, failure: &Failure) -> String {
        format!("{}\n", Dialect::Ollama.failure(failure))
    }

    fn ping(&mut self) -> String {
        // There is no line that says nothing.
        String::new()
    }
}

/// Times as Ollama's clients read them.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
