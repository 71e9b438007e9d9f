//! What is asked of the model: from flags or from a line of JSON, made into a request of the engine.

pub(crate) mod constraint;
pub(crate) mod prompt;

use jiff::Zoned;
use mlxr::constraint::Constraint;
use mlxr::engine::request::Request;
use mlxr::tokenizer::{Bos, Chat, Ending, Message, Special};
use mlxr::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::args::{FramingArgs, SamplingArgs, Think};
use crate::model::Model;
use crate::parse::{Family, Parser};

/// How to answer, whatever the prompt is.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    raw: bool,
    system: Option<String>,
    prefill: Option<String>,
    template_args: Map<String, Value>,
    sampling: SamplingArgs,
    stop: Vec<String>,
    limit: Option<usize>,
    context: Option<usize>,
    constraint: Option<Constraint>,
}

/// What to answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Prompt {
    /// A text of the user.
    Text(String),
    /// A conversation, oldest first. One that ends with the assistant is continued.
    Messages(Vec<Message>),
}

impl Ask {
    /// As the flags say.
    ///
    /// # Errors
    /// [`Error::Sampling`] where a flag means nothing.
    pub(crate) fn new(framing: &FramingArgs, sampling: &SamplingArgs) -> Result<Self> {
        sampling.over(&mlxr::sample::Sampling::default()).check()?;
        let think = framing.think.map(Think::template_args).unwrap_or_default();
        let think = think
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        Ok(Self {
            raw: framing.raw,
            system: framing.system.clone(),
            prefill: framing.prefill.clone(),
            template_args: think.chain(framing.template_arg.iter().cloned()).collect(),
            sampling: sampling.clone(),
            stop: Vec::new(),
            limit: None,
            context: None,
            constraint: None,
        })
    }

    /// With these ends of an answer: texts that stop it, tokens of its own, and those of prompt and answer.
    pub(crate) fn ending(
        self,
        stop: Vec<String>,
        limit: Option<usize>,
        context: Option<usize>,
    ) -> Self {
        Self {
            stop,
            limit,
            context,
            ..self
        }
    }

    /// With answers that must look like this.
    pub(crate) fn along(self, constraint: Option<Constraint>) -> Self {
        Self { constraint, ..self }
    }

    /// The request for the engine, and what tells the thinking in its answer.
    ///
    /// # Errors
    /// Where the prompt cannot be rendered or encoded.
    pub(crate) fn request(&self, prompt: Prompt, model: &Model) -> Result<(Request, Parser)> {
        let mut request = Request {
            sampling: self.sampling.over(&model.sampling),
            stop: self.stop.clone(),
            limit: self.limit,
            context: self.context,
            constraint: self.constraint.clone(),
            ..Request::default()
        };
        if self.raw {
            let Prompt::Text(text) = prompt else {
                return refuse(
                    "messages",
                    "they need the chat template, so they exclude --raw",
                );
            };
            request.tokens = model.tokenizer.encode(&text, Bos::Auto)?;
            return Ok((request, Parser::new(Family::Plain, "", Vec::new())));
        }
        let mut chat = Chat::new(self.messages(prompt)?, Zoned::now().datetime());
        if role(chat.messages.last()) == Some("assistant") {
            chat.ending = Ending::Continue;
        }
        chat.arguments.clone_from(&self.template_args);
        let prompt = model.tokenizer.encode_chat(&chat)?;
        request.tokens = prompt.tokens;
        request.joints = prompt.joints;
        let family = Family::of_template(model.tokenizer.chat_template()?.source());
        if family.has_special_tags() {
            request.special = Special::Show;
        }
        if request.constraint.is_some() {
            request.constraint_after = family.before_answer(&prompt.text).map(str::to_owned);
        }
        Ok((request, Parser::new(family, &prompt.text, Vec::new())))
    }

    /// The message that an answer of this text is.
    pub(crate) fn said(&self, text: &str) -> Message {
        Message::new(
            "assistant",
            format!("{}{text}", self.prefill.as_deref().unwrap_or_default()),
        )
    }

