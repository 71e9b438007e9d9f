//! How Cohere's models write: everything stands between tags of its own, calls in a list of JSON.
//! Knows what stands there, not how it is found.

use super::ending::{Ending, QUOTES};
use super::json;
use super::style::{Body, End, Means, Style, Tag};

pub(super) static STYLE: Style = Style {
    tags: &[
        Tag::new("<|START_THINKING|>", Means::Think),
        Tag::new("<|END_THINKING|>", Means::Answer),
        Tag::new("<|START_TEXT|>", Means::Nothing),
        Tag::new("<|END_TEXT|>", Means::Nothing),
        Tag::new("<|START_RESPONSE|>", Means::Nothing),
        Tag::new("<|END_RESPONSE|>", Means::Nothing),
        Tag::new("<|START_ACTION|>", Means::Call(&BODY)),
    ],
    ..Style::PLAIN
};

static BODY: Body = Body {
    end: End::Tag(Ending {
        own: &["<|END_ACTION|>"],
        foreign: &[],
        fences: &[QUOTES],
    }),
    read: json::calls,
    with_tag: false,
};

#[cfg(test)]
mod tests {
    use crate::parse::Family::Cohere;
    use crate::parse::tests::{
        call, content, parse_after, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    const PROMPT: &str = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>";

    #[test]
    fn an_answer_stands_between_tags() {
        for (open, close) in [
            ("<|START_TEXT|>", "<|END_TEXT|>"),
            ("\n<|START_RESPONSE|>", "<|END_RESPONSE|>"),
            ("", ""),
        ] {
            let text = format!("Hm.<|END_THINKING|>{open}Yes. {close}");
            let wanted = [thinking("Hm."), content("Yes. ")];
            assert_eq!(parse_after(Cohere, PROMPT, &text), wanted);
        }
    }

    #[test]
    fn a_list_is_calls() {
        let text = "I need the tool.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \
            \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"<|END_ACTION|>\"}},\n    \
            {\"tool_call_id\": \"1\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>\n";
        assert_eq!(
            parse_after(Cohere, PROMPT, text),
            [
                thinking("I need the tool."),
                weather("<|END_ACTION|>"),
                call("now", &json!({}))
            ]
        );
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        let text = "<|START_ACTION|>[{\"tool_name\": \"unknown\"}]<|END_ACTION|>";
        assert_eq!(parse_after(Cohere, "", text), [content(text)]);
        let text = "<|START_ACTION|>[{\"tool_name\": \"now\"}]";
        assert_eq!(parse_after(Cohere, "", text), [call("now", &json!({}))]);
        assert_eq!(parse_cut(Cohere, text), []);
        assert_eq!(parse_without_tools(Cohere, text), [content(text)]);
    }
}
