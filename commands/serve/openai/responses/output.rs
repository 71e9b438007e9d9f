//! A response as it grows: its items, and the events that tell of them.

use serde_json::{Value, json};

use crate::parse::{Call, Part};
use crate::serve::answering::{Ended, Step};
use crate::serve::ids;
use crate::serve::stream::Writer;
use crate::wire::{Failure, Fault};

/// A response that grows.
pub(super) struct Output {
    /// All but its items.
    response: Value,
    items: Vec<Value>,
    events: u64,
    /// What is open: the last of the items.
    open: Option<Kind>,
    /// The text of the open item.
    text: String,
    /// Tokens before the first that is part of the answer.
    thought: usize,
    is_thinking: bool,
}

/// What an item is that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Thinking,
    Message,
}

impl Kind {
    /// An item without its text.
    fn item(self) -> Value {
        match self {
            Self::Thinking => json!({
                "id": ids::fresh("rs_"), "type": "reasoning", "status": "in_progress",
                "summary": [], "content": [],
            }),
            Self::Message => json!({
                "id": ids::fresh("msg_"), "type": "message", "status": "in_progress",
                "role": "assistant", "content": [],
            }),
        }
    }

    /// The part of an item that has its text.
    fn part(self, text: &str) -> Value {
        match self {
            Self::Thinking => json!({"type": "reasoning_text", "text": text}),
            Self::Message => json!({
                "type": "output_text", "text": text, "annotations": [], "logprobs": [],
            }),
        }
    }

    /// The names of its events begin so.
    fn name(self) -> &'static str {
        match self {
            Self::Thinking => "response.reasoning_text",
            Self::Message => "response.output_text",
        }
    }
}

impl Output {
    /// Of which nothing was produced yet.
    pub(super) fn new(response: Value) -> Self {
        Self {
            response,
            items: Vec::new(),
            events: 0,
            open: None,
            text: String::new(),
            thought: 0,
            is_thinking: false,
        }
    }

    fn event(&mut self, name: &str, fields: Value) -> String {
        let mut value = json!({"type": name, "sequence_number": self.events});
        self.events += 1;
        if let (Value::Object(all), Value::Object(fields)) = (&mut value, fields) {
            all.extend(fields);
        }
        format!("event: {name}\ndata: {value}\n\n")
    }

    /// As it stands.
    pub(super) fn response(&self) -> Value {
        let mut response = self.response.clone();
        response["output"] = self.items.clone().into();
        response
    }

    /// An event that tells the whole response.
    fn state(&mut self, name: &str) -> String {
        let response = self.response();
        self.event(name, json!({"response": response}))
    }

    /// Where the last item is, and its name.
    fn last(&self) -> (usize, Value) {
        let index = self.items.len().saturating_sub(1);
        let id = self.items.last().map(|item| item["id"].clone());
        (index, id.unwrap_or_default())
    }

    fn add(&mut self, item: &Value) -> String {
        self.items.push(item.clone());
        let (index, _) = self.last();
        let fields = json!({"output_index": index, "item": item});
        self.event("response.output_item.added", fields)
    }

    /// The last item is complete.
    fn complete(&mut self, item: Value) -> String {
        let (index, _) = self.last();
        let fields = json!({"output_index": index, "item": item});
        if let Some(last) = self.items.last_mut() {
            *last = item;
        }
        self.event("response.output_item.done", fields)
    }

