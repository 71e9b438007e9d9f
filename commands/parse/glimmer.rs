//! How Muse Glimmer writes: messages to itself, to the user and to tools, calls as elements. Knows
//! what they mean, not how they are found.

use super::Call;
use super::ending::{Ending, Fence};
use super::harmony::word_after;
use super::style::{Body, End, Header, Kind, Means, Style, Tag};
use super::tool::{Tool, Tools};
use super::xml::{self, Dialect, Element};

const RECIPIENT: &str = "to=";

pub(super) static STYLE: Style = Style {
    tags: &[
        Tag::new("<|start|>", Means::Header),
        Tag::new("<|message|>", Means::Message),
        Tag::new("<|eom|>", Means::End),
        Tag::new("<|eot|>", Means::End),
        Tag::new("<atem:function_calls>", Means::Call(&BODY)),
    ],
    header: Some(&Header {
        begins: &[RECIPIENT],
        kind,
    }),
    ..Style::PLAIN
};

/// Models name the wrong recipient at times, so the tags decide what is a call, not the header.
fn kind(header: &str, _tools: &Tools) -> Kind {
    match word_after(header, RECIPIENT) {
        Some("self") => Kind::Thinking,
        _ => Kind::Content,
    }
}

static BODY: Body = Body {
    end: End::Tag(Ending {
        own: &["</atem:function_calls>"],
        foreign: &["<|start|>", "<|eom|>", "<|eot|>"],
        fences: &[Fence {
            open: DIALECT.value.open,
            close: DIALECT.value.close,
        }],
    }),
    read,
    with_tag: false,
};

const DIALECT: Dialect = Dialect {
    call: Element {
        open: "<atem:invoke name=\"",
        named: "\">",
        close: "</atem:invoke>",
    },
    value: Element {
        open: "<atem:parameter name=\"",
        named: "\">",
        close: "</atem:parameter>",
    },
    has_lines: false,
    find,
};

fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    xml::calls(text, tools, &DIALECT)
}

/// The template offers every tool under a name space, so `read` may be called `read.read`.
fn find<'a>(tools: &'a Tools, name: &str) -> Option<&'a Tool> {
    let inner = || {
        let (space, inner) = name.split_once('.')?;
        let is_own = inner.split('.').next() == Some(space);
        tools.find(inner).filter(|_| is_own)
    };
    tools.find(name).or_else(inner)
}

#[cfg(test)]
mod tests {
    use crate::parse::Family::Glimmer;
    use crate::parse::tests::{
        call, content, parse, parse_after, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    const PROMPT: &str = "<|start|>user<|message|>Hi<|eot|><|start|>assistant";

    #[test]
    fn recipients_tell_thinking_from_the_answer() {
        let text = " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>Yes.<|eot|>";
        let wanted = [thinking("Hm."), content("Yes.")];
        assert_eq!(parse_after(Glimmer, PROMPT, text), wanted);
        assert_eq!(parse_after(Glimmer, PROMPT, "Yes."), [content("Yes.")]);
        let prompt = format!("{PROMPT} to=self<|message|>");
        assert_eq!(parse_after(Glimmer, &prompt, "Hm."), [thinking("Hm.")]);
    }

    #[test]
    fn elements_are_calls() {
        let text = " to=self<|message|>I look.<|eom|><|start|>assistant to=get_weather<|message|>\
            <atem:function_calls>\n<atem:invoke name=\"get_weather\">\n\
            <atem:parameter name=\"city\">Paris <|eom|>\n</atem:parameter>\n</atem:invoke>\n\
            </atem:function_calls><|eom|><|start|>assistant to=user<|message|>Then.\n<atem:function_calls>\n\
            <atem:invoke name=\"add\">\n<atem:parameter name=\"a\">1</atem:parameter>\n\
            <atem:parameter name=\"opts\">{\"tags\": [\"é\", \"\\\"q\\\"\"]}</atem:parameter>\n</atem:invoke>\n\
            <atem:invoke name=\"now.now\">\n</atem:invoke>\n</atem:function_calls>";
        assert_eq!(
            parse_after(Glimmer, PROMPT, text),
            [
                thinking("I look."),
                weather("Paris <|eom|>\n"),
                content("Then."),
                call("add", &json!({"a": 1, "opts": {"tags": ["é", "\"q\""]}})),
                call("now", &json!({})),
            ]
        );
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        for text in [
            "<atem:function_calls><atem:invoke name=\"unknown\"></atem:invoke></atem:function_calls>",
            "<atem:function_calls><atem:invoke name=\"x.now\"></atem:invoke></atem:function_calls>",
            "<atem:function_calls>",
        ] {
            assert_eq!(
                parse(Glimmer, &format!("<|message|>{text}<|eot|>")),
                [content(text)]
            );
        }
        let text = "<|message|><atem:function_calls><atem:invoke name=\"now\"></atem:invoke>";
        assert_eq!(parse(Glimmer, text), [call("now", &json!({}))]);
        assert_eq!(parse_cut(Glimmer, text), []);
        assert_eq!(parse_without_tools(Glimmer, text), [content(&text[11..])]);
    }
}
