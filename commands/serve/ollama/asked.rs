//! What Ollama's clients ask: messages and options.

use mlxr::tokenizer::Message;
use serde_json::{Map, Value, json};

use crate::args::SamplingArgs;
use crate::serve::fields::Fields;
use crate::serve::form;
use crate::serve::question::Question;
use crate::serve::thinking;
use crate::wire::Failure;

/// Options that say how a machine is to be used, which is not for a request to say, and one that says what goes
/// when a context is full: here it is not overrun.
const OF_THE_MACHINE: [&str; 10] = [
    "num_batch",
    "num_gpu",
    "main_gpu",
    "low_vram",
    "use_mmap",
    "use_mlock",
    "num_thread",
    "numa",
    "f16_kv",
    "num_keep",
];

/// Reads a conversation.
///
/// # Errors
/// Where a message is not one, or holds what the model cannot read.
pub(super) fn messages(messages: Vec<Map<String, Value>>) -> Result<Vec<Message>, Failure> {
    let indexed = messages.into_iter().enumerate();
    indexed
        .map(|(index, message)| {
            one(message).map_err(|problem| Failure::field(format!("messages[{index}]"), problem))
        })
        .collect()
}

fn one(mut message: Map<String, Value>) -> Result<Message, String> {
    match message.get("role").and_then(Value::as_str) {
        Some("system" | "user" | "assistant" | "tool") => {}
        Some(role) => return Err(format!("there is no role `{role}`")),
        None => return Err("it has no `role`".to_owned()),
    }
    match message.remove("content") {
        None | Some(Value::Null) => drop(message.insert("content".to_owned(), "".into())),
        Some(text @ Value::String(_)) => drop(message.insert("content".to_owned(), text)),
        Some(_) => return Err("`content` is no text".to_owned()),
    }
    if message
        .remove("images")
        .is_some_and(|images| !images.is_null() && images != json!([]))
    {
        return Err("the model does not read images".to_owned());
    }
    match message.remove("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(calls)) if calls.is_empty() => {}
        Some(Value::Array(mut calls)) => {
            for call in &mut calls {
                if !call["function"]["arguments"].is_object() {
                    return Err("a tool call has no `function.arguments`".to_owned());
                }
                call["type"] = "function".into();
            }
            message.insert("tool_calls".to_owned(), calls.into());
        }
        Some(_) => return Err("`tool_calls` is no list".to_owned()),
    }
    // Templates know the name of a tool that answers by this.
    if let Some(name) = message.remove("tool_name") {
        message.insert("name".to_owned(), name);
    }
    Ok(Message(message))
}

/// A text as a conversation.
pub(super) fn framed(system: Option<String>, text: String) -> Vec<Message> {
    let system = system.filter(|system| !system.is_empty());
    let system = system.map(|system| Message::new("system", system));
    system
        .into_iter()
        .chain([Message::new("user", text)])
        .collect()
}

/// Whether and how much the model is to think, as variables of its template.
///
/// # Errors
/// Where it is neither yes, no nor a level.
pub(super) fn think(fields: &mut Fields) -> Result<Map<String, Value>, Failure> {
    match fields.take::<Value>("think")? {
        None => Ok(Map::new()),
        Some(Value::Bool(is_on)) => Ok(thinking::switched(is_on)),
        Some(Value::String(level)) => thinking::level("think", &level),
        Some(other) => {
            let problem = format!("{other} is neither true, false nor a level");
            Err(Failure::field("think", problem))
        }
    }
}

/// Reads how the answer is to be made.
///
/// # Errors
/// Where an option is of another type, or not supported.
pub(super) fn options(fields: &mut Fields) -> Result<Question, Failure> {
    let constraint = form::of_ollama(fields)?;
    fields.expect("truncate", &[json!(false)]);
    fields.expect("shift", &[json!(false)]);
    let top: Option<usize> = fields.take("top_logprobs")?;
    let logprobs = fields.take("logprobs")?.unwrap_or(false);
    let question = fields.within("options", of_options)?;
    Ok(Question {
        constraint,
        logprobs: logprobs.then_some(top.unwrap_or(0)),
        ..question.unwrap_or_default()
    })
}

fn of_options(options: &mut Fields) -> Result<Question, Failure> {
    options.pass_over(&OF_THE_MACHINE);
    options.expect("typical_p", &[json!(1), json!(1.0)]);
    options.expect("tfs_z", &[json!(1), json!(1.0)]);
    options.expect("mirostat", &[json!(0)]);
    let limit: Option<i64> = options.take("num_predict")?;
    Ok(Question {
        sampling: SamplingArgs {
            temperature: options.take("temperature")?,
            top_k: options.take("top_k")?,
            top_p: options.take("top_p")?,
            min_p: options.take("min_p")?,
            repeat_penalty: options.take("repeat_penalty")?,
            repeat_last_n: options.take("repeat_last_n")?,
            presence_penalty: options.take("presence_penalty")?,
            frequency_penalty: options.take("frequency_penalty")?,
            seed: options.seed()?,
        },
        stop: options.texts("stop")?,
        // Less than nothing is without a limit.
        limit: limit.and_then(|limit| usize::try_from(limit).ok()),
        context: options.take("num_ctx")?,
        ..Question::default()
    })
}