    fn grow(&mut self, kind: Kind, text: &str) -> String {
        let mut events = String::new();
        if self.open != Some(kind) {
            events += &self.close("completed");
            self.open = Some(kind);
            self.is_thinking = kind == Kind::Thinking;
            events += &self.add(&kind.item());
            let (index, id) = self.last();
            let fields = json!({
                "item_id": id, "output_index": index, "content_index": 0, "part": kind.part(""),
            });
            events += &self.event("response.content_part.added", fields);
        }
        self.text += text;
        let (index, id) = self.last();
        let mut fields = json!({
            "item_id": id, "output_index": index, "content_index": 0, "delta": text,
        });
        if kind == Kind::Message {
            fields["logprobs"] = json!([]);
        }
        events + &self.event(&format!("{}.delta", kind.name()), fields)
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str) -> String {
        let Some(kind) = self.open.take() else {
            return String::new();
        };
        let text = std::mem::take(&mut self.text);
        let (index, id) = self.last();
        let place = |more: Value| {
            let mut fields = json!({"item_id": id, "output_index": index, "content_index": 0});
            if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
                fields.extend(more);
            }
            fields
        };
        let mut done = place(json!({"text": text}));
        if kind == Kind::Message {
            done["logprobs"] = json!([]);
        }
        let mut events = self.event(&format!("{}.done", kind.name()), done);
        let part = kind.part(&text);
        events += &self.event("response.content_part.done", place(json!({"part": part})));
        let mut item = self.items.last().cloned().unwrap_or_default();
        item["content"] = json!([part]);
        item["status"] = status.into();
        events + &self.complete(item)
    }

    fn call(&mut self, call: Call) -> String {
        let mut events = self.close("completed");
        self.is_thinking = false;
        let arguments = Value::Object(call.arguments).to_string();
        let mut item = json!({
            "id": ids::fresh("fc_"), "type": "function_call", "status": "in_progress",
            "call_id": ids::fresh("call_"), "name": call.name, "arguments": "",
        });
        events += &self.add(&item);
        let (index, id) = self.last();
        let delta = json!({"item_id": id, "output_index": index, "delta": arguments});
        events += &self.event("response.function_call_arguments.delta", delta);
        let done = json!({
            "item_id": id, "output_index": index, "name": call.name, "arguments": arguments,
        });
        events += &self.event("response.function_call_arguments.done", done);
        item["arguments"] = arguments.into();
        item["status"] = "completed".into();
        events + &self.complete(item)
    }

    fn done(&mut self, ended: &Ended) -> String {
        let status = if ended.is_whole() {
            "completed"
        } else {
            "incomplete"
        };
        let mut events = self.close(status);
        let (prompt, cached, completion) = ended.counts();
        self.response["status"] = status.into();
        if !ended.is_whole() {
            self.response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        self.response["usage"] = json!({
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": self.thought},
            "total_tokens": prompt + completion,
        });
        events += &self.state(&format!("response.{status}"));
        events
    }
}

impl Writer for Output {
    const MEDIA: &'static str = super::super::EVENTS;

    fn begin(&mut self) -> String {
        self.state("response.created") + &self.state("response.in_progress")
    }

    fn step(&mut self, _index: usize, step: Step) -> String {
        let (grown, ended) = match step {
            Step::Started { .. } | Step::Read(_) => return String::new(),
            Step::Prefill { done, total } => return super::super::prefill(done, total),
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => (grown, Some(ended)),
        };
        let mut events = String::new();
        let tokens = grown.tokens.len();
        for part in grown.parts {
            events += &match part {
                Part::Thinking(text) => self.grow(Kind::Thinking, &text),
                Part::Content(text) => self.grow(Kind::Message, &text),
                Part::Call(call) => self.call(call),
            };
        }
        if self.is_thinking {
            self.thought += tokens;
        }
        if let Some(ended) = ended {
            events += &self.done(&ended);
        }
        events
    }

    fn end(&mut self) -> String {
        String::new()
    }

    fn fail(&mut self, failure: &Failure) -> String {
        let code = match failure.fault {
            Fault::Context => "context_length_exceeded",
            _ => "server_error",
        };
        self.response["status"] = "failed".into();
        self.response["error"] = json!({"code": code, "message": failure.message});
        self.state("response.failed")
    }

    fn ping(&mut self) -> String {
        super::super::PING.to_owned()
    }
}
