//! Which tokens each message of a chat takes.

use jiff::Zoned;
use mlxr::tokenizer::{Chat, Message};
use mlxr::{Error, Result};
use serde_json::{Value, json};

use super::Job;
use crate::ui::printer;
use crate::ui::table::{Align, Table};

/// Prints the tokens of a chat in the form that is asked for.
pub(super) fn show(job: &Job<'_>, text: &str, on_terminal: bool) -> Result<()> {
    let value: Value = serde_json::from_str(text).map_err(|error| Error::Request {
        field: "chat",
        problem: format!("the input is not JSON: {error}"),
    })?;
    let chat = tokens(job, &value)?;
    if job.args.json {
        return printer::json(&chat);
    }
    if job.args.count {
        return printer::data(&format!("{}\n", chat["tokens"]));
    }
    if job.args.ids || job.args.pieces {
        let ids = chat["ids"].as_array().map_or(&[][..], Vec::as_slice);
        let ids = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok());
        if job.args.ids {
            let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
            return printer::data(&format!("{}\n", ids.join(" ")));
        }
        return ids
            .into_iter()
            .try_for_each(|id| printer::data(&format!("{}\n", Value::from(job.piece(id)))));
    }
    let rows = chat["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let column = |name: &'static str| {
        rows.iter().map(move |row| {
            row[name]
                .as_str()
                .map_or_else(|| row[name].to_string(), str::to_owned)
        })
    };
    let mut table = Table::default();
    table.column("role", Align::Left, column("role"));
    table.column("from", Align::Right, column("begin"));
    table.column("to", Align::Right, column("end"));
    table.column("tokens", Align::Right, column("tokens"));
    printer::data(&table.shown(on_terminal))
}

/// The tokens of a chat, and which of them are whose. What the template writes behind the last message, so that the
/// model answers, is a row without a role.
///
/// # Errors
/// [`Error::Request`] where these are no messages, and what the template refuses.
pub(super) fn tokens(job: &Job<'_>, value: &Value) -> Result<Value> {
    let list = |value: &Value| value.as_array().cloned();
    let refuse = |problem: &str| Error::Request {
        field: "messages",
        problem: problem.to_owned(),
    };
    let messages = list(value).or_else(|| list(&value["messages"]));
    let messages =
        messages.ok_or_else(|| refuse("neither an array nor an object with one in `messages`"))?;
    let message = |value: Value| match value {
        Value::Object(fields) => Ok(Message(fields)),
        _ => Err(refuse("a message is not an object")),
    };
    let messages: Vec<Message> = messages.into_iter().map(message).collect::<Result<_>>()?;
    let mut chat = Chat::new(messages, Zoned::now().datetime());
    chat.tools = list(&value["tools"]).unwrap_or_default();
    let prompt = job.tokenizer.encode_chat(&chat)?;

    let mut rows = Vec::new();
    let mut begin = 0;
    // Where a template moves messages about, not all of their ends are known, and so not whose tokens are whose.
    let is_known = prompt.joints.len() == chat.messages.len();
    let ends = prompt
        .joints
        .iter()
        .copied()
        .zip(&chat.messages)
        .filter(|_| is_known);
    for (end, message) in ends {
        let role = message.0.get("role").cloned().unwrap_or_default();
        rows.push(json!({ "role": role, "begin": begin, "end": end, "tokens": end - begin }));
        begin = end;
    }
    let end = prompt.tokens.len();
    if begin < end {
        rows.push(json!({ "role": "", "begin": begin, "end": end, "tokens": end - begin }));
    }
    let mut told = json!({ "tokens": end, "messages": rows, "text": prompt.text });
    if job.args.pieces {
        told["pieces"] = prompt.tokens.iter().map(|id| job.piece(*id)).collect();
    }
    if !job.args.count {
        told["ids"] = prompt.tokens.into();
    }
    Ok(told)
}
