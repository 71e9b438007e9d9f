//! An answer as the events of Anthropic's streams.

use serde_json::{Value, json};

use super::{SIGNATURE, Shape, stop, tool_use, usage};
use crate::parse::Part;
use crate::serve::answering::{Ended, Step};
use crate::serve::dialect::Dialect;
use crate::serve::stream::Writer;
use crate::wire::Failure;

/// An answer that is sent as it grows.
pub(super) struct Stream {
    shape: Shape,
    is_begun: bool,
    /// Blocks that were begun.
    blocks: usize,
    /// The kind of the block that is open.
    open: Option<Kind>,
    calls: bool,
}

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Thinking,
    Text,
}

impl Stream {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            is_begun: false,
            blocks: 0,
            open: None,
            calls: false,
        }
    }

    fn begin_message(&mut self, prompt: usize, cached: usize) -> String {
        self.is_begun = true;
        let none = (Value::Null, Value::Null);
        let message = self.shape.message(&[], &none, &usage(prompt, cached, 0));
        event("message_start", json!({"message": message}))
    }

    fn part(&mut self, part: Part) -> String {
        let (kind, text) = match part {
            Part::Thinking(text) => (Kind::Thinking, text),
            Part::Content(text) => (Kind::Text, text),
            Part::Call(call) => {
                self.calls = true;
                let mut written = self.close();
                written += &self.begin_block(&tool_use(&call, &json!({})));
                let input = Value::Object(call.arguments).to_string();
                written += &self.delta(&json!({"type": "input_json_delta", "partial_json": input}));
                return written + &self.end_block();
            }
        };
        let mut written = String::new();
        if self.open != Some(kind) {
            written += &self.close();
            self.open = Some(kind);
            written += &self.begin_block(&match kind {
                Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
                Kind::Text => json!({"type": "text", "text": ""}),
            });
        }
        written
            + &self.delta(&match kind {
                Kind::Thinking => json!({"type": "thinking_delta", "thinking": text}),
                Kind::Text => json!({"type": "text_delta", "text": text}),
            })
    }

    /// Ends the block that is open.
    fn close(&mut self) -> String {
        match self.open.take() {
            None => String::new(),
            Some(Kind::Text) => self.end_block(),
            Some(Kind::Thinking) => {
                let signed = json!({"type": "signature_delta", "signature": SIGNATURE});
                self.delta(&signed) + &self.end_block()
            }
        }
    }

    fn begin_block(&mut self, block: &Value) -> String {
        self.blocks += 1;
        let index = self.blocks - 1;
        event(
            "content_block_start",
            json!({"index": index, "content_block": block}),
        )
    }

    fn delta(&self, delta: &Value) -> String {
        let index = self.blocks.saturating_sub(1);
        event(
            "content_block_delta",
            json!({"index": index, "delta": delta}),
        )
    }

    fn end_block(&self) -> String {
        event(
            "content_block_stop",
            json!({"index": self.blocks.saturating_sub(1)}),
        )
    }

    fn end_message(&mut self, ended: &Ended) -> String {
        let (reason, sequence) = stop(ended, self.calls);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        let (prompt, cached, completion) = ended.counts();
        let usage = usage(prompt, cached, completion);
        event("message_delta", json!({"delta": delta, "usage": usage}))
            + &event("message_stop", json!({}))
    }
}

impl Writer for Stream {
    const MEDIA: &'static str = "text/event-stream; charset=utf-8";

    fn begin(&mut self) -> String {
        String::new()
    }

    fn step(&mut self, _index: usize, step: Step) -> String {
        let (grown, ended) = match step {
            Step::Started { prompt, cached } => return self.begin_message(prompt, cached),
            Step::Read(_) | Step::Prefill { .. } => return String::new(),
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => (grown, Some(ended)),
        };
        let mut written: String = grown
            .parts
            .into_iter()
            .map(|part| self.part(part))
            .collect();
        if let Some(ended) = ended {
            written += &self.close();
            written += &self.end_message(&ended);
        }
        written
    }

    fn end(&mut self) -> String {
        String::new()
    }

    fn fail(&mut self, failure: &Failure) -> String {
        let failure = Dialect::Anthropic.failure(failure);
        format!("event: error\ndata: {failure}\n\n")
    }

    fn ping(&mut self) -> String {
        if self.is_begun {
            event("ping", json!({}))
        } else {
            // Nothing may come before the message.
            ": keep-alive\n\n".to_owned()
        }
    }
}

/// An event, which says its name twice.
fn event(name: &str, fields: Value) -> String {
    let mut value = json!({"type": name});
    if let (Value::Object(all), Value::Object(fields)) = (&mut value, fields) {
        all.extend(fields);
    }
    format!("event: {name}\ndata: {value}\n\n")
}
