//! Messages as Anthropic's clients write them, made into what chat templates expect.

use mlxr::tokenizer::Message;
use serde_json::{Map, Value, json};

use crate::wire::Failure;

/// A line that some clients put at the beginning of the system message, another one with each request: no prompt
/// would ever begin as the one before.
const BILLING: &str = "x-anthropic-billing-header:";

/// Reads a conversation and what stands before it.
///
/// # Errors
/// Where a message is not one, or holds what the model cannot read.
pub(super) fn read(
    system: Option<Value>,
    messages: &[Map<String, Value>],
) -> Result<Vec<Message>, Failure> {
    let mut read = Vec::new();
    if let Some(system) = system {
        let texts = texts(&system).map_err(|problem| Failure::field("system", problem))?;
        let texts = texts.into_iter().filter(|text| !text.starts_with(BILLING));
        let texts: Vec<&str> = texts.collect();
        if !texts.is_empty() {
            read.push(Message::new("system", texts.join("\n\n")));
        }
    }
    for (index, message) in messages.iter().enumerate() {
        one(message, &mut read)
            .map_err(|problem| Failure::field(format!("messages[{index}]"), problem))?;
    }
    Ok(read)
}

/// The texts of a content, which may be one or blocks.
fn texts(content: &Value) -> Result<Vec<&str>, String> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text]),
        Value::Array(blocks) => blocks.iter().map(text).collect(),
        _ => Err("it is neither a text nor a list of blocks".to_owned()),
    }
}

fn text(block: &Value) -> Result<&str, String> {
    match (block["type"].as_str(), block["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text),
        (Some(kind), _) => Err(format!("the model does not read blocks of type `{kind}`")),
        (None, _) => Err("a block has no `type`".to_owned()),
    }
}

/// Reads one message, which is several where it holds results of tools.
fn one(message: &Map<String, Value>, read: &mut Vec<Message>) -> Result<(), String> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some(role @ ("user" | "assistant" | "system")) => role,
        Some(role) => return Err(format!("there is no role `{role}`")),
        None => return Err("it has no `role`".to_owned()),
    };
    let blocks = match message.get("content") {
        Some(Value::String(text)) => {
            read.push(Message::new(role, text.as_str()));
            return Ok(());
        }
        Some(Value::Array(blocks)) => blocks,
        _ => return Err("`content` is neither a text nor a list of blocks".to_owned()),
    };
    let (mut content, mut thinking) = (String::new(), String::new());
    let mut calls = Vec::new();
    for block in blocks {
        match block["type"].as_str() {
            Some("tool_result") if role == "user" => read.push(result(block)?),
            Some("tool_use") if role == "assistant" => calls.push(call(block)?),
            Some("thinking") if role == "assistant" => {
                thinking += block["thinking"].as_str().unwrap_or_default();
            }
            // It is for those who wrote it.
            Some("redacted_thinking") if role == "assistant" => {}
            _ => content += text(block)?,
        }
    }
    if content.is_empty() && thinking.is_empty() && calls.is_empty() {
        // Nothing but results, which are there already.
        return Ok(());
    }
    let mut message = Message::new(role, content);
    if !thinking.is_empty() {
        message
            .0
            .insert("reasoning_content".to_owned(), thinking.into());
    }
    if !calls.is_empty() {
        message.0.insert("tool_calls".to_owned(), calls.into());
    }
    read.push(message);
    Ok(())
}

fn call(block: &Value) -> Result<Value, String> {
    let (Some(name), Value::Object(input)) = (block["name"].as_str(), &block["input"]) else {
        return Err("a `tool_use` has no `name` or no `input`".to_owned());
    };
    Ok(json!({
        "id": block["id"],
        "type": "function",
        "function": {"name": name, "arguments": input},
    }))
}

fn result(block: &Value) -> Result<Message, String> {
    let content = texts(&block["content"])?.concat();
    let mut message = Message::new("tool", content);
    message
        .0
        .insert("tool_call_id".to_owned(), block["tool_use_id"].clone());
    Ok(message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read;

    fn messages(system: Value, messages: Value) -> Result<Value, String> {
        let messages: Vec<_> = serde_json::from_value(messages).unwrap();
        let read = read(Some(system), &messages).map_err(|failure| failure.message)?;
        Ok(serde_json::to_value(read).unwrap())
    }

    #[test]
    fn blocks_become_messages() {
        let system = json!([
            {"type": "text", "text": "x-anthropic-billing-header: cch=1"},
            {"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}
        ]);
        let conversation = json!([
            {"role": "user", "content": "U"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "T", "signature": "x"},
                {"type": "text", "text": "A"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "R"}]},
                {"type": "text", "text": "V"}
            ]}
        ]);
        let wanted = json!([
            {"role": "system", "content": "S"},
            {"role": "user", "content": "U"},
            {"role": "assistant", "content": "A", "reasoning_content": "T", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
            ]},
            {"role": "tool", "content": "R", "tool_call_id": "1"},
            {"role": "user", "content": "V"}
        ]);
        assert_eq!(messages(system, conversation), Ok(wanted));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let check = |message: Value, wanted: &str| {
            let problem = messages(Value::Null, json!([message])).unwrap_err();
            assert_eq!(problem, format!("messages[0]: {wanted}"));
        };
        check(
            json!({"role": "tool", "content": "a"}),
            "there is no role `tool`",
        );
        check(
            json!({"role": "user", "content": [{"type": "image", "source": {}}]}),
            "the model does not read blocks of type `image`",
        );
        check(
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}),
            "a `tool_use` has no `name` or no `input`",
        );
    }
}
