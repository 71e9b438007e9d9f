//! Messages as OpenAI's clients write them, made into what chat templates expect.

use mlxr::tokenizer::Message;
use serde_json::{Map, Value};

use crate::wire::Failure;

/// Reads a conversation.
///
/// # Errors
/// Where a message is not one, or holds what the model cannot read.
pub(super) fn read(messages: Vec<Map<String, Value>>) -> Result<Vec<Message>, Failure> {
    let indexed = messages.into_iter().enumerate();
    indexed
        .map(|(index, message)| {
            one(message).map_err(|problem| Failure::field(format!("messages[{index}]"), problem))
        })
        .collect()
}

fn one(mut message: Map<String, Value>) -> Result<Message, String> {
    let role = match message.get("role").and_then(Value::as_str) {
        // Templates know it by its older name.
        Some("developer") => "system".to_owned(),
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role.to_owned(),
        Some("function") => {
            return Err("the role `function` is not supported: use `tool`".to_owned());
        }
        Some(role) => return Err(format!("there is no role `{role}`")),
        None => return Err("it has no `role`".to_owned()),
    };
    message.insert("role".to_owned(), role.into());
    let content = text(message.remove("content").unwrap_or_default())?;
    message.insert("content".to_owned(), content.into());
    if let Some(calls) = message.get_mut("tool_calls") {
        match calls {
            Value::Array(calls) if !calls.is_empty() => {
                calls.iter_mut().try_for_each(with_object_arguments)?;
            }
            Value::Null | Value::Array(_) => {
                message.remove("tool_calls");
            }
            _ => return Err("`tool_calls` is no list".to_owned()),
        }
    }
    for empty in ["refusal", "audio", "annotations", "function_call"] {
        if message
            .get(empty)
            .is_some_and(|value| !value.is_null() && *value != Value::Array(vec![]))
        {
            return Err(format!("`{empty}` is not supported"));
        }
        message.remove(empty);
    }
    Ok(Message(message))
}

/// The text of a content, which may be in parts.
fn text(content: Value) -> Result<String, String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => Err("`content` is neither a text nor a list of parts".to_owned()),
    }
}

fn part(part: &Value) -> Result<&str, String> {
    let kind = part.get("type").and_then(Value::as_str);
    match (kind, part.get("text").and_then(Value::as_str)) {
        (Some("text" | "input_text" | "output_text"), Some(text)) => Ok(text),
        (Some("refusal"), _) => Ok(part
            .get("refusal")
            .and_then(Value::as_str)
            .unwrap_or_default()),
        (Some(kind), _) => Err(format!("the model does not read parts of type `{kind}`")),
        (None, _) => Err("a part has no `type`".to_owned()),
    }
}

/// Templates take the arguments of a call as an object; clients send them as its text.
fn with_object_arguments(call: &mut Value) -> Result<(), String> {
    let arguments = call.pointer_mut("/function/arguments");
    let Some(arguments) = arguments else {
        return Err("a tool call has no `function.arguments`".to_owned());
    };
    let text = match arguments {
        Value::String(text) if text.trim().is_empty() => "{}",
        Value::String(text) => text.as_str(),
        _ => return Ok(()),
    };
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => {
            *arguments = object;
            Ok(())
        }
        Ok(_) => Err("the arguments of a tool call are no JSON object".to_owned()),
        Err(error) => Err(format!(
            "the arguments of a tool call are not valid JSON: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read;

    fn one(message: Value) -> Result<Value, String> {
        let Value::Object(message) = message else {
            panic!("no object")
        };
        let read = read(vec![message]).map_err(|failure| failure.message)?;
        Ok(Value::Object(read.into_iter().next().unwrap().0))
    }

    #[test]
    fn messages_become_what_templates_expect() {
        let parts = json!({"role": "developer", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
        ]});
        assert_eq!(one(parts), Ok(json!({"role": "system", "content": "ab"})));
        let call = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}
        ]});
        let wanted = json!({"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
        ]});
        assert_eq!(one(call), Ok(wanted));
        let empty = json!({"role": "assistant", "content": "x", "tool_calls": []});
        assert_eq!(one(empty), Ok(json!({"role": "assistant", "content": "x"})));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let check = |message: Value, wanted: &str| {
            let problem = one(message).unwrap_err();
            assert_eq!(problem, format!("messages[0]: {wanted}"));
        };
        check(json!({"content": "a"}), "it has no `role`");
        check(
            json!({"role": "robot", "content": "a"}),
            "there is no role `robot`",
        );
        check(
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
            "the model does not read parts of type `image_url`",
        );
        check(
            json!({"role": "user", "content": 3}),
            "`content` is neither a text nor a list of parts",
        );
        let call = json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]});
        assert!(one(call).unwrap_err().contains("not valid JSON"));
    }
}
