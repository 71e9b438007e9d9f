//! Ollama's dialect: `/api/chat`, `/api/generate` and what tells of models.

mod asked;
mod embed;
mod listed;
mod written;

use std::time::Duration;

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answering::{Answering, Step};
use super::asking::Asking;
use super::dialect::json_response;
use super::fields::Fields;
use super::form::ToolChoice;
use super::models::Slots;
use super::openai::chat::read_tools;
use super::question::{Conversation, Prompt, Question};
use crate::args::KeepAlive;
use crate::parse::Part;
use crate::wire::{Failure, Fault};
use written::{Form, Stream};

pub(super) use embed::{embed, embed_one};
pub(super) use listed::{processes, show, tags, version};

/// Answers a conversation.
///
/// # Errors
/// Where it is not one, or cannot be answered.
pub(super) async fn chat(asking: Asking, mut fields: Fields) -> Result<Response, Failure> {
    let head = Head::read(&mut fields)?;
    let conversation = Conversation {
        messages: asked::messages(fields.take("messages")?.unwrap_or_default())?,
        tools: read_tools(&mut fields)?,
        choice: ToolChoice::Free,
        arguments: asked::think(&mut fields)?,
    };
    let question = asked::options(&mut fields)?;
    asking.leave_out(fields)?;
    if conversation.messages.is_empty() {
        return head.load(&asking, Form::Chat).await;
    }
    let question = Question {
        prompt: Prompt::Chat(conversation),
        ..question
    };
    head.answer(&asking, question, Form::Chat).await
}

/// Answers a text.
///
/// # Errors
/// Where it cannot be answered.
pub(super) async fn generate(asking: Asking, mut fields: Fields) -> Result<Response, Failure> {
    let head = Head::read(&mut fields)?;
    let text: String = fields.take("prompt")?.unwrap_or_default();
    let is_raw = fields.take("raw")?.unwrap_or(false);
    let suffix: Option<String> = fields.take("suffix")?;
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    if is_raw || suffix.is_some() {
        // No template is filled in that could say it to the model.
        fields.expect("system", &[json!("")]);
        fields.expect("think", &[json!(false)]);
    }
    let system: Option<String> = fields.take("system")?;
    fields.expect("template", &[json!("")]);
    fields.expect("context", &[json!([])]);
    fields.expect("images", &[json!([])]);
    let arguments = asked::think(&mut fields)?;
    let question = asked::options(&mut fields)?;
    asking.leave_out(fields)?;
    if text.is_empty() {
        return head.load(&asking, Form::Generate).await;
    }
    let prompt = if let Some(after) = suffix {
        Prompt::Infill {
            before: text,
            after,
        }
    } else if is_raw {
        Prompt::Texts(vec![text])
    } else {
        Prompt::Chat(Conversation {
            messages: asked::framed(system, text),
            arguments,
            ..Conversation::default()
        })
    };
    let question = Question { prompt, ..question };
    head.answer(&asking, question, Form::Generate).await
}

/// What requests of both kinds say.
struct Head {
    model: Option<String>,
    is_streamed: bool,
    keep_alive: Option<Duration>,
}

impl Head {
    fn read(fields: &mut Fields) -> Result<Self, Failure> {
        Ok(Self {
            model: fields.take("model")?,
            is_streamed: fields.take("stream")?.unwrap_or(true),
            keep_alive: fields
                .take("keep_alive")?
                .map(read_keep_alive)
                .transpose()?,
        })
    }

    async fn answer(
        self,
        asking: &Asking,
        question: Question,
        form: Form,
    ) -> Result<Response, Failure> {
        let with_logprobs = question.logprobs.is_some();
        let lease = asking.lease(self.model.as_deref()).await?;
        self.keep(&asking.server.slots, &lease.served().name);
        let stream = Stream::new(form, lease.served(), with_logprobs);
        let answering = asking.begin(lease, question).await?;
        if self.is_streamed {
            super::stream::respond(answering, stream).await
        } else {
            whole(answering, stream).await
        }
    }

    /// A request without a prompt loads the model, or lets it go.
    async fn load(self, asking: &Asking, form: Form) -> Result<Response, Failure> {
        let slots = &asking.server.slots;
        let is_let_go = self.keep_alive == Some(Duration::ZERO);
        let name = if is_let_go {
            slots.names().find(self.model.as_deref())?.name
        } else {
            let lease = asking.lease(self.model.as_deref()).await?;
            lease.served().name.clone()
        };
        self.keep(slots, &name);
        let reason = if is_let_go { "unload" } else { "load" };
        Ok(json_response(&form.loaded(&name, reason)))
    }

    fn keep(&self, slots: &Slots, name: &str) {
        if let Some(keep_alive) = self.keep_alive {
            slots.keep(name, keep_alive);
        }
    }
}

/// Seconds, or a time with its unit; less than nothing is for ever.
fn read_keep_alive(value: Value) -> Result<Duration, Failure> {
    let refuse = |problem: String| Failure::field("keep_alive", problem);
    match value {
        Value::Number(seconds) => match seconds.as_f64() {
            Some(seconds @ ..0.0) if !seconds.is_nan() => Ok(Duration::MAX),
            Some(seconds) => {
                Duration::try_from_secs_f64(seconds).map_err(|error| refuse(error.to_string()))
            }
            None => Err(refuse("it is no number of seconds".to_owned())),
        },
        Value::String(text) if text.starts_with('-') => Ok(Duration::MAX),
        Value::String(text) => {
            let read: Result<KeepAlive, String> = text.parse();
            read.map(|KeepAlive(time)| time).map_err(refuse)
        }
        _ => Err(refuse("it is neither a number nor a time".to_owned())),
    }
}

/// Sends the answer when it is complete.
async fn whole(mut answering: Answering, mut stream: Stream) -> Result<Response, Failure> {
    let (mut thinking, mut content, mut calls) = (String::new(), String::new(), Vec::new());
    let mut logprobs = Vec::new();
    while let Some((_, step)) = answering.next().await? {
        let (grown, ended) = match step {
            Step::Started { .. } | Step::Read(_) | Step::Prefill { .. } => continue,
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => (grown, Some(ended)),
        };
        logprobs.extend(stream.logprobs(&grown.tokens));
        for part in grown.parts {
            match part {
                Part::Thinking(text) => thinking += &text,
                Part::Content(text) => content += &text,
                Part::Call(call) => calls.push(call),
            }
        }
        if let Some(ended) = ended {
            let said: Map<String, Value> = stream.said(content, thinking, calls, logprobs);
            return Ok(json_response(&stream.last(said, &ended)));
        }
    }
    Err(Failure::new(Fault::Internal, "the answer has no end"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::read_keep_alive;

    #[test]
    fn times_are_read_as_ollamas_clients_write_them() {
        assert_eq!(read_keep_alive(json!(300)), Ok(Duration::from_secs(300)));
        assert_eq!(read_keep_alive(json!(0)), Ok(Duration::ZERO));
        assert_eq!(read_keep_alive(json!(-1)), Ok(Duration::MAX));
        assert_eq!(read_keep_alive(json!("-1m")), Ok(Duration::MAX));
        assert_eq!(read_keep_alive(json!("5m")), Ok(Duration::from_secs(300)));
        assert!(read_keep_alive(json!("soon")).is_err());
        assert!(read_keep_alive(json!([1])).is_err());
    }
}
