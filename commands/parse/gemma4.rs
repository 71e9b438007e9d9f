//! How Gemma 4 writes: `<|tool_call>call:name{key:value}<tool_call|>` with `<|"|>` for quotes.
//! Knows what stands there, not how it is found.

use super::Call;
use super::ending::{Ending, Fence, QUOTES};
use super::json;
use super::style::{Body, End, Means, Style, Tag};
use super::tool::Tools;
use serde_json::{Map, Value};

const QUOTE: &str = "<|\"|>";
/// How deep values may stand in each other.
const DEPTH: usize = 100;

pub(super) static STYLE: Style = Style {
    tags: &[
        Tag::new("<|channel>thought", Means::Think),
        Tag::new("<channel|>", Means::Answer),
        Tag::new("<|tool_call>", Means::Call(&BODY)),
        // With this the model hands over after its calls.
        Tag::at_begin("<|tool_response>", Means::CallEnd),
    ],
    ..Style::PLAIN
};

static BODY: Body = Body {
    end: End::Tag(Ending {
        own: &["<tool_call|>"],
        foreign: &["<|tool_call>"],
        fences: &[
            Fence {
                open: QUOTE,
                close: QUOTE,
            },
            QUOTES,
        ],
    }),
    read,
    with_tag: false,
};

fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let (name, rest) = text.trim().strip_prefix("call:")?.split_once('{')?;
    let tool = tools.find(name.trim())?;
    let mut reader = Reader(rest);
    let arguments = reader.fields(DEPTH)?;
    let call = Call {
        name: tool.name.clone(),
        arguments,
    };
    reader.0.trim().is_empty().then(|| vec![call])
}

/// Reads what is left of a text.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// What follows an opening brace.
    fn fields(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut fields = Map::new();
        while !self.eat("}") {
            let key = match self.string() {
                Some(key) => key,
                None => self.until(&[':'])?.to_owned(),
            };
            if !self.eat(":") {
                return None;
            }
            fields.insert(key, self.value(depth)?);
            self.comma("}")?;
        }
        Some(fields)
    }

    /// What follows an opening bracket.
    fn items(&mut self, depth: usize) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        while !self.eat("]") {
            items.push(self.value(depth)?);
            self.comma("]")?;
        }
        Some(items)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if self.eat("{") {
            return self.fields(depth).map(Value::Object);
        }
        if self.eat("[") {
            return self.items(depth).map(Value::Array);
        }
        if let Some(text) = self.string() {
            return Some(Value::String(text));
        }
        let word = self.until(&[',', '}', ']'])?;
        Some(match word {
            "None" | "none" => Value::Null,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            _ => serde_json::from_str(word).unwrap_or_else(|_| word.into()),
        })
    }

    fn string(&mut self) -> Option<String> {
        self.0 = self.0.trim_start();
        if let Some(rest) = self.0.strip_prefix(QUOTE) {
            let (text, rest) = rest.split_once(QUOTE)?;
            self.0 = rest;
            return Some(text.to_owned());
        }
        if !self.0.starts_with('"') {
            return None;
        }
        let (value, rest) = json::first(self.0)?;
        self.0 = rest;
        value.as_str().map(str::to_owned)
    }

    /// A word without quotes.
    fn until(&mut self, ends: &[char]) -> Option<&'a str> {
        let (word, rest) = self.0.split_at(self.0.find(ends)?);
        self.0 = rest;
        let word = word.trim();
        (!word.is_empty() && !word.contains('"')).then_some(word)
    }

    /// A comma, unless the end follows.
    fn comma(&mut self, end: &str) -> Option<()> {
        let is_end = self.0.trim_start().starts_with(end);
        (is_end || self.eat(",")).then_some(())
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use crate::parse::Family::Gemma4;
    use crate::parse::tests::{
        call, content, parse, parse_after, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    #[test]
    fn its_own_notation_is_a_call() {
        let text = "<|channel>thought\nI need the tool.\n<channel|><|tool_call>call:get_weather{city:<|\"|>\
            Paris<tool_call|>\n\"7\"<|\"|>}<tool_call|><|tool_call>call:add{a:1,b:2.5,opts:{round:true,\
            tags:[<|\"|>x<|\"|>,<|\"|>é<|\"|>,None],<|\"|>a b<|\"|>:{}}}<tool_call|><|tool_call>call:now{}\
            <tool_call|><|tool_response>Let me check.";
        let options = json!({"round": true, "tags": ["x", "é", null], "a b": {}});
        assert_eq!(
            parse(Gemma4, text),
            [
                thinking("I need the tool.\n"),
                weather("Paris<tool_call|>\n\"7\""),
                call("add", &json!({"a": 1, "b": 2.5, "opts": options})),
                call("now", &json!({})),
                content("Let me check."),
            ]
        );
    }

    #[test]
    fn other_quotes_and_white_space_are_read() {
        for text in [
            "<|tool_call>call:get_weather{ city : \"Paris\" }",
            "<|tool_call>call:get_weather{\"city\":Paris,}<tool_call|>",
        ] {
            assert_eq!(parse(Gemma4, text), [weather("Paris")]);
        }
        let text = "<|tool_call>call:now{}<tool_call|>";
        assert_eq!(parse_without_tools(Gemma4, text), [content(text)]);
        assert_eq!(parse_cut(Gemma4, &text[..text.len() - 1]), []);
        let prompt = "<|turn>model\n<|channel>thought\n<channel|>";
        assert_eq!(parse_after(Gemma4, prompt, "Yes"), [content("Yes")]);
        assert_eq!(
            parse_after(Gemma4, "<|channel>thought\n", "Hm<channel|>Yes"),
            [thinking("Hm"), content("Yes")]
        );
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        for text in [
            "a\n<|tool_call>call:unknown{}<tool_call|>\nb",
            "<|tool_call>call:now{a}<tool_call|>",
            "<|tool_call>call:now{a:}<tool_call|>",
            "<|tool_call>call:now{a:1}}<tool_call|>",
            "<|tool_call>call:now{a:<|\"|>b}<tool_call|>",
            "<|tool_call>call:now{a:[1}<tool_call|>",
            &format!("<|tool_call>call:now{{a:{}", "[".repeat(200)),
        ] {
            assert_eq!(parse(Gemma4, text), [content(text)]);
        }
    }
}
