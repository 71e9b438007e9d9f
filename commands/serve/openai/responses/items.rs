//! The items of a conversation, made into messages.

use mlxr::tokenizer::Message;
use serde_json::{Map, Value, json};

use crate::serve::fields::Fields;
use crate::serve::openai::messages;
use crate::wire::Failure;

/// Reads a conversation: a text, or items. What an assistant thought, said and called one after the other is one
/// message of a chat.
///
/// # Errors
/// Where an item is not one, or holds what the model cannot read.
pub(super) fn read(instructions: Option<String>, input: Value) -> Result<Vec<Message>, Failure> {
    let mut read: Vec<Map<String, Value>> = Vec::new();
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        read.push(message("system", instructions.into()));
    }
    match input {
        Value::String(text) => read.push(message("user", text.into())),
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.into_iter().enumerate() {
                one(item, &mut read)
                    .map_err(|problem| Failure::field(format!("input[{index}]"), problem))?;
            }
        }
        _ => {
            return Err(Failure::field(
                "input",
                "it is neither a text nor a list of some items",
            ));
        }
    }
    messages::read(read)
}

fn message(role: &str, content: Value) -> Map<String, Value> {
    Map::from_iter([
        ("role".to_owned(), role.into()),
        ("content".to_owned(), content),
    ])
}

fn one(mut item: Value, read: &mut Vec<Map<String, Value>>) -> Result<(), String> {
    let kind = item["type"].as_str().unwrap_or("message").to_owned();
    match kind.as_str() {
        "message" => {
            let role = item["role"].as_str().ok_or("it has no `role`")?.to_owned();
            let content = item["content"].take();
            if role == "assistant" {
                let last = assistant(read);
                if last["content"] == "" {
                    last.insert("content".to_owned(), content);
                    return Ok(());
                }
            }
            read.push(message(&role, content));
        }
        "reasoning" => {
            let texts = ["content", "summary"].map(|field| {
                let parts = item[field].as_array().into_iter().flatten();
                parts
                    .filter_map(|part| part["text"].as_str())
                    .collect::<String>()
            });
            let [content, summary] = texts;
            let text = if content.is_empty() { summary } else { content };
            assistant(read).insert("reasoning_content".to_owned(), text.into());
        }
        "function_call" => {
            let call = json!({
                "id": item["call_id"],
                "type": "function",
                "function": {"name": item["name"], "arguments": item["arguments"]},
            });
            let calls = assistant(read)
                .entry("tool_calls")
                .or_insert_with(|| json!([]));
            if let Value::Array(calls) = calls {
                calls.push(call);
            }
        }
        "function_call_output" => {
            let mut result = message("tool", item["output"].take());
            result.insert("tool_call_id".to_owned(), item["call_id"].take());
            read.push(result);
        }
        other => return Err(format!("the model does not read items of type `{other}`")),
    }
    Ok(())
}

/// The message of the assistant that is being made, or a new one.
fn assistant(read: &mut Vec<Map<String, Value>>) -> &mut Map<String, Value> {
    if read.last().is_none_or(|last| last["role"] != "assistant") {
        read.push(message("assistant", "".into()));
    }
    let last = read.len() - 1;
    &mut read[last]
}

/// The tools that the model is told of, in the form that chats have. Those that a host would have to run are left
/// out: clients offer them to everybody.
///
/// # Errors
/// Where one has no name.
pub(super) fn tools(fields: &mut Fields, tools: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let mut functions = Vec::new();
    for (index, mut tool) in tools.into_iter().enumerate() {
        if tool["type"] != "function" {
            fields.leave_out_of("tools", format_args!("[{index}]"));
            continue;
        }
        if !tool["name"].is_string() {
            return Err(Failure::field(format!("tools[{index}]"), "it has no name"));
        }
        if tool["strict"] == true {
            fields.leave_out_of("tools", format_args!("[{index}].strict"));
        }
        let mut function =
            json!({"name": tool["name"].take(), "parameters": tool["parameters"].take()});
        if tool["description"].is_string() {
            function["description"] = tool["description"].take();
        }
        functions.push(json!({"type": "function", "function": function}));
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Fields, read, tools};

    #[test]
    fn items_become_messages() {
        let input = json!([
            {"role": "user", "content": [{"type": "input_text", "text": "U"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "T"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"x\":1}"},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "1", "output": "R"},
            {"type": "message", "role": "developer", "content": "D"}
        ]);
        let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let wanted = json!([
            {"role": "system", "content": "I"},
            {"role": "user", "content": "U"},
            {"role": "assistant", "content": "A", "reasoning_content": "T",
                "tool_calls": [call("1", "f", json!({"x": 1})), call("2", "g", json!({}))]},
            {"role": "tool", "content": "R", "tool_call_id": "1"},
            {"role": "system", "content": "D"}
        ]);
        let read = read(Some("I".into()), input).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), wanted);
    }

    #[test]
    fn tools_of_a_host_are_left_out_and_items_that_are_none_are_refused() {
        let offered = vec![
            json!({"type": "web_search"}),
            json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}),
        ];
        let wanted = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
        let mut fields = Fields::parse(b"{}").unwrap();
        let told = tools(&mut fields, offered).unwrap();
        assert_eq!(Value::from(told), wanted);
        assert_eq!(fields.rest().left_out, ["tools[0]", "tools[1].strict"]);
        let refused = read(None, json!([{"type": "image_generation_call"}])).unwrap_err();
        assert_eq!(
            refused.message,
            "input[0]: the model does not read items of type `image_generation_call`"
        );
    }
}
