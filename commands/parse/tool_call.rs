//! The families that write calls between `<tool_call>` and `</tool_call>`, and those that only
//! think. Knows what stands in there, not how it is found.

use super::Call;
use super::ending::{Ending, Fence, QUOTES};
use super::style::{Body, End, Means, Style, THINK, THINK_END, Tag};
use super::tool::Tools;
use super::xml::{self, Dialect, Element, until};
use super::{json, typed};
use serde_json::Map;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const KEY: &str = "<arg_key>";
const KEY_END: &str = "</arg_key>";
const VALUE: &str = "<arg_value>";
const VALUE_END: &str = "</arg_value>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";

/// Thinking alone.
pub(super) static THINKING: Style = Style {
    tags: &[THINK, THINK_END],
    ..Style::PLAIN
};

/// Qwen 2.5 and 3, and all that write JSON in the same tags.
pub(super) static HERMES: Style = Style {
    tags: &[THINK, THINK_END, Tag::new(OPEN, Means::Call(&TAGGED))],
    ..Style::PLAIN
};

/// Qwen 3 Coder and 3.5, Nemotron 3. They forget the opening tag at times.
pub(super) static QWEN_XML: Style = Style {
    tags: &[
        THINK,
        THINK_END,
        Tag::new(OPEN, Means::Call(&TAGGED)),
        Tag::new(FUNCTION, Means::Call(&BARE)),
        Tag::at_begin(CLOSE, Means::CallEnd),
    ],
    ..Style::PLAIN
};

/// GLM 4.5 and later, Laguna.
pub(super) static GLM: Style = Style {
    tags: &[
        THINK,
        THINK_END,
        // Without thinking an answer begins with this, which the model may say once more.
        Tag::at_begin(THINK_END.text, Means::Nothing),
        Tag::new(OPEN, Means::Call(&TAGGED)),
    ],
    ..Style::PLAIN
};

/// Models slip into the way of another family, so all three are read in the same tags.
static TAGGED: Body = Body {
    end: End::Tag(Ending {
        own: &[CLOSE],
        foreign: &[OPEN],
        fences: &[QUOTES, PARAMETER, ARGUMENT],
    }),
    read,
    with_tag: false,
};

/// A function without the tags around it.
static BARE: Body = Body {
    end: End::Tag(Ending {
        own: &[FUNCTION_END],
        foreign: &[OPEN],
        fences: &[PARAMETER],
    }),
    read: read_bare,
    with_tag: true,
};

const PARAMETER: Fence = Fence {
    open: "<parameter=",
    close: "</parameter>",
};

const ARGUMENT: Fence = Fence {
    open: VALUE,
    close: VALUE_END,
};

static FUNCTIONS: Dialect = Dialect {
    call: Element {
        open: FUNCTION,
        named: ">",
        close: FUNCTION_END,
    },
    value: Element {
        open: PARAMETER.open,
        named: ">",
        close: PARAMETER.close,
    },
    has_lines: true,
    find: Tools::find,
};

fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let text = text.trim();
    if text.starts_with(['{', '[']) {
        json::calls(text, tools)
    } else if text.starts_with(FUNCTION) {
        xml::calls(text, tools, &FUNCTIONS)
    } else {
        Some(vec![read_pairs(text, tools)?])
    }
}

/// The closing tag was taken for the end, but it is a part of the function.
fn read_bare(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    xml::calls(&format!("{text}{FUNCTION_END}"), tools, &FUNCTIONS)
}

