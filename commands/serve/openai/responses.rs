//! `/v1/responses`, without memory of earlier ones: a client sends all of a conversation.

mod items;
mod output;

use axum::response::Response;
use mlxr::constraint::Constraint;
use serde_json::{Map, Value, json};

use super::{LABELS, now, read_limit};
use crate::args::SamplingArgs;
use crate::serve::asking::Asking;
use crate::serve::dialect::json_response;
use crate::serve::fields::Fields;
use crate::serve::form::{self, ToolChoice};
use crate::serve::ids;
use crate::serve::question::{Conversation, Prompt, Question};
use crate::serve::stream::{self, Writer};
use crate::serve::thinking;
use crate::wire::Failure;
use output::Output;

/// Answers a conversation.
///
/// # Errors
/// Where it is not one, or cannot be answered.
pub(in crate::serve) async fn answer(
    asking: Asking,
    mut fields: Fields,
) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let is_streamed = fields.take("stream")?.unwrap_or(false);
    let (question, echoed) = read(&mut fields)?;
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let mut response = json!({
        "id": ids::fresh("resp_"),
        "object": "response",
        "created_at": now(),
        "status": "in_progress",
        "error": null,
        "incomplete_details": null,
        "model": lease.served().name,
        "output": [],
        "previous_response_id": null,
        "store": false,
        "truncation": "disabled",
        "usage": null,
        "metadata": {},
    });
    if let Some(response) = response.as_object_mut() {
        response.extend(echoed);
    }
    let mut answering = asking.begin(lease, question).await?;
    let mut output = Output::new(response);
    if is_streamed {
        return stream::respond(answering, output).await;
    }
    // Nobody reads the events, but they add the response up.
    output.begin();
    while let Some((index, step)) = answering.next().await? {
        output.step(index, step);
    }
    Ok(json_response(&output.response()))
}

/// Reads the question out of a request, and what the response says again of it.
fn read(fields: &mut Fields) -> Result<(Question, Map<String, Value>), Failure> {
    fields.pass_over(&LABELS);
    // That many calls of a host's own tools: there are none.
    fields.pass_over(&["max_tool_calls"]);
    // Thinking is given as it is, not encrypted.
    fields.expect(
        "include",
        &[json!([]), json!(["reasoning.encrypted_content"])],
    );
    fields.expect("previous_response_id", &[]);
    fields.expect("conversation", &[]);
    fields.expect("prompt", &[]);
    fields.expect("background", &[false.into()]);
    fields.expect("truncation", &["disabled".into()]);
    let is_parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
    fields.expect("top_logprobs", &[0.into()]);
    let (constraint, format) = read_text(fields)?;

    let instructions: Option<String> = fields.take("instructions")?;
    let limit = read_limit(fields, "max_output_tokens", 1)?;
    let sampling = SamplingArgs {
        temperature: fields.take("temperature")?,
        top_p: fields.take("top_p")?,
        ..SamplingArgs::default()
    };
    let (arguments, reasoning) = read_reasoning(fields)?;
    let choice: Option<Value> = fields.take("tool_choice")?;
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let mut echoed = Map::new();
    for (name, value) in [
        ("instructions", json!(instructions)),
        ("max_output_tokens", json!(limit)),
        ("temperature", json!(sampling.temperature)),
        ("top_p", json!(sampling.top_p)),
        ("reasoning", reasoning),
        (
            "tool_choice",
            choice.clone().unwrap_or_else(|| "auto".into()),
        ),
        ("tools", json!(tools)),
        ("text", json!({"format": format})),
        ("parallel_tool_calls", is_parallel.into()),
    ] {
        echoed.insert(name.to_owned(), value);
    }
    let conversation = Conversation {
        messages: items::read(instructions, fields.require("input")?)?,
        tools: items::tools(fields, tools)?,
        choice: ToolChoice::read(choice.as_ref())?,
        arguments,
    };
    let question = Question {
        prompt: Prompt::Chat(conversation),
        sampling,
        limit,
        one_call: !is_parallel,
        constraint,
        ..Question::default()
    };
    Ok((question, echoed))
}

/// What the text of an answer is to be like, and that in the client's words.
fn read_text(fields: &mut Fields) -> Result<(Option<Constraint>, Value), Failure> {
    let mut text: Value = fields.echo("text").unwrap_or_default();
    let format = text.get_mut("format").map(Value::take);
    let constraint = fields.within("text", |text| {
        text.expect("verbosity", &["medium".into()]);
        form::of_format(text, "format", "")
    })?;
    let format = format.unwrap_or_else(|| json!({"type": "text"}));
    Ok((constraint.flatten(), format))
}

/// Whether and how much the model is to think, as variables of its template; and that in the client's words.
fn read_reasoning(fields: &mut Fields) -> Result<(Map<String, Value>, Value), Failure> {
    let said = fields.echo("reasoning").unwrap_or_default();
    let effort = fields.within("reasoning", |reasoning| {
        // Thinking is given as it is.
        reasoning.pass_over(&["summary", "generate_summary"]);
        let effort: Option<String> = reasoning.take("effort")?;
        effort
            .map(|effort| thinking::level("effort", &effort))
            .transpose()
    })?;
    Ok((effort.flatten().unwrap_or_default(), said))
}
