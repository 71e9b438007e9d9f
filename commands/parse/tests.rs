//! What holds for all families, and what their own tests share.

mod property;

use super::{Call, Family, Parser, Part, Tool};
use serde_json::{Value, json};

/// The tools that the tests offer.
pub(super) fn tools() -> Vec<Tool> {
    let schemas = [
        ("get_weather", json!({"city": {"type": "string"}})),
        (
            "add",
            json!({
                "a": {"type": "number"},
                "b": {"type": ["number", "null"]},
                "opts": {"type": "object"},
            }),
        ),
        ("now", json!({})),
    ];
    let tools = schemas.map(|(name, properties)| Tool {
        name: name.into(),
        parameters: json!({"type": "object", "properties": properties}),
    });
    tools.into()
}

pub(super) fn thinking(text: &str) -> Part {
    Part::Thinking(text.into())
}

pub(super) fn content(text: &str) -> Part {
    Part::Content(text.into())
}

pub(super) fn call(name: &str, arguments: &Value) -> Part {
    Part::Call(Call {
        name: name.into(),
        arguments: arguments.as_object().unwrap().clone(),
    })
}

pub(super) fn weather(city: &str) -> Part {
    call("get_weather", &json!({"city": city}))
}

/// The parts of a complete text after an empty prompt, with all tools offered. Checks that the
/// pieces in which it comes do not matter, and that a text which is cut off has no other calls.
pub(super) fn parse(family: Family, text: &str) -> Vec<Part> {
    parse_after(family, "", text)
}

pub(super) fn parse_after(family: Family, prompt: &str, text: &str) -> Vec<Part> {
    let new = || Parser::new(family, prompt, tools());
    let parts = run(new(), [text], true);
    let characters = text.split_inclusive(|_| true);
    assert_eq!(run(new(), characters, true), parts, "{text:?}");
    let calls = calls(&parts);
    for (end, _) in text.char_indices() {
        let cut = run(new(), [&text[..end]], false);
        assert!(
            calls.starts_with(&self::calls(&cut)),
            "{:?}: {cut:?}",
            &text[..end]
        );
    }
    parts
}

/// The parts of a text that was cut off.
pub(super) fn parse_cut(family: Family, text: &str) -> Vec<Part> {
    run(Parser::new(family, "", tools()), [text], false)
}

/// The parts where no tools are offered.
pub(super) fn parse_without_tools(family: Family, text: &str) -> Vec<Part> {
    run(Parser::new(family, "", Vec::new()), [text], true)
}

/// Everything that a parser makes of these pieces, with neighbours of one kind joined.
fn run<'a>(
    mut parser: Parser,
    pieces: impl IntoIterator<Item = &'a str>,
    complete: bool,
) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for piece in pieces {
        parts.extend(parser.push(piece));
    }
    parts.extend(parser.finish(complete));
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Thinking(all)), Part::Thinking(more))
            | (Some(Part::Content(all)), Part::Content(more)) => *all += &more,
            (_, part) => joined.push(part),
        }
    }
    joined
}

fn calls(parts: &[Part]) -> Vec<Part> {
    let calls = parts.iter().filter(|part| matches!(part, Part::Call(_)));
    calls.cloned().collect()
}

#[test]
fn a_template_tells_its_family() {
    for (source, family) in [
        ("{{ message.content }}", Family::Think),
        ("{%- if '</think>' in content %}<think>", Family::Think),
        ("<think>\\n<tool_call>\\n{\"name\": \"", Family::Hermes),
        ("\\n<tool_call>\\n<function=' + name", Family::QwenXml),
        ("<tool_call>{name}<arg_key>{key}</arg_key>", Family::Glm),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", Family::Mistral),
        ("[THINK]' + block", Family::Mistral),
        ("<|python_tag|>", Family::Llama3),
        (
            "respond in {\"name\": function name, \"parameters\": dictionary",
            Family::Llama3,
        ),
        (
            "<|start|>assistant<|channel|>final<|message|>",
            Family::Harmony,
        ),
        ("<|channel>thought\\n <|tool_call>call:", Family::Gemma4),
        ("<|START_THINKING|>", Family::Cohere),
        ("<|start|>assistant <atem:function_calls>", Family::Glimmer),
        ("</think> <｜tool▁calls▁begin｜>", Family::DeepSeek),
    ] {
        assert_eq!(Family::of_template(source), family, "{source}");
    }
}

#[test]
fn without_tags_everything_is_the_answer() {
    let text = "\n <think>\na</think>\n<tool_call>{}</tool_call> ";
    assert_eq!(parse(Family::Plain, text), [content(text)]);
    assert_eq!(parse(Family::Plain, ""), []);
}

#[test]
fn an_answer_comes_after_thinking_that_is_open() {
    for (family, prompt, before) in [
        (
            Family::Think,
            "<|im_start|>assistant\n<think>\n",
            Some("</think>"),
        ),
        (
            Family::Hermes,
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
            None,
        ),
        (Family::QwenXml, "<|im_start|>assistant\n", None),
        (Family::Mistral, "[/INST][THINK]", Some("[/THINK]")),
        (
            Family::Harmony,
            "<|start|>assistant",
            Some("<|channel|>final<|message|>"),
        ),
        (Family::Plain, "<think>", None),
    ] {
        assert_eq!(
            family.before_answer(prompt),
            before,
            "{family:?} after {prompt:?}"
        );
    }
}
