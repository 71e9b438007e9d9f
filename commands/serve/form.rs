//! What an answer must look like, as dialects ask for it, and which tools a model must call.

use mlxr::constraint::Constraint;
use serde_json::Value;

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
    let outputs = fields.within("structured_outputs", |outputs| {
        Ok([
            outputs.take("json")?.map(Constraint::JsonSchema),
            outputs.take("regex")?.map(Constraint::Regex),
            outputs.take("choice")?.map(Constraint::Choices),
            outputs.take("grammar")?.map(Constraint::Lark),
        ])
    })?;
    let given = outputs.into_iter().flatten().chain([format]);
    let mut given = given.flatten();
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
    let constraint = fields.within(name, |format| {
        match format.require::<String>("type")?.as_str() {
            "text" => Ok(None),
            "json_object" => Ok(Some(Constraint::JsonObject)),
            "json_schema" if place.is_empty() => read_schema(format).map(Some),
            "json_schema" => match format.within(place, read_schema)? {
                None => Err(Failure::field(place, "it is required")),
                schema => Ok(schema),
            },
            other => Err(Failure::field(
                "type",
                format!("`{other}` is neither `text`, `json_object` nor `json_schema`"),
            )),
        }
    })?;
    Ok(constraint.flatten())
}

/// The schema in an object that names and describes it. It is always kept to.
fn read_schema(holder: &mut Fields) -> Result<Constraint, Failure> {
    holder.pass_over(&["name", "description", "strict"]);
    match holder.require("schema")? {
        schema @ (Value::Object(_) | Value::Bool(_)) => Ok(Constraint::JsonSchema(schema)),
        _ => Err(Failure::field("schema", "it is no schema")),
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
