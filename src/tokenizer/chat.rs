//! Messages to text by the model's own template. Knows nothing of token ids.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::thread;

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::companions::Companions;
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

/// The name that errors give the template.
const NAME: &str = "chat_template";

/// The variables that a chat itself fills.
const RESERVED: [&str; 5] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "strftime_now",
];

/// Steps that any template may take, before it counts as endless. One step also pays for 64 bytes
/// of data, so this bounds memory as well.
const FUEL: u64 = 4_000_000;

/// Further steps for each byte of messages and tools.
const FUEL_PER_BYTE: u64 = 16;

/// Templates run on a stack of their own: values that they nest are dropped and written
/// recursively, as deep as their fuel lets them nest. It is reserved, not used up.
const STACK_BYTES: usize = 1 << 30;

/// Marks where a message stops that is to be continued. The space at its end shows whether the
/// template keeps white space there.
const OPEN_END: &str = "\u{F8FF}open end\u{F8FF} ";

/// How many message ends are looked for at the end of a chat. Each costs one rendering.
const LAST_ENDS: usize = 16;

/// A chat template: a Jinja program that the model's makers wrote for Python's renderer.
#[derive(Debug)]
pub struct ChatTemplate {
    default: Environment<'static>,
    /// Used when there are tools.
    tool_use: Option<Environment<'static>>,
    special_tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables such as `bos_token`.
    ///
    /// # Errors
    /// [`Error::Template`] where the source is not a template.
    pub fn new(source: &str, special_tokens: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            default: compile(source)?,
            tool_use: None,
            special_tokens,
        })
    }

    /// Finds the template among a model's files. What is inside and no template is the inner
    /// error: it matters only to those who want to use it.
    pub(super) fn find(
        files: &ModelFiles,
        companions: &Companions<'_>,
    ) -> Result<Option<Result<Self, String>>> {
        let own_file =
            files
                .read("chat_template.jinja")?
                .map(|bytes| match str::from_utf8(&bytes) {
                    Ok(source) => Ok(Value::from(source)),
                    Err(error) => Err(Error::InvalidUtf8 {
                        what: files.path("chat_template.jinja").display().to_string(),
                        offset: error.valid_up_to(),
                    }),
                });
        let source = match own_file.transpose()? {
            Some(source) => Some(source),
            None => match companions.tokenizer_config.get("chat_template") {
                Some(source) => Some(source.clone()),
                None => super::companions::read_object(files, "chat_template.json")?
                    .remove("chat_template"),
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
            default: compile(default)?,
            tool_use: named("tool_use").map(compile).transpose()?,
            special_tokens,
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
        let mut environment = match &self.tool_use {
            Some(tool_use) if !chat.tools.is_empty() => tool_use.clone(),
            _ => self.default.clone(),
        };
        let messages: Vec<Value> = messages.iter().map(with_reasoning).collect();
        let bytes = json_bytes(&messages) + json_bytes(&chat.tools) + json_bytes(&chat.documents);
        environment.set_fuel(Some(FUEL + FUEL_PER_BYTE * bytes));

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
        let variables = minijinja::Value::from(variables);
        on_deep_stack(move || {
            let template = environment
                .get_template(NAME)
                .map_err(|error| refusal(&error))?;
            template.render(variables).map_err(|error| refusal(&error))
        })
    }
}

fn compile(source: &str) -> Result<Environment<'static>> {
    let mut environment = python::environment();
    // Python's renderer writes neither the line break after a block tag nor the spaces before it.
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| refusal(&error))?);
    let source = without_generation_tags(source);
    on_deep_stack(move || {
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| refusal(&error))?;
        Ok(environment)
    })
}

/// Python's renderer knows `{% generation %}`, which marks what the model wrote and is a scope for
/// variables. Only the scope matters here.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(tag) = rest.find("{%") {
        let (before, inside) = rest.split_at(tag + 2);
        result.push_str(before);
        let word = inside.trim_start_matches(['-', '+']).trim_start();
        result.push_str(&inside[..inside.len() - word.len()]);
        rest = word;
        for (name, scope) in [("generation", "with"), ("endgeneration", "endwith")] {
            if let Some(after) = word.strip_prefix(name)
                && after
                    .trim_start()
                    .trim_start_matches(['-', '+'])
                    .starts_with("%}")
            {
                result.push_str(scope);
                rest = after;
            }
        }
    }
    result + rest
}

/// A message as transformers gives it to templates: thoughts under either of their names.
fn with_reasoning(message: &Message) -> Value {
    const NAMES: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    let mut message = message.0.clone();
    let thoughts = NAMES.iter().filter_map(|name| message.get(*name));
    let given = thoughts
        .clone()
        .find(|value| !value.is_null())
        .or_else(|| thoughts.last());
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

/// What is told about a template that failed: its own words where it raised the error itself.
fn refusal(error: &minijinja::Error) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<python::Raised>() {
            return Error::Template(raised.to_string());
        }
        if let Some(inner) = current.downcast_ref::<minijinja::Error>()
            && inner.kind() == ErrorKind::OutOfFuel
        {
            return Error::Template("it takes too many steps or too much memory".to_owned());
        }
        cause = current.source();
    }
    Error::Template(error.to_string())
}

fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |problem: &dyn Display| Error::Template(format!("could not run it: {problem}"));
    thread::scope(|scope| {
        let builder = thread::Builder::new()
            .name(NAME.to_owned())
            .stack_size(STACK_BYTES);
        let thread = builder
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&error))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed(&"its thread panicked")))
    })
}

/// How long values are as JSON.
fn json_bytes(values: &[Value]) -> u64 {
    values
        .iter()
        .map(|value| value.to_string().len() as u64)
        .sum()
}