/// A name, then keys and values in tags.
fn read_pairs(text: &str, tools: &Tools) -> Option<Call> {
    let (name, mut rest) = text.split_at(text.find(KEY).unwrap_or(text.len()));
    let tool = tools.find(name.trim())?;
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, after) = rest.strip_prefix(KEY)?.split_once(KEY_END)?;
        let after = after.trim_start().strip_prefix(VALUE)?;
        let may_follow = |next: &str| next.is_empty() || next.starts_with(KEY);
        let (value, after) = until(after, VALUE_END, may_follow)?;
        let value = typed::argument(value, &tool.parameters, key.trim());
        arguments.insert(key.trim().to_owned(), value);
        rest = after;
    }
    Some(Call {
        name: tool.name.clone(),
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use crate::parse::tests::{
        call, content, parse, parse_after, parse_cut, parse_without_tools, thinking, weather,
    };
    use crate::parse::{Family, Part};
    use serde_json::json;

    #[test]
    fn thinking_is_told_from_the_answer() {
        let check = |text: &str, wanted: &[Part]| assert_eq!(parse(Family::Think, text), wanted);
        check(
            "<think>\nHm </thin.\n</think>\n\nYes.\n",
            &[thinking("Hm </thin.\n"), content("Yes.\n")],
        );
        check("\n<think>\n\n</think>\n\n  Yes", &[content("  Yes")]);
        check(
            "Yes. <think>no</think>",
            &[content("Yes. <think>no</think>")],
        );
        check("<thin", &[content("<thin")]);
        check("\n\nYes", &[content("\n\nYes")]);
        check("<think>cut </th", &[thinking("cut </th")]);
        check("", &[]);
    }

    #[test]
    fn the_prompt_may_begin_the_thinking() {
        let prompt = "<|im_start|>assistant\n<think>\n";
        for family in [Family::Think, Family::Hermes, Family::QwenXml, Family::Glm] {
            assert_eq!(
                parse_after(family, prompt, "\nHm</think>Yes"),
                [thinking("Hm"), content("Yes")]
            );
        }
    }

    #[test]
    fn a_call_in_the_thinking_is_thinking() {
        let text = "Hm\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
        assert_eq!(
            parse(Family::Hermes, &format!("<think>{text}")),
            [thinking(text)]
        );
    }

    #[test]
    fn json_in_tags_is_a_call() {
        let text = "<think>\nI need the tool.\n</think>\n\nLet me check.\n<tool_call>\n\
            {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n\
            <tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2.5, \"opts\": \
            {\"round\": true, \"tags\": [\"x\", \"é\", \"\\\"q\\\"\\n</tool_call>\"]}}}\n</tool_call>\n\
            <tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\nDone. ";
        let options = json!({"round": true, "tags": ["x", "é", "\"q\"\n</tool_call>"]});
        assert_eq!(
            parse(Family::Hermes, text),
            [
                thinking("I need the tool.\n"),
                content("Let me check."),
                weather("Paris"),
                call("add", &json!({"a": 1, "b": 2.5, "opts": options})),
                call("now", &json!({})),
                content("Done. "),
            ]
        );
        assert_eq!(
            parse_without_tools(Family::Hermes, &text[41..]),
            [content(&text[41..])]
        );
    }

    #[test]
    fn json_may_be_written_in_other_ways() {
        for text in [
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"Rome\\\"}\"}",
            "<tool_call>{\"function\": {\"name\": \"get_weather\", \"parameters\": {\"city\": \"Rome\"}}}</tool",
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n",
        ] {
            assert_eq!(parse(Family::Hermes, text), [weather("Rome")], "{text}");
            assert_eq!(parse_cut(Family::Hermes, text), [], "{text}");
        }
        let text =
            "<tool_call>{\"name\": \"now\"}\n{\"name\": \"now\"}<tool_call>[{\"name\": \"now\"}]";
        let now = call("now", &json!({}));
        assert_eq!(parse(Family::Hermes, text), [now.clone(), now.clone(), now]);
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        for text in [
            "a\n<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>\nb",
            "<tool_call>{\"name\": \"now\", \"arguments\": {]}}</tool_call>",
            "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call> b\n",
            "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"b}}\n</tool_call>\nb",
            "</think>\n<tool_call>\n</tool_call>\n",
            "<tool_call>{\"name\": \"now\"",
            "<tool_call>[]</tool_call>",
        ] {
            assert_eq!(parse(Family::Hermes, text), [content(text)]);
            let text = format!("<tool_call>x</tool_call>{text}");
            let thought = format!("<think>a</think>\n\n{text}");
            assert_eq!(
                parse(Family::Hermes, &thought),
                [thinking("a"), content(&text)]
            );
        }
    }

    #[test]
    fn a_call_that_was_cut_off_is_dropped() {
        let text = "a\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n";
        for end in text.find('{').unwrap()..text.len() {
            assert_eq!(parse_cut(Family::Hermes, &text[..end]), [content("a")]);
        }
        assert_eq!(
            parse_cut(Family::Hermes, "a <tool_c"),
            [content("a <tool_c")]
        );
    }

    #[test]
    fn functions_in_tags_are_calls() {
        let text = "Let me check.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\n\
            Paris </parameter> </tool_call>\n\n7\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n\
            <function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nnull\n</parameter>\n\
            <parameter=opts>\n{'round': True, 'tags': ['x', 'é', '\"q\"']}\n</parameter>\n</function>\n\
            </tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>";
        let text = text.replace(
            " </parameter> </tool_call>\n",
            "\n<function=x> \"</tool_call>",
        );
        let options = json!({"round": true, "tags": ["x", "é", "\"q\""]});
        let wanted = [
            content("Let me check."),
            weather("Paris\n<function=x> \"</tool_call>\n7"),
            call("add", &json!({"a": 1, "b": null, "opts": options})),
            call("now", &json!({})),
        ];
        assert_eq!(parse(Family::QwenXml, &text), wanted);
        // The opening tag is forgotten.
        let text = text.replace("<tool_call>\n<function=now>", "<function=now>");
        assert_eq!(parse(Family::QwenXml, &text), wanted);
    }

    #[test]
    fn what_is_no_function_is_the_answer() {
        for text in [
            "<tool_call>\n<function=unknown>\n</function>\n</tool_call>\nb",
            "<function=now>\n<parameter=a\n</function>",
            "<function=now>x</function> b",
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis",
        ] {
            assert_eq!(parse(Family::QwenXml, text), [content(text)]);
        }
        let text = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n";
        assert_eq!(parse(Family::QwenXml, text), [weather("Paris")]);
        assert_eq!(parse_cut(Family::QwenXml, text), []);
    }

    #[test]
    fn keys_and_values_in_tags_are_calls() {
        let text = "\n<think>I need the tool.</think>\nLet me check.\n<tool_call>get_weather\n\
            <arg_key>city</arg_key>\n<arg_value>Paris\n</arg_value> </tool_call> 7</arg_value>\n</tool_call>\n\
            <tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n<arg_key>opts</arg_key>\n\
            <arg_value>{\"round\": true, \"tags\": [\"x\", \"é\", \"\\\"q\\\"\"]}</arg_value>\n</tool_call>";
        let text = text.replace("\n</arg_value> </tool", "</tool");
        let wanted = [
            thinking("I need the tool."),
            content("Let me check."),
            weather("Paris</tool_call> 7"),
            call(
                "add",
                &json!({"a": 1, "opts": {"round": true, "tags": ["x", "é", "\"q\""]}}),
            ),
        ];
        assert_eq!(parse(Family::Glm, &text), wanted);
        let joined = text.replace(">\n<", "><").replace("check.\n<", "check.<");
        let joined = joined
            .replace("get_weather\n", "get_weather")
            .replace("add\n", "add");
        assert_eq!(parse(Family::Glm, &joined), wanted);
    }

    #[test]
    fn a_name_alone_is_a_call_without_arguments() {
        for text in [
            "<tool_call>now</tool_call>",
            "<tool_call>now\n</tool_call>",
            "<tool_call>now",
        ] {
            assert_eq!(parse(Family::Glm, text), [call("now", &json!({}))]);
        }
        for text in [
            "<tool_call>no</tool_call>",
            "<tool_call>now<arg_key>a</arg_key></tool_call>",
            "<tool_call>now<arg_key>a</arg_key><arg_value>b</tool_call>",
        ] {
            assert_eq!(parse(Family::Glm, text), [content(text)]);
        }
        // An empty block of thinking in the prompt leaves nothing to think.
        let text = "</think>Yes</think>";
        assert_eq!(parse(Family::Glm, text), [content("Yes</think>")]);
        let prompt = "<|assistant|>\n<think></think>";
        assert_eq!(
            parse_after(Family::Glm, prompt, "\nYes"),
            [content("\nYes")]
        );
    }
}
