//! Messages to text by the model's own template. Knows nothing of token ids.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::companions::{Companions, read_object};
use super::program::Program;
use super::python;
use crate::error::{Error, Result};
use crate::files::ModelFiles;

/// One message of a chat, given to the template as it is: `role`, `content` (a text, a list of
/// parts, or null) and whatever else there is, such as `tool_calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(pub Map<String, Value>);

impl Message {
    /// A message of plain text.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self(Map::from_iter([
            ("role".to_owned(), Value::from(role)),
            ("content".to_owned(), Value::from(content.into())),
        ]))
    }
}

/// How a rendered chat ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Ready for the model's answer.
    Answer,
    /// Open after the text of the last message, which the model goes on with.
    Continue,
    /// After the last message.
    Closed,
}

/// What a chat template is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call, as JSON schemas; the template sees an empty list as none.
    pub tools: Vec<Value>,
    /// Documents to answer from; the template sees an empty list as none.
    pub documents: Vec<Value>,
    /// Further variables of this model's template, such as `enable_thinking`.
    pub arguments: Map<String, Value>,
    /// How the text ends.
    pub ending: Ending,
    /// The local time, for templates that write the date.
    pub now: DateTime,
}

impl Chat {
    /// Messages that the model is to answer, without tools.
    pub fn new(messages: Vec<Message>, now: DateTime) -> Self {
        Self {
            messages,
            tools: Vec::new(),
            documents: Vec::new(),
            arguments: Map::new(),
            ending: Ending::Answer,
            now,
        }
    }
}

/// The file that goes before the template in `tokenizer_config.json`.
const OWN_FILE: &str = "chat_template.jinja";

/// The variables that a chat itself fills.
const RESERVED: [&str; 5] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "strftime_now",
];

/// Marks where a message stops that is to be continued. The space at its end shows whether the
/// template keeps white space there.
const OPEN_END: &str = "\u{F8FF}open end\u{F8FF} ";

/// How many message ends are looked for at the end of a chat. Each costs one rendering.
const LAST_ENDS: usize = 16;

