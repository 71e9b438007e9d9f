//! Anthropic's dialect: `/v1/messages` and the counting of its tokens.

mod messages;
mod stream;

use axum::response::Response;
use mlxr::constraint::Constraint;
use mlxr::engine::request::Finish;
use serde_json::{Map, Value, json};

use super::answering::{Answering, Ended, Step};
use super::asking::Asking;
use super::dialect::json_response;
use super::fields::Fields;
use super::form::{self, ToolChoice};
use super::ids;
use super::models::blocking;
use super::question::{Conversation, Prompt, Question};
use super::thinking;
use crate::args::SamplingArgs;
use crate::parse::{Call, Part};
use crate::wire::Failure;
use stream::Stream;

/// Fields that are labels for others, or that change no answer.
const LABELS: [&str; 4] = ["metadata", "service_tier", "inference_geo", "cache_control"];

/// What is told of a tool, or changes nothing that is told.
const TOLD: [&str; 6] = [
    "type",
    "name",
    "description",
    "input_schema",
    "cache_control",
    "eager_input_streaming",
];

/// What stands for the signature of thinking that nobody signs.
const SIGNATURE: &str = "mlxr";

/// Answers a conversation.
///
/// # Errors
/// Where it is not one, or cannot be answered.
pub(super) async fn answer(asking: Asking, mut fields: Fields) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let is_streamed = fields.take("stream")?.unwrap_or(false);
    let limit: usize = fields.require("max_tokens")?;
    if limit == 0 {
        return Err(Failure::field("max_tokens", "it must be at least 1"));
    }
    let question = Question {
        limit: Some(limit),
        ..read(&mut fields)?
    };
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let shape = Shape {
        id: ids::fresh("msg_"),
        model: lease.served().name.clone(),
    };
    let answering = asking.begin(lease, question).await?;
    if is_streamed {
        super::stream::respond(answering, Stream::new(shape)).await
    } else {
        whole(answering, &shape).await
    }
}

/// Counts the tokens of a conversation.
///
/// # Errors
/// Where it is not one.
pub(super) async fn count(asking: Asking, mut fields: Fields) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let question = read(&mut fields)?;
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let served = std::sync::Arc::clone(lease.served());
    let tokens = blocking(move || question.count(&served)).await??;
    Ok(json_response(&json!({"input_tokens": tokens})))
}

/// Reads the question out of a request.
fn read(fields: &mut Fields) -> Result<Question, Failure> {
    fields.pass_over(&LABELS);
    // Agents send it with each request.
    fields.leave_out(&["context_management"]);
    let system: Option<Value> = fields.take("system")?;
    let messages: Vec<Map<String, Value>> = fields.require("messages")?;
    if messages.is_empty() {
        return Err(Failure::field("messages", "there are none"));
    }
    let choice: Option<Value> = fields.take("tool_choice")?;
    let choice = choice.unwrap_or_else(|| json!({"type": "auto"}));
    let (arguments, constraint) = read_thinking(fields)?;
    let conversation = Conversation {
        messages: messages::read(system, &messages)?,
        tools: read_tools(fields)?,
        choice: read_choice(&choice)?,
        arguments,
    };
    Ok(Question {
        prompt: Prompt::Chat(conversation),
        sampling: SamplingArgs {
            temperature: fields.take("temperature")?,
            top_k: fields.take("top_k")?,
            top_p: fields.take("top_p")?,
            ..SamplingArgs::default()
        },
        stop: fields.texts("stop_sequences")?,
        constraint,
        one_call: choice["disable_parallel_tool_use"] == true,
        ..Question::default()
    })
}

/// The tools that the model is told of, in OpenAI's form.
fn read_tools(fields: &mut Fields) -> Result<Vec<Value>, Failure> {
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let mut function = |(index, tool): (usize, Value)| {
        let is_custom = tool
            .get("type")
            .is_none_or(|kind| kind.is_null() || kind == "custom");
        let (Some(name), true) = (tool["name"].as_str(), is_custom) else {
            let field = format!("tools[{index}]");
            return Err(Failure::field(
                field,
                "it is no tool of the client with a name",
            ));
        };
        let said = tool.as_object().into_iter().flatten();
        for (part, _) in said.filter(|(part, _)| !TOLD.contains(&part.as_str())) {
            fields.leave_out_of("tools", format_args!("[{index}].{part}"));
        }
        let mut function = json!({"name": name, "parameters": tool["input_schema"]});
        if tool["description"].is_string() {
            function["description"] = tool["description"].clone();
        }
        Ok(json!({"type": "function", "function": function}))
    };
    tools.into_iter().enumerate().map(&mut function).collect()
}