    fn messages(&self, prompt: Prompt) -> Result<Vec<Message>> {
        let mut messages = match prompt {
            Prompt::Text(text) => vec![Message::new("user", text)],
            Prompt::Messages(messages) => messages,
        };
        if messages.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some(system) = &self.system
            && role(messages.first()) != Some("system")
        {
            messages.insert(0, Message::new("system", system));
        }
        if let Some(prefill) = &self.prefill {
            if role(messages.last()) == Some("assistant") {
                return refuse(
                    "prefill",
                    "the last message is one of the assistant already",
                );
            }
            messages.push(Message::new("assistant", prefill));
        }
        Ok(messages)
    }

    /// What a request written as a JSON object asks; what it leaves out is as here.
    ///
    /// # Errors
    /// [`Error::Request`] that names the field.
    pub(crate) fn read(&self, mut row: Map<String, Value>) -> Result<(Prompt, Self)> {
        let row = &mut row;
        let prompt = match (field(row, "prompt")?, field(row, "messages")?) {
            (Some(text), None) => Prompt::Text(text),
            (None, Some(messages)) => Prompt::Messages(messages),
            (Some(_), Some(_)) => return refuse("messages", "given together with `prompt`"),
            (None, None) => return refuse("request", "neither `prompt` nor `messages` is given"),
        };
        let stop = match row.remove("stop") {
            Some(Value::String(text)) => Some(vec![text]),
            Some(other) => value("stop", other)?,
            None => None,
        };
        let constraint = constraint::of(field(row, "schema")?, field(row, "choices")?)?;
        let limit = field(row, "max_tokens")?;
        if limit == Some(0) {
            return refuse("max_tokens", "must be at least 1");
        }
        let sampling = SamplingArgs {
            temperature: field(row, "temperature")?,
            top_k: field(row, "top_k")?,
            top_p: field(row, "top_p")?,
            min_p: field(row, "min_p")?,
            repeat_penalty: field(row, "repeat_penalty")?,
            repeat_last_n: field(row, "repeat_last_n")?,
            presence_penalty: field(row, "presence_penalty")?,
            frequency_penalty: field(row, "frequency_penalty")?,
            seed: field(row, "seed")?,
        };
        if sampling.repeat_last_n.is_some_and(|count| count < -1) {
            return refuse("repeat_last_n", "must be at least -1");
        }
        let ask = Self {
            system: field(row, "system")?.or_else(|| self.system.clone()),
            prefill: field(row, "prefill")?.or_else(|| self.prefill.clone()),
            sampling: sampling.or(&self.sampling),
            stop: stop.unwrap_or_else(|| self.stop.clone()),
            limit: limit.or(self.limit),
            constraint: constraint.or_else(|| self.constraint.clone()),
            ..self.clone()
        };
        match row.keys().next() {
            Some(unknown) => refuse("request", format!("unknown field `{unknown}`")),
            None => Ok((prompt, ask)),
        }
    }
}

