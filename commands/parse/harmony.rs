//! How gpt-oss writes: messages with headers that name a channel and, for a call, a recipient.
//! Knows what they mean, not how they are found.

use super::Call;
use super::ending::{Ending, QUOTES};
use super::json;
use super::style::{Body, End, Header, Kind, Means, Style, Tag};
use super::tool::Tools;

const CHANNEL: &str = "<|channel|>";
const RECIPIENT: &str = "to=";
const FUNCTIONS: &str = "functions.";
const MESSAGE: &str = "<|message|>";

/// What stands before the answer for the user.
pub(super) const FINAL: &str = "<|channel|>final<|message|>";

pub(super) static STYLE: Style = Style {
    tags: &[
        Tag::new("<|start|>", Means::Header),
        Tag::new(CHANNEL, Means::Header),
        Tag::new(MESSAGE, Means::Message),
        Tag::new("<|end|>", Means::End),
        Tag::new("<|call|>", Means::End),
        Tag::new("<|return|>", Means::End),
    ],
    header: Some(&Header {
        begins: &[CHANNEL, RECIPIENT, "<|constrain|>"],
        kind,
    }),
    ..Style::PLAIN
};

/// The header is read as well, since the name stands there.
static BODY: Body = Body {
    end: End::Tag(Ending {
        own: &[],
        foreign: &["<|start|>", CHANNEL, "<|end|>", "<|call|>", "<|return|>"],
        fences: &[QUOTES],
    }),
    read,
    with_tag: true,
};

fn kind(header: &str, tools: &Tools) -> Kind {
    let is_analysis = word_after(header, CHANNEL) == Some("analysis");
    match word_after(header, RECIPIENT) {
        Some(to) if is_function(to, tools) => Kind::Call(&BODY),
        _ if is_analysis => Kind::Thinking,
        None | Some("user" | "assistant") => Kind::Content,
        Some(_) => Kind::Verbatim,
    }
}

/// Whether a message to this recipient is a call of an offered tool, or is meant to be one.
fn is_function(recipient: &str, tools: &Tools) -> bool {
    let is_meant = recipient.starts_with(FUNCTIONS) || tools.find(recipient).is_some();
    !tools.is_empty() && is_meant
}

fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let (header, json) = text.split_once(MESSAGE)?;
    let recipient = word_after(header, RECIPIENT)?;
    let name = recipient.strip_prefix(FUNCTIONS).unwrap_or(recipient);
    let arguments = if json.trim().is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_str(json).ok()?
    };
    Some(vec![Call {
        name: tools.find(name)?.name.clone(),
        arguments: json::arguments(arguments)?,
    }])
}

/// The word after a mark in a header.
pub(super) fn word_after<'a>(header: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(mark)?;
    rest.split(|c: char| c.is_whitespace() || c == '<').next()
}

#[cfg(test)]
mod tests {
    use crate::parse::Family::Harmony;
    use crate::parse::Part;
    use crate::parse::tests::{
        call, content, parse, parse_after, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    const PROMPT: &str = "<|start|>user<|message|>Hi<|end|><|start|>assistant";

    fn check(text: &str, wanted: &[Part]) {
        assert_eq!(parse_after(Harmony, PROMPT, text), wanted);
        // Where the prompt leaves the role to the model.
        assert_eq!(parse(Harmony, &format!("<|start|>assistant{text}")), wanted);
    }

    #[test]
    fn channels_tell_thinking_from_the_answer() {
        check(
            "<|channel|>analysis<|message|>Hm <|.\n<|end|><|start|>assistant<|channel|>final<|message|>Yes.\n",
            &[thinking("Hm <|.\n"), content("Yes.\n")],
        );
        check(
            "<|channel|>analysis<|message|><|end|><|channel|>commentary<|message|>I look.<|end|>\n",
            &[content("I look.")],
        );
        check("<|channel|>analysis<|message|>Hm", &[thinking("Hm")]);
        check("<|message|>Yes.<|return|>", &[content("Yes.")]);
        check("<|channel|>final", &[]);
        check("", &[]);
    }

    #[test]
    fn a_message_to_a_function_is_a_call() {
        let body = "<|message|>{\"city\": \"<|call|> 7\\\"\\n\"}";
        for header in [
            " to=functions.get_weather<|channel|>commentary json",
            "<|channel|>commentary to=functions.get_weather <|constrain|>json",
            "<|channel|>analysis to=functions.get_weather code",
            "<|channel|>commentary to=get_weather",
        ] {
            check(&format!("{header}{body}"), &[weather("<|call|> 7\"\n")]);
            assert_eq!(parse_cut(Harmony, &format!("{header}{body}")), []);
        }
        check(
            "<|channel|>analysis<|message|>I need the tool.<|end|><|start|>assistant to=functions.add\
            <|channel|>commentary json<|message|>{\"a\": 1, \"opts\": {\"tags\": [\"é\"]}}<|call|>\
            <|start|>assistant<|channel|>commentary to=functions.now<|message|>",
            &[
                thinking("I need the tool."),
                call("add", &json!({"a": 1, "opts": {"tags": ["é"]}})),
                call("now", &json!({})),
            ],
        );
    }

    #[test]
    fn the_prompt_may_have_begun_a_message() {
        let prompt = |begin: &str| format!("{PROMPT}<|channel|>{begin}");
        let after = |begin: &str, text: &str| parse_after(Harmony, &prompt(begin), text);
        assert_eq!(after("analysis<|message|>", "Hm"), [thinking("Hm")]);
        assert_eq!(after("final<|message|>The ", "answer"), [content("answer")]);
        assert_eq!(after("ana", "lysis<|message|>Hm"), [thinking("Hm")]);
        assert_eq!(
            after(
                "commentary to=functions.get_weather<|message|>{\"city\": ",
                "\"Rome\"}"
            ),
            [weather("Rome")]
        );
    }

    #[test]
    fn what_has_no_header_is_the_answer() {
        for text in ["Hello.", "a", "assist", "<|chan", " to the\npoint"] {
            assert_eq!(parse_after(Harmony, PROMPT, text), [content(text)]);
            assert_eq!(parse(Harmony, text), [content(text)]);
        }
        let long = format!(" to={}", "x".repeat(1000));
        assert_eq!(parse_after(Harmony, PROMPT, &long), [content(&long)]);
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        let unknown = "<|channel|>commentary to=functions.unknown <|constrain|>json<|message|>{}";
        check(unknown, &[content(unknown)]);
        let broken = "<|channel|>commentary to=functions.now<|message|>{\"a\"";
        check(broken, &[content(broken)]);
        let other = "<|channel|>commentary to=browser.search<|message|>{}";
        check(other, &[content(other)]);
        let known = "<|channel|>commentary to=functions.now<|message|>{}";
        assert_eq!(parse_without_tools(Harmony, known), [content(known)]);
    }
}