/// Which tools must be called.
fn read_choice(choice: &Value) -> Result<ToolChoice, Failure> {
    match (choice["type"].as_str(), choice["name"].as_str()) {
        (Some("auto"), _) => Ok(ToolChoice::Free),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("any"), _) => Ok(ToolChoice::Any),
        (Some("tool"), Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
        _ => Err(Failure::field(
            "tool_choice",
            "its `type` is `auto`, `none`, `any` or `tool`",
        )),
    }
}

/// Whether and how much the model is to think, as variables of its template; and what its answer must look like.
fn read_thinking(fields: &mut Fields) -> Result<(Map<String, Value>, Option<Constraint>), Failure> {
    let switched = fields.within("thinking", |thinking| {
        // Clients must name a budget, and thinking is given as it is.
        thinking.leave_out(&["budget_tokens", "display"]);
        match thinking.require::<String>("type")?.as_str() {
            "enabled" | "adaptive" => Ok(thinking::switched(true)),
            "disabled" => Ok(thinking::switched(false)),
            other => Err(Failure::field(
                "type",
                format!("`{other}` is neither `enabled`, `adaptive` nor `disabled`"),
            )),
        }
    })?;
    let mut arguments = switched.unwrap_or_default();
    let output = fields.within("output_config", |output| {
        let effort: Option<String> = output.take("effort")?;
        let level = effort.map(|effort| thinking::level("effort", &effort));
        let constraint = form::of_format(output, "format", "")?;
        Ok((level.transpose()?, constraint))
    })?;
    let (level, constraint) = output.unwrap_or_default();
    // Who says that it is not to think means that, however much effort is asked.
    if arguments.get("enable_thinking") != Some(&false.into()) {
        arguments.extend(level.unwrap_or_default());
    }
    Ok((arguments, constraint))
}

/// What an answer bears.
struct Shape {
    id: String,
    model: String,
}

impl Shape {
    fn message(&self, content: &[Value], stop: &(Value, Value), usage: &Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop.0,
            "stop_sequence": stop.1,
            "usage": usage,
        })
    }
}

/// Why an answer ended, and the text that ended it if one did.
fn stop(ended: &Ended, calls: bool) -> (Value, Value) {
    let reason = match &ended.finish {
        Finish::Eos(_) | Finish::Complete if calls => "tool_use",
        Finish::Eos(_) | Finish::Complete => "end_turn",
        Finish::Stop(text) => return ("stop_sequence".into(), text.as_str().into()),
        Finish::Length | Finish::Memory | Finish::Cancelled => "max_tokens",
    };
    (reason.into(), Value::Null)
}

/// Here the tokens that were cached are not among those of the input.
fn usage(prompt: usize, cached: usize, completion: usize) -> Value {
    json!({
        "input_tokens": prompt - cached.min(prompt),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
    })
}

/// A block with the call of a tool, its input being there or still to come.
fn tool_use(call: &Call, input: &Value) -> Value {
    json!({"type": "tool_use", "id": ids::fresh("toolu_"), "name": call.name, "input": input})
}

/// Sends the answer when it is complete.
async fn whole(mut answering: Answering, shape: &Shape) -> Result<Response, Failure> {
    let mut parts: Vec<Part> = Vec::new();
    while let Some((_, step)) = answering.next().await? {
        let (grown, ended) = match step {
            Step::Started { .. } | Step::Read(_) | Step::Prefill { .. } => continue,
            Step::Grown(grown) => (grown, None),
            Step::Done(grown, ended) => (grown, Some(ended)),
        };
        parts.extend(grown.parts);
        if let Some(ended) = ended {
            let calls = parts.iter().any(|part| matches!(part, Part::Call(_)));
            let content = blocks(parts);
            let (read, cached, written) = ended.counts();
            let message = shape.message(
                &content,
                &stop(&ended, calls),
                &usage(read, cached, written),
            );
            return Ok(json_response(&message));
        }
    }
    Err(Failure::new(
        crate::wire::Fault::Internal,
        "the answer has no end",
    ))
}

/// The parts of an answer as blocks; what follows itself in kind is one.
fn blocks(parts: Vec<Part>) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    for part in parts {
        let (kind, field, text) = match part {
            Part::Thinking(text) => ("thinking", "thinking", text),
            Part::Content(text) => ("text", "text", text),
            Part::Call(call) => {
                let input = Value::Object(call.arguments.clone());
                blocks.push(tool_use(&call, &input));
                continue;
            }
        };
        match blocks.last_mut() {
            Some(block) if block["type"] == kind => {
                let before = block[field].as_str().unwrap_or_default();
                block[field] = format!("{before}{text}").into();
            }
            _ if kind == "thinking" => {
                blocks.push(json!({"type": "thinking", "thinking": text, "signature": SIGNATURE}));
            }
            _ => blocks.push(json!({"type": "text", "text": text})),
        }
    }
    blocks
}
