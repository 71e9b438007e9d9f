//! How Mistral's models write: `[TOOL_CALLS]` with a list, or with a name and its arguments. Knows
//! what stands there, not how it is found.

use super::Call;
use super::json::{self, Before};
use super::style::{Body, End, Means, Style, THINK, THINK_END, Tag};
use super::tool::Tools;

pub(super) static STYLE: Style = Style {
    tags: &[
        THINK,
        THINK_END,
        Tag::new("[THINK]", Means::Think),
        Tag::new("[/THINK]", Means::Answer),
        Tag::new("[TOOL_CALLS]", Means::Call(&BODY)),
    ],
    ..Style::PLAIN
};

static BODY: Body = Body {
    end: End::Json(Before::Name),
    read,
    with_tag: false,
};

/// `[{"name": …}, …]`, or `name[ARGS]{…}` where `[CALL_ID]` and an id may stand after the name.
fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let text = text.trim();
    if text.starts_with('[') {
        return json::calls(text, tools);
    }
    let (head, arguments) = text.split_at(text.find('{')?);
    let name = head.split('[').next()?.trim();
    Some(vec![Call {
        name: tools.find(name)?.name.clone(),
        arguments: serde_json::from_str(arguments).ok()?,
    }])
}

#[cfg(test)]
mod tests {
    use crate::parse::Family::Mistral;
    use crate::parse::tests::{
        call, content, parse, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    #[test]
    fn a_list_is_calls() {
        let text = "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"[/] Paris\"}, \
            \"id\": \"call00001\"}, {\"name\": \"now\", \"arguments\": {}, \"id\": \"call00002\"}]";
        let wanted = [weather("[/] Paris"), call("now", &json!({}))];
        assert_eq!(parse(Mistral, text), wanted);
        assert_eq!(parse_cut(Mistral, text), wanted);
        assert_eq!(parse_cut(Mistral, &text[..text.len() - 1]), []);
        assert_eq!(parse_without_tools(Mistral, text), [content(text)]);
    }

    #[test]
    fn names_with_arguments_are_calls() {
        let text = "[THINK]I need\nthe tool.[/THINK]Let me check.[TOOL_CALLS]get_weather[ARGS]{\"city\": \
            \"Paris\"}[TOOL_CALLS]add[CALL_ID]call00002[ARGS]{\"a\": 1, \"opts\": {\"tags\": \
            [\"é\", \"\\\"q\\\"\\n[TOOL_CALLS]\"]}}[TOOL_CALLS]now[ARGS]{} Done.";
        assert_eq!(
            parse(Mistral, text),
            [
                thinking("I need\nthe tool."),
                content("Let me check."),
                weather("Paris"),
                call(
                    "add",
                    &json!({"a": 1, "opts": {"tags": ["é", "\"q\"\n[TOOL_CALLS]"]}})
                ),
                call("now", &json!({})),
                content("Done."),
            ]
        );
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        for text in [
            "a [TOOL_CALLS]unknown[ARGS]{} b",
            "[TOOL_CALLS]now[ARGS]{\"a\": b\"c}",
            "[TOOL_CALLS]now[ARGS]{\"a\": <} b",
            "[TOOL_CALLS] I will\nnot. {}",
            "[TOOL_CALLS]now[ARGS]",
            "[TOOL_CALLS][]",
        ] {
            assert_eq!(parse(Mistral, text), [content(text)]);
        }
        let text = "[TOOL_CALLS]now[ARGS]{\"a\": [TOOL_CALLS]now[ARGS]{}";
        assert_eq!(
            parse(Mistral, text),
            [content(text)],
            "the second is inside the first, which has no end"
        );
    }
}
