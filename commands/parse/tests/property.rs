//! What holds for all families and for every text; knows nothing of what their texts mean.

use super::{calls, content, run, tools};
use crate::parse::{Family, Parser, Part, Tool};
use proptest::prelude::*;
use serde_json::Value;

/// Pieces of what the families write.
const FRAGMENTS: [(Family, &[&str]); 12] = [
    (Family::Plain, &["<think>"]),
    (Family::Think, &["<think>", "</think>", "</th"]),
    (
        Family::Hermes,
        &[
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "{\"name\": \"now\", \"arguments\": {",
            "\"city\": \"</tool_call>\"",
            "}}",
        ],
    ),
    (
        Family::QwenXml,
        &[
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "<function=now>",
            "</function>",
            "<parameter=city>",
            "</parameter>",
        ],
    ),
    (
        Family::Glm,
        &[
            "<think>",
            "</think>",
            "<tool_call>now",
            "</tool_call>",
            "<arg_key>",
            "</arg_key>",
            "<arg_value>",
            "</arg_value>",
        ],
    ),
    (
        Family::Mistral,
        &[
            "[THINK]",
            "[/THINK]",
            "[TOOL_CALLS]",
            "now[ARGS]",
            "[CALL_ID]",
            "{\"name\": \"now\"}",
            "{}",
        ],
    ),
    (
        Family::Llama3,
        &[
            "<|python_tag|>",
            "{\"name\": \"now\", \"parameters\": {",
            "}}",
            "; ",
            "now.call(",
            "a=\"1\"",
            ")",
        ],
    ),
    (
        Family::Harmony,
        &[
            "<|start|>",
            "assistant",
            "<|channel|>",
            "analysis",
            "commentary",
            "final",
            " to=functions.now",
            "<|constrain|>json",
            "<|message|>",
            "<|end|>",
            "<|call|>",
            "{}",
        ],
    ),
    (
        Family::Gemma4,
        &[
            "<|channel>thought\n",
            "<channel|>",
            "<|tool_call>",
            "call:now{",
            "city:",
            "<|\"|>",
            "}",
            "<tool_call|>",
        ],
    ),
    (
        Family::Cohere,
        &[
            "<|START_THINKING|>",
            "<|END_THINKING|>",
            "<|START_TEXT|>",
            "<|END_TEXT|>",
            "<|START_ACTION|>",
            "<|END_ACTION|>",
            "[{\"tool_name\": \"now\", \"parameters\": {}}",
        ],
    ),
    (
        Family::Glimmer,
        &[
            "<|start|>assistant",
            " to=self",
            " to=now",
            "<|message|>",
            "<|eom|>",
            "<atem:function_calls>",
            "<atem:invoke name=\"now\">",
            "<atem:parameter name=\"a\">",
            "</atem:parameter>",
            "</atem:invoke>",
            "</atem:function_calls>",
        ],
    ),
    (
        Family::DeepSeek,
        &[
            "<think>",
            "</think>",
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "function",
            "<｜tool▁sep｜>now\n```json\n",
            "{}",
            "```<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ],
    ),
];

/// Pieces of anything.
const COMMON: [&str; 14] = [
    "<", "|", "[", "{", "}", "]", "\"", "\\", "\n", " ", "now", "x", "é", "😀",
];

/// Tags that are left out of the answer, whether or not there are tools.
const THINKING_AND_FRAMES: [&str; 12] = [
    "<think>",
    "[THINK]",
    "<|channel>thought",
    "<|START_THINKING|>",
    "<|START_TEXT|>",
    "<|END_TEXT|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|eom|>",
];

/// Prompts that have begun what the model goes on with.
const PROMPTS: [&str; 6] = [
    "",
    "user\n<think>\n",
    "<|start|>assistant",
    "<|start|>assistant<|channel|>analysis<|message|>Hm",
    "<|START_THINKING|>",
    "<|channel>thought\n",
];

/// A family and a text of the kind that it writes, more or less.
fn text() -> impl Strategy<Value = (Family, String)> {
    proptest::sample::select(&FRAGMENTS).prop_flat_map(|(family, own)| {
        let piece = prop_oneof![
            3 => proptest::sample::select(own),
            1 => proptest::sample::select(&COMMON),
        ];
        let text = proptest::collection::vec(piece, 0..24);
        text.prop_map(move |pieces| (family, pieces.concat()))
    })
}

/// A text in pieces of these lengths, over and over.
fn cut<'a>(text: &'a str, lengths: &[usize]) -> Vec<&'a str> {
    let mut rest = text;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        let end = rest.char_indices().nth(*length).map(|(at, _)| at);
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        pieces.push(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_does_not_matter_where_a_text_is_cut(
        (family, text) in text(),
        prompt in proptest::sample::select(&PROMPTS),
        lengths in proptest::collection::vec(1_usize..9, 1..6),
        (complete, offered) in any::<(bool, bool)>(),
    ) {
        let tools = if offered { tools() } else { Vec::new() };
        let new = || Parser::new(family, prompt, tools.clone());
        let whole = run(new(), [text.as_str()], complete);
        let characters = run(new(), text.split_inclusive(|_| true), complete);
        prop_assert_eq!(&characters, &whole);
        prop_assert_eq!(&run(new(), cut(&text, &lengths), complete), &whole);
        let is_known = |part: &Part| match part {
            Part::Call(call) => tools.iter().any(|tool| tool.name == call.name),
            Part::Thinking(text) | Part::Content(text) => !text.is_empty(),
        };
        prop_assert!(whole.iter().all(is_known));
    }

    #[test]
    fn where_nothing_is_a_call_or_thinking_all_is_the_answer(
        (family, mut text) in text(),
        offered in any::<bool>(),
    ) {
        for tag in THINKING_AND_FRAMES {
            text = text.replace(tag, "x");
        }
        // At the beginning some leave out the end of something, others the role.
        if !matches!(family, Family::Llama3) {
            text.insert(0, 'x');
        }
        let other = Tool { name: "other".into(), parameters: Value::Null };
        let tools = if offered { vec![other] } else { Vec::new() };
        let parts = run(Parser::new(family, "", tools), [text.as_str()], true);
        let wanted = if text.is_empty() { vec![] } else { vec![content(&text)] };
        prop_assert_eq!(parts, wanted);
    }
}