/// A chat template: a Jinja program that the model's makers wrote for Python's renderer.
#[derive(Debug)]
pub struct ChatTemplate {
    default: Program,
    /// Used when there are tools.
    tool_use: Option<Program>,
    special_tokens: Map<String, Value>,
    /// All that is compiled above.
    source: String,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables such as `bos_token`.
    ///
    /// # Errors
    /// [`Error::Template`] where the source is not a template.
    pub fn new(source: &str, special_tokens: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            default: Program::compile(source)?,
            tool_use: None,
            special_tokens,
            source: source.to_owned(),
        })
    }

    /// The text of the template; of one for tools too, where there are two.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Finds the template among a model's files. What is inside and no template is the inner
    /// error: it matters only to those who want to use it.
    pub(super) fn find(
        files: &ModelFiles,
        companions: &Companions<'_>,
    ) -> Result<Option<Result<Self, String>>> {
        let source = match files.read(OWN_FILE)? {
            Some(bytes) => match str::from_utf8(&bytes) {
                Ok(source) => Some(Value::from(source)),
                Err(error) => {
                    let offset = error.valid_up_to();
                    return Ok(Some(Err(format!(
                        "{OWN_FILE} is not valid UTF-8 at byte {offset}"
                    ))));
                }
            },
            None => match companions.tokenizer_config.get("chat_template") {
                Some(source) => Some(source.clone()),
                None => read_object(files, "chat_template.json")?.remove("chat_template"),
            },
        };
        Ok(source.filter(|source| !source.is_null()).map(|source| {
            Self::from_config(&source, companions.special_tokens()).map_err(|error| match error {
                Error::Template(problem) => problem,
                other => other.to_string(),
            })
        }))
    }

    /// `source` is one template, or a list of named ones.
    fn from_config(source: &Value, special_tokens: Map<String, Value>) -> Result<Self> {
        if let Some(source) = source.as_str() {
            return Self::new(source, special_tokens);
        }
        let named = |name: &str| {
            let template = source
                .as_array()?
                .iter()
                .find(|entry| entry["name"] == name)?;
            template["template"].as_str()
        };
        let default = named("default")
            .ok_or_else(|| Error::Template("no template is named `default`".to_owned()))?;
        Ok(Self {
            default: Program::compile(default)?,
            tool_use: named("tool_use").map(Program::compile).transpose()?,
            special_tokens,
            source: [default, named("tool_use").unwrap_or_default()].concat(),
        })
    }

    /// The text of a chat.
    ///
    /// # Errors
    /// [`Error::Template`] where the template raises an error, fails or does not end, or where the
    /// last message cannot be continued as asked; [`Error::Request`] where an argument has the name
    /// of a variable that the chat fills itself.
    pub fn render(&self, chat: &Chat) -> Result<String> {
        if let Some(name) = chat
            .arguments
            .keys()
            .find(|name| RESERVED.contains(&name.as_str()))
        {
            return Err(Error::Request {
                field: "template argument",
                problem: format!("`{name}` is filled by the chat itself"),
            });
        }
        match chat.ending {
            Ending::Answer => self.render_messages(chat, &chat.messages, true),
            Ending::Closed => self.render_messages(chat, &chat.messages, false),
            Ending::Continue => self.render_open(chat),
        }
    }

    /// Offsets in `text`, the rendered chat, at which messages end: where the text of the messages
    /// before it, rendered alone, is how `text` begins. The first message and the last few are
    /// looked at, since conversations fork there.
    pub(super) fn message_ends(&self, chat: &Chat, text: &str) -> Vec<usize> {
        let count = chat.messages.len();
        let ends = (1..=count).filter(|end| *end == 1 || end + LAST_ENDS > count);
        let mut offsets: Vec<usize> = ends
            .filter_map(|end| {
                self.render_messages(chat, &chat.messages[..end], false)
                    .ok()
            })
            .filter(|beginning| text.starts_with(beginning))
            .map(|beginning| beginning.len())
            .collect();
        offsets.sort_unstable();
        offsets
    }

    /// Leaves the last message open: marks its end, and cuts there.
    fn render_open(&self, chat: &Chat) -> Result<String> {
        let refuse = |problem: &str| Error::Template(problem.to_owned());
        let mut messages = chat.messages.clone();
        let content = messages
            .last_mut()
            .and_then(|message| last_text(message.0.get_mut("content")?))
            .ok_or_else(|| refuse("the last message has no text to continue"))?;
        let begun = content.trim().to_owned();
        content.push_str(OPEN_END);

        let text = self.render_messages(chat, &messages, false)?;
        let end = text
            .rfind(OPEN_END.trim_end())
            .filter(|end| text[..*end].contains(&begun))
            .ok_or_else(|| refuse("the template does not show the message to continue"))?;
        let keeps_space = text[end..].starts_with(OPEN_END);
        Ok(if keeps_space {
            &text[..end]
        } else {
            text[..end].trim_end()
        }
        .to_owned())
    }

    fn render_messages(&self, chat: &Chat, messages: &[Message], answer: bool) -> Result<String> {
        let program = match &self.tool_use {
            Some(tool_use) if !chat.tools.is_empty() => tool_use,
            _ => &self.default,
        };
        let messages: Vec<Value> = messages.iter().map(with_reasoning).collect();
        let given = self.special_tokens.iter().chain(&chat.arguments);
        let mut variables: BTreeMap<&str, minijinja::Value> = given
            .map(|(name, value)| (name.as_str(), minijinja::Value::from(Serde(value))))
            .collect();
        let absent_if_empty = |list: &[Value]| match list {
            [] => minijinja::Value::from(()),
            list => minijinja::Value::from(Serde(list)),
        };
        let now = chat.now;
        variables.extend([
            ("messages", minijinja::Value::from(Serde(&messages))),
            ("tools", absent_if_empty(&chat.tools)),
            ("documents", absent_if_empty(&chat.documents)),
            ("add_generation_prompt", minijinja::Value::from(answer)),
            (
                "strftime_now",
                minijinja::Value::from_function(move |format: &str| python::strftime(now, format)),
            ),
        ]);
        program.run(minijinja::Value::from(variables), messages.len())
    }
}

/// A message as transformers gives it to templates: thoughts under either of their names.
fn with_reasoning(message: &Message) -> Value {
    const NAMES: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    let mut message = message.0.clone();
    let mut thoughts = NAMES
        .iter()
        .filter_map(|name| message.get(*name))
        .peekable();
    let first = thoughts.peek().copied();
    let given = thoughts.find(|value| !value.is_null()).or(first);
    if let Some(given) = given.cloned() {
        message.insert("reasoning_content".to_owned(), given.clone());
        message.insert("thinking".to_owned(), given);
    }
    Value::Object(message)
}

/// The text of a message's content, or of its last part that has one.
fn last_text(content: &mut Value) -> Option<&mut String> {
    match content {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts
            .iter_mut()
            .rev()
            .find_map(|part| match part.get_mut("text") {
                Some(Value::String(text)) => Some(text),
                _ => None,
            }),
        _ => None,
    }
}
