//! How `DeepSeek`'s models write calls: a block of them, each with a name and JSON. Knows what
//! stands there, not how it is found.

use super::Call;
use super::ending::{Ending, QUOTES};
use super::json;
use super::style::{Body, End, Means, Style, THINK, THINK_END, Tag};
use super::tool::Tools;

const CALL: &str = "<｜tool▁call▁begin｜>";
const NAMED: &str = "<｜tool▁sep｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";

pub(super) static STYLE: Style = Style {
    tags: &[
        THINK,
        THINK_END,
        Tag::new("<｜tool▁calls▁begin｜>", Means::Call(&BLOCK)),
    ],
    ..Style::PLAIN
};

static BLOCK: Body = Body {
    end: End::Tag(Ending {
        own: &["<｜tool▁calls▁end｜>"],
        foreign: &[],
        fences: &[QUOTES],
    }),
    read,
    with_tag: false,
};

fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (head, after) = rest.strip_prefix(CALL)?.split_once(NAMED)?;
        let after = after.trim_start();
        // V3 and R1 write `function`, then the name and a block of code; V3.1 the name, then JSON.
        let (name, json) = if after.starts_with(['{', '"']) {
            (head, after)
        } else {
            let (name, block) = after.split_once('\n')?;
            (name, block.trim_start().strip_prefix("```json")?)
        };
        let (arguments, after) = json::first(json)?;
        calls.push(Call {
            name: tools.find(name.trim())?.name.clone(),
            arguments: json::arguments(arguments)?,
        });
        let after = after.trim_start();
        let after = after.strip_prefix("```").unwrap_or(after).trim_start();
        rest = after.strip_prefix(CALL_END).unwrap_or(after).trim_start();
    }
    Some(calls)
}

#[cfg(test)]
mod tests {
    use crate::parse::Family::DeepSeek;
    use crate::parse::tests::{
        call, content, parse, parse_after, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    #[test]
    fn blocks_of_code_are_calls() {
        let text = "Hm.\n</think>\n\nLet me check.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>\
            get_weather\n```json\n{\"city\": \"<｜tool▁calls▁end｜>\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>\
            function<｜tool▁sep｜>add\n```json\n{\"a\": 1, \"opts\": {\"tags\": [\"é\", \"\\\"q\\\"\"]}}\n```\
            <｜tool▁call▁end｜><｜tool▁calls▁end｜>";
        let wanted = [
            thinking("Hm.\n"),
            content("Let me check."),
            weather("<｜tool▁calls▁end｜>"),
            call("add", &json!({"a": 1, "opts": {"tags": ["é", "\"q\""]}})),
        ];
        assert_eq!(
            parse_after(DeepSeek, "<｜Assistant｜><think>\n", text),
            wanted
        );
    }

    #[test]
    fn names_with_json_are_calls() {
        let text = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}\
            <｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
        assert_eq!(
            parse(DeepSeek, text),
            [weather("Paris"), call("now", &json!({}))]
        );
        assert_eq!(parse_without_tools(DeepSeek, text), [content(text)]);
    }

    #[test]
    fn the_end_of_the_block_may_be_missing() {
        let text = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n\
            \"{\\\"city\\\": \\\"Paris\\\"}\"\n```<｜tool▁call▁end｜>";
        assert_eq!(parse(DeepSeek, text), [weather("Paris")]);
        assert_eq!(parse_cut(DeepSeek, text), []);
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        for text in [
            "a\n<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>\nb",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{]<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>x<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "<｜tool▁calls▁begin｜>now {}",
        ] {
            assert_eq!(parse(DeepSeek, text), [content(text)]);
        }
    }
}