/// Much of what is held back, or of what is left open; anything but linear would take minutes.
#[test]
fn a_long_text_takes_no_longer_than_it_is() {
    const BYTES: usize = 1 << 16;
    let text =
        |begin: &str, repeated: &str| begin.to_owned() + &repeated.repeat(BYTES / repeated.len());
    for (family, begin, repeated) in [
        (Family::Think, "", "<"),
        (Family::Think, "<think>", "</thin"),
        (Family::Hermes, "", "\n"),
        (Family::Hermes, "<tool_call>", "{\"a\":["),
        (Family::Hermes, "", "<tool_call>"),
        (
            Family::QwenXml,
            "<function=now>",
            "<parameter=a></parameter>",
        ),
        (
            Family::QwenXml,
            "<function=now><parameter=a>",
            "</parameter> ",
        ),
        (Family::Glm, "<tool_call>now", "<arg_key>"),
        (Family::Mistral, "[TOOL_CALLS]now", "[ARGS]"),
        (Family::Mistral, "", "[TOOL_CALLS]{"),
        (Family::Llama3, "", "{\"\\"),
        (Family::Llama3, "<|python_tag|>now.call(", "a=\"1\", "),
        (Family::Harmony, "", "<|channel|>"),
        (Family::Harmony, "", "\n"),
        (Family::Harmony, "<|start|>assistant", "<|message|><|end|>"),
        (Family::Gemma4, "<|tool_call>call:now{a:", "{a:"),
        (Family::Cohere, "<|START_ACTION|>", "[{"),
        (Family::Glimmer, "<|message|>", "<atem:function_calls>"),
        (
            Family::DeepSeek,
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
        ),
    ] {
        let text = text(begin, repeated);
        let pieces = text.split_inclusive(|_| true);
        let parts = run(Parser::new(family, "", tools()), pieces, true);
        assert!(calls(&parts).len() < 2, "{family:?} {repeated}");
    }
}
