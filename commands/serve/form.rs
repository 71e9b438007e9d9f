//! What an answer must look like, as dialects ask for it, and which tools a model must call.

use mlxr::constraint::Constraint;
use serde_json::{Map, Value};

use super::fields::Fields;
use crate::wire::Failure;

/// Which tools a model may or must call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    /// As it likes.
    #[default]
    Free,
    /// None.
    None,
    /// One of them, whichever.
    Any,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// As OpenAI's clients write it.
    ///
    /// # Errors
    /// Where it is nothing of that kind.
    pub(super) fn read(choice: Option<&Value>) -> Result<Self, Failure> {
        let Some(choice) = choice else {
            return Ok(Self::Free);
        };
        match choice.as_str() {
            Some("auto") => return Ok(Self::Free),
            Some("none") => return Ok(Self::None),
            Some("required") => return Ok(Self::Any),
            _ => {}
        }
        // The name stands in the function in chats, and beside the type in responses.
        let name = choice.pointer("/function/name").or(choice.get("name"));
        match (choice["type"].as_str(), name.and_then(Value::as_str)) {
            (Some("function"), Some(name)) => Ok(Self::Named(name.to_owned())),
            _ => Err(Failure::field(
                "tool_choice",
                format!(
                    "{choice} is not supported: it is `auto`, `none`, `required` or a function"
                ),
            )),
        }
    }
}

/// As `response_format`, and the fields by which vLLM knows more.
///
/// # Errors
/// Where it is not known, or several are given.
pub(super) fn of_chat(fields: &mut Fields) -> Result<Option<Constraint>, Failure> {
    let format = of_format(fields, "response_format", "json_schema")?;
    let outputs: Option<Map<String, Value>> = fields.take("structured_outputs")?;
    let mut outputs = Fields::of(outputs.unwrap_or_default());
    let given = [
        format,
        outputs.take("json")?.map(Constraint::JsonSchema),
        outputs.take("regex")?.map(Constraint::Regex),
        outputs.take("choice")?.map(Constraint::Choices),
        outputs.take("grammar")?.map(Constraint::Lark),
    ];
    if let Some(name) = outputs.rest().first() {
        let field = format!("structured_outputs.{name}");
        return Err(Failure::field(field, "it is not supported"));
    }
    let mut given = given.into_iter().flatten();
    let first = given.next();
    match given.next() {
        Some(_) => Err(Failure::field(
            "structured_outputs",
            "an answer has one form",
        )),
        None => Ok(first),
    }
}

/// As an object with a `type`. `place` names the field in it that has the schema; where there is none, it is beside
/// the type.
///
/// # Errors
/// Where it is not known.
pub(super) fn of_format(
    fields: &mut Fields,
    name: &str,
    place: &str,
) -> Result<Option<Constraint>, Failure> {
    let Some(mut format) = fields.take::<Value>(name)? else {
        return Ok(None);
    };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => {
            let holder = if place.is_empty() {
                &mut format
            } else {
                &mut format[place]
            };
            match holder.get_mut("schema").map(Value::take) {
                Some(schema @ (Value::Object(_) | Value::Bool(_))) => {
                    Ok(Some(Constraint::JsonSchema(schema)))
                }
                _ => Err(Failure::field(name, "it has no `schema`")),
            }
        }
        _ => Err(Failure::field(
            name,
            "its `type` is `text`, `json_object` or `json_schema`",
        )),
    }
}

/// As Ollama's clients write it: a word or a schema.
///
/// # Errors
/// Where it is neither.
pub(super) fn of_ollama(fields: &mut Fields) -> Result<Option<Constraint>, Failure> {
    match fields.take::<Value>("format")? {
        None => Ok(None),
        Some(Value::String(word)) if word.is_empty() => Ok(None),
        Some(Value::String(word)) if word == "json" => Ok(Some(Constraint::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Constraint::JsonSchema(schema))),
        Some(_) => Err(Failure::field(
            "format",
            "it is neither `json` nor a schema",
        )),
    }
}
