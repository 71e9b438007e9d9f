//! What a client asks, whichever dialect it speaks, and what the engine is asked for it.

use std::sync::Arc;

use jiff::Zoned;
use mlxr::constraint::Constraint;
use mlxr::engine::request::{Reading, Request};
use mlxr::sample::Sampling;
use mlxr::tokenizer::{Bos, Chat, Ending, Message, Special, Tokenizer};
use serde_json::{Map, Value};

use super::form::ToolChoice;
use super::infill;
use super::models::Served;
use crate::args::SamplingArgs;
use crate::parse::{Family, Parser, Tool};
use crate::wire::{Failure, Fault};

/// What a client asks.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) prompt: Prompt,
    pub(super) sampling: SamplingArgs,
    /// Added to the logits of these tokens.
    pub(super) logit_bias: Vec<(u32, f32)>,
    /// How many of the likeliest tokens are told of beside each one, where that is asked.
    pub(super) logprobs: Option<usize>,
    /// Whether the tokens of the prompts are told of as well.
    pub(super) is_scored: bool,
    /// The states after the prompts are asked for, not answers.
    pub(super) is_embedded: bool,
    /// Prompts that are too long are cut at their end.
    pub(super) is_cut: bool,
    /// Texts that end the answer.
    pub(super) stop: Vec<String>,
    /// Tokens to produce at most.
    pub(super) limit: Option<usize>,
    /// Tokens of prompt and answer together; no more than the model allows.
    pub(super) context: Option<usize>,
    /// Answers to each prompt.
    pub(super) choices: usize,
    /// No more than one tool may be called.
    pub(super) one_call: bool,
    /// What the answer must look like.
    pub(super) constraint: Option<Constraint>,
}

/// What is to be answered or gone on with.
#[derive(Debug)]
pub(super) enum Prompt {
    /// A conversation.
    Chat(Conversation),
    /// Texts, each with answers of its own.
    Texts(Vec<String>),
    /// Tokens, each list with answers of its own.
    Tokens(Vec<Vec<u32>>),
    /// What is between two texts.
    Infill { before: String, after: String },
}

impl Prompt {
    /// Reads a text or a list of tokens, or a list of either.
    ///
    /// # Errors
    /// Where it is none of them; `name` is the field's.
    pub(super) fn read(name: &str, value: Value) -> Result<Self, Failure> {
        let not_tokens = |error: serde_json::Error| Failure::field(name, error);
        match value {
            Value::String(text) => Ok(Self::Texts(vec![text])),
            Value::Array(list) if list.is_empty() => Ok(Self::Texts(Vec::new())),
            Value::Array(list) if list.iter().all(Value::is_string) => {
                let texts = list.into_iter();
                let texts = texts.filter_map(|text| Some(text.as_str()?.to_owned()));
                Ok(Self::Texts(texts.collect()))
            }
            Value::Array(list) if list.iter().all(Value::is_array) => {
                let lists = serde_json::from_value(list.into());
                lists.map(Self::Tokens).map_err(not_tokens)
            }
            other => {
                let list = serde_json::from_value(other).map_err(not_tokens)?;
                Ok(Self::Tokens(vec![list]))
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(lists) => lists.len(),
            Self::Chat(_) | Self::Infill { .. } => 1,
        }
    }

    /// What the engine is asked for each, beside what it is asked in any case.
    ///
    /// # Errors
    /// Where one cannot be rendered or encoded.
    fn asked(
        self,
        tokenizer: &Tokenizer,
        base: Request,
        is_embedded: bool,
    ) -> Result<Vec<AskedPrompt>, Failure> {
        let invalid = |error: mlxr::Error| Failure::of(&error);
        let mut prompts: Vec<AskedPrompt> = Vec::new();
        match self {
            Self::Chat(conversation) => prompts.push(conversation.asked(tokenizer, base)?),
            Self::Texts(texts) => {
                for text in texts {
                    let tokens = if is_embedded {
                        tokenizer.encode_whole(&text)
                    } else {
                        tokenizer.encode(&text, Bos::Auto)
                    };
                    let request = Request {
                        tokens: tokens.map_err(invalid)?,
                        ..base.clone()
                    };
                    prompts.push((request, Family::Plain, Vec::new(), text));
                }
            }
            Self::Infill { before, after } => {
                let text = infill::prompt(tokenizer, &before, &after)?;
                let tokens = tokenizer.encode(&text, Bos::Auto).map_err(invalid)?;
                let request = Request { tokens, ..base };
                prompts.push((request, Family::Plain, Vec::new(), before));
            }
            Self::Tokens(lists) => {
                for tokens in lists {
                    if let Some(id) = tokens.iter().find(|id| tokenizer.piece(**id).is_none()) {
                        let name = if is_embedded { "input" } else { "prompt" };
                        return Err(Failure::field(name, format!("there is no token {id}")));
                    }
                    let text = tokenizer.decode(&tokens, Special::Show);
                    let request = Request {
                        tokens,
                        ..base.clone()
                    };
                    prompts.push((request, Family::Plain, Vec::new(), text));
                }
            }
        }
        Ok(prompts)
    }
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Texts(Vec::new())
    }
}

/// Messages, and what belongs to them.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// The tools that may be called, in OpenAI's form.
    pub(super) tools: Vec<Value>,
    /// Which of them must be called.
    pub(super) choice: ToolChoice,
    /// Variables of the chat template.
    pub(super) arguments: Map<String, Value>,
}