/// Takes a field out of a request; `null` is the same as nothing.
fn field<T: DeserializeOwned>(
    row: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>> {
    row.remove(name)
        .map_or(Ok(None), |content| value(name, content))
}

fn value<T: DeserializeOwned>(name: &'static str, content: Value) -> Result<Option<T>> {
    serde_json::from_value(content).map_err(|error| Error::Request {
        field: name,
        problem: error.to_string(),
    })
}

fn refuse<T>(field: &'static str, problem: impl Into<String>) -> Result<T> {
    Err(Error::Request {
        field,
        problem: problem.into(),
    })
}

fn role(message: Option<&Message>) -> Option<&str> {
    message?.0.get("role")?.as_str()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use mlxr::Result;
    use mlxr::constraint::Constraint;
    use mlxr::sample::Sampling;
    use mlxr::tokenizer::Message;
    use serde_json::{Value, json};

    use super::{Ask, Prompt};
    use crate::args::{Cli, Command};

    fn flags(words: &[&str]) -> Ask {
        let Command::Run(run) = Cli::try_parse_from([&["mlxr", "run"], words].concat())
            .unwrap()
            .command
        else {
            panic!("another command")
        };
        let ask = Ask::new(&run.framing, &run.sampling).unwrap();
        ask.ending(run.stop, run.max_tokens, run.ctx)
    }

    fn read(ask: &Ask, row: Value) -> Result<(Prompt, Ask)> {
        let Value::Object(row) = row else {
            panic!("not an object")
        };
        ask.read(row)
    }

    #[test]
    fn a_row_overrides_flags() {
        let flags = flags(&[
            "-t", "0.5", "--top-k", "7", "-n", "9", "--stop", "a", "-s", "S",
        ]);
        let row = json!({"prompt": "P", "temperature": 0.25, "stop": "b", "seed": null});
        let (prompt, ask) = read(&flags, row).unwrap();
        assert_eq!(prompt, Prompt::Text("P".into()));
        let sampling = ask.sampling.over(&Sampling::default());
        assert_eq!(
            (sampling.temperature, sampling.top_k, sampling.seed),
            (0.25, 7, None)
        );
        assert_eq!(
            (ask.stop, ask.limit, ask.system),
            (vec!["b".into()], Some(9), Some("S".into()))
        );
    }

    #[test]
    fn a_row_s_form_of_the_answer_replaces_that_of_the_flags() {
        let chosen = Constraint::Choices(vec!["a".into()]);
        let flags = flags(&[]).along(Some(chosen.clone()));
        let of = |row: Value| read(&flags, row).unwrap().1.constraint;
        assert_eq!(of(json!({"prompt": "P", "schema": null})), Some(chosen));
        let schema = Some(Constraint::JsonSchema(json!({"type": "null"})));
        assert_eq!(
            of(json!({"prompt": "P", "schema": {"type": "null"}})),
            schema
        );
    }

    #[test]
    fn a_bad_row_is_refused_by_field() {
        let check = |row: Value, wanted: &str| {
            let error = read(&flags(&[]), row).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        };
        check(json!({}), "request: neither `prompt` nor `messages`");
        check(json!({"prompt": "a", "messages": []}), "messages: ");
        check(
            json!({"prompt": "a", "top_n": 3}),
            "request: unknown field `top_n`",
        );
        check(json!({"prompt": 3}), "prompt: invalid type");
        check(json!({"prompt": "a", "stop": 3}), "stop: invalid type");
        check(json!({"prompt": "a", "top_k": -1}), "top_k: invalid value");
        check(json!({"prompt": "a", "max_tokens": 0}), "max_tokens: ");
        check(
            json!({"prompt": "a", "choices": "a"}),
            "choices: invalid type",
        );
        check(
            json!({"prompt": "a", "choices": ["a"], "schema": {}}),
            "choices: given together",
        );
        check(
            json!({"prompt": "a", "repeat_last_n": -2}),
            "repeat_last_n: ",
        );
        check(json!({"messages": ["a"]}), "messages: invalid type");
    }

    #[test]
    fn system_and_prefill_frame_the_messages() {
        let ask = flags(&["-s", "S", "--prefill", "A"]);
        let framed = ask.messages(Prompt::Text("U".into())).unwrap();
        let wanted = [("system", "S"), ("user", "U"), ("assistant", "A")];
        assert_eq!(framed, wanted.map(|(role, text)| Message::new(role, text)));

        let own = vec![Message::new("system", "own"), Message::new("user", "U")];
        let kept = flags(&["-s", "S"])
            .messages(Prompt::Messages(own.clone()))
            .unwrap();
        assert_eq!(kept, own);
        let open = vec![Message::new("assistant", "A")];
        assert!(ask.messages(Prompt::Messages(open)).is_err());
    }

    #[test]
    fn thinking_reaches_the_template_and_a_named_variable_beats_it() {
        let ask = flags(&["--think=low", "--template-arg", "enable_thinking=false"]);
        let wanted = json!({"enable_thinking": false, "reasoning_effort": "low"});
        assert_eq!(Value::Object(ask.template_args), wanted);
    }
}
