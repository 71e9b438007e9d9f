//! Tells a model's thinking, answer and calls of tools apart, as its text comes in. Knows text alone:
//! no model, no tokenizer, no protocol.
//!
//! A family of models is a table of tags (`tool_call`, `mistral`, …) and a function that reads what
//! stands in a call. One machine (`machine`) takes the text apart by such a table: it holds back what
//! may become a tag (`held`), and gathers a call until it ends (`call`, `ending`, `json`). To add a
//! family, write its table and name it here.

mod call;
mod cohere;
mod deepseek;
mod ending;
mod forced;
mod gemma4;
mod glimmer;
mod harmony;
mod held;
mod json;
mod llama3;
mod machine;
mod mistral;
mod style;
#[cfg(test)]
mod tests;
mod tool;
mod tool_call;
mod typed;
mod xml;

pub(crate) use tool::Tool;

use machine::Machine;
use serde_json::{Map, Value};
use style::{Means, Style, Tag};
use tool::Tools;

/// The way in which a family of models writes thinking and calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Neither thinking nor calls: everything is the answer.
    Plain,
    /// `<think>` alone.
    Think,
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`
    Hermes,
    /// `<tool_call><function=…><parameter=…>…`
    QwenXml,
    /// `<tool_call>name<arg_key>…</arg_key><arg_value>…`
    Glm,
    /// `[TOOL_CALLS]` with a list of calls, or with `name[ARGS]{…}`
    Mistral,
    /// `{"name": …, "parameters": …}` as it is, or after `<|python_tag|>`
    Llama3,
    /// Messages with channels, as gpt-oss writes them.
    Harmony,
    /// `<|tool_call>call:name{…}<tool_call|>`
    Gemma4,
    /// `<|START_ACTION|>[{"tool_name": …}]<|END_ACTION|>`
    Cohere,
    /// `<atem:function_calls>` in messages to tools
    Glimmer,
    /// `<｜tool▁calls▁begin｜>…`
    DeepSeek,
}

/// What the templates of a family have in them. The first that is found decides, so what only one
/// family has stands above what several have.
const MARKS: [(&str, Family); 14] = [
    ("<atem:", Family::Glimmer),
    ("<|channel|>", Family::Harmony),
    ("<|tool_call>", Family::Gemma4),
    ("<|START_ACTION|>", Family::Cohere),
    ("<|START_THINKING|>", Family::Cohere),
    ("<｜tool▁call", Family::DeepSeek),
    ("[TOOL_CALLS]", Family::Mistral),
    ("[THINK]", Family::Mistral),
    ("<arg_key>", Family::Glm),
    ("<function=", Family::QwenXml),
    ("<tool_call>", Family::Hermes),
    ("<|python_tag|>", Family::Llama3),
    ("{\"name\": function name, \"parameters\":", Family::Llama3),
    ("<think>", Family::Think),
];

/// A piece of what a model wrote.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Thinking(String),
    Content(String),
    Call(Call),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Map<String, Value>,
}

/// Takes the text of one answer apart.
#[derive(Debug)]
pub(crate) struct Parser(Machine);

impl Family {
    /// From the source of the model's chat template. Where nothing tells, `<think>` is looked for.
    pub(crate) fn of_template(source: &str) -> Self {
        let mut marks = MARKS.iter();
        marks
            .find(|(mark, _)| source.contains(mark))
            .map_or(Self::Think, |(_, family)| *family)
    }

    /// Whether its tags are special tokens, which decoding must then show.
    pub(crate) fn has_special_tags(self) -> bool {
        match self {
            Self::Plain | Self::Think | Self::Hermes | Self::QwenXml | Self::Glm => false,
            Self::Mistral
            | Self::Llama3
            | Self::Harmony
            | Self::Gemma4
            | Self::Cohere
            | Self::Glimmer
            | Self::DeepSeek => true,
        }
    }

    /// What comes before the answer to `prompt` in any case: the end of thinking that the prompt has opened, or
    /// the header of the answer's own message.
    pub(crate) fn before_answer(self, prompt: &str) -> Option<&'static str> {
        if self == Self::Harmony {
            return Some(harmony::FINAL);
        }
        let (tags, end) = (self.style().tags, prompt.trim_end());
        let opens = |tag: &Tag| matches!(tag.means, Means::Think) && end.ends_with(tag.text);
        let open = tags.iter().position(opens)?;
        let mut later = tags[open..].iter();
        later.find_map(|tag| matches!(tag.means, Means::Answer).then_some(tag.text))
    }

    fn style(self) -> &'static Style {
        match self {
            Self::Plain => &Style::PLAIN,
            Self::Think => &tool_call::THINKING,
            Self::Hermes => &tool_call::HERMES,
            Self::QwenXml => &tool_call::QWEN_XML,
            Self::Glm => &tool_call::GLM,
            Self::Mistral => &mistral::STYLE,
            Self::Llama3 => &llama3::STYLE,
            Self::Harmony => &harmony::STYLE,
            Self::Gemma4 => &gemma4::STYLE,
            Self::Cohere => &cohere::STYLE,
            Self::Glimmer => &glimmer::STYLE,
            Self::DeepSeek => &deepseek::STYLE,
        }
    }
}

impl Parser {
    /// For the text that follows `prompt`, which may have begun the thinking or a message already.
    /// Only calls of `tools` are calls; without any, all calls are answer.
    pub(crate) fn new(family: Family, prompt: &str, tools: Vec<Tool>) -> Self {
        Self(Machine::new(family.style(), prompt, Tools(tools)))
    }

    /// What is certain after `text` has come.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.0.push(text)
    }

    /// What was held, when no more text will come. Where the answer is `complete`, the model ended
    /// it by itself or at a stop string; otherwise it was cut off, and a call without its end is
    /// dropped.
    pub(crate) fn finish(&mut self, complete: bool) -> Vec<Part> {
        self.0.finish(complete)
    }
}