/// What the engine is asked, and what reads its answers.
pub(super) struct Prepared {
    /// One for each answer: those to the first prompt, then those to the second …
    pub(super) requests: Vec<Request>,
    pub(super) parsers: Vec<Parser>,
    pub(super) prompts: Vec<Said>,
    /// No more than one tool may be called.
    pub(super) one_call: bool,
}

/// A prompt as it was asked.
pub(super) struct Said {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
}

impl Question {
    /// Renders and encodes it. Takes a while where it is long.
    ///
    /// # Errors
    /// Where the prompt cannot be rendered, is empty, or does not fit.
    pub(super) fn prepare(self, served: &Arc<Served>) -> Result<Prepared, Failure> {
        let tokenizer = &served.read.tokenizer;
        let base = Request {
            sampling: Sampling {
                logit_bias: self.logit_bias,
                logprobs: self.logprobs,
                ..self.sampling.over(&served.read.sampling)
            },
            stop: self.stop,
            limit: self.limit,
            constraint: self.constraint,
            context: self
                .context
                .map(|context| context.min(served.child.facts().context)),
            ..Request::default()
        };
        let prompts = self.prompt.asked(tokenizer, base, self.is_embedded)?;
        let context = served.child.facts().context;
        let mut prepared = Prepared {
            requests: Vec::new(),
            parsers: Vec::new(),
            prompts: Vec::new(),
            one_call: self.one_call,
        };
        let scores = self.logprobs.filter(|_| self.is_scored);
        for (mut request, family, tools, text) in prompts {
            if self.is_cut {
                let room = request.context.unwrap_or(context);
                request.tokens.truncate(room.saturating_sub(1));
            }
            request
                .check(context)
                .map_err(|error| Failure::of(&error))?;
            for choice in 0..self.choices.max(1) {
                let mut request = request.clone();
                // They are the same for all answers.
                request.reading = scores.filter(|_| choice == 0).map(Reading::Scores);
                if self.is_embedded {
                    request.reading = Some(Reading::State);
                }
                // Each draws for itself.
                let seed = request.sampling.seed;
                request.sampling.seed = seed.map(|seed| seed.wrapping_add(choice as u64));
                prepared.requests.push(request);
                prepared
                    .parsers
                    .push(Parser::new(family, &text, tools.clone()));
            }
            let tokens = request.tokens;
            prepared.prompts.push(Said { text, tokens });
        }
        if prepared.requests.is_empty() {
            return Err(Failure::new(Fault::Invalid, "the prompt is empty"));
        }
        Ok(prepared)
    }

    /// How many tokens its prompts have, be they too many for the model or not.
    ///
    /// # Errors
    /// Where they cannot be rendered.
    pub(super) fn count(self, served: &Served) -> Result<usize, Failure> {
        let tokenizer = &served.read.tokenizer;
        let asked = self
            .prompt
            .asked(tokenizer, Request::default(), self.is_embedded)?;
        Ok(asked.iter().map(|(request, ..)| request.tokens.len()).sum())
    }
}

/// One prompt: what the engine is asked, what reads the answer, and the text.
type AskedPrompt = (Request, Family, Vec<Tool>, String);

impl Conversation {
    /// What the engine is asked beside what is asked in any case.
    fn asked(self, tokenizer: &Tokenizer, base: Request) -> Result<AskedPrompt, Failure> {
        let invalid = |error: mlxr::Error| Failure::of(&error);
        let choice = self.choice.clone();
        let chat = self.chat();
        let family = Family::of_template(tokenizer.chat_template().map_err(invalid)?.source());
        let prompt = tokenizer.encode_chat(&chat).map_err(invalid)?;
        let tools: Vec<Tool> = chat.tools.iter().filter_map(Tool::of).collect();
        let constraint = forced(family, &tools, &choice)?.or(base.constraint);
        let after = family.before_answer(&prompt.text);
        let request = Request {
            constraint_after: after.filter(|_| constraint.is_some()).map(str::to_owned),
            constraint,
            tokens: prompt.tokens,
            joints: prompt.joints,
            special: if family.has_special_tags() {
                Special::Show
            } else {
                Special::Hide
            },
            ..base
        };
        Ok((request, family, tools, prompt.text))
    }

    /// As the template takes it: a conversation that ends with the assistant is gone on with.
    pub(super) fn chat(mut self) -> Chat {
        if self.choice == ToolChoice::None {
            self.tools.clear();
        }
        let last = self.messages.last();
        let goes_on = last
            .is_some_and(|last| last.0.get("role").and_then(Value::as_str) == Some("assistant"));
        Chat {
            tools: self.tools,
            arguments: self.arguments,
            ending: if goes_on {
                Ending::Continue
            } else {
                Ending::Answer
            },
            ..Chat::new(self.messages, Zoned::now().datetime())
        }
    }
}

/// The call that a model has to make, if it has to.
fn forced(
    family: Family,
    tools: &[Tool],
    choice: &ToolChoice,
) -> Result<Option<Constraint>, Failure> {
    let refuse = |problem: &str| Err(Failure::field("tool_choice", problem));
    let named: Vec<Tool> = match choice {
        ToolChoice::Free | ToolChoice::None => return Ok(None),
        ToolChoice::Any => tools.to_vec(),
        ToolChoice::Named(name) => tools
            .iter()
            .filter(|tool| tool.name == *name)
            .cloned()
            .collect(),
    };
    if named.is_empty() {
        return refuse("there is no such tool");
    }
    let Some(forced) = family.forced_call(&named) else {
        return refuse(
            "this model cannot be made to call: its way of writing calls is not one of JSON",
        );
    };
    Ok(Some(Constraint::Framed {
        before: forced.before.to_owned(),
        schema: forced.schema,
        after: forced.after.to_owned(),
    }))
}
