//! How Llama 3 writes calls: as JSON with nothing around it, or after `<|python_tag|>`. Knows what
//! stands there, not how it is found.

use super::Call;
use super::json::{self, Before};
use super::style::{Body, End, Means, Style, THINK, THINK_END, Tag};
use super::tool::Tools;
use super::typed;
use serde_json::Map;

pub(super) static STYLE: Style = Style {
    tags: &[
        THINK,
        THINK_END,
        Tag::new("<|python_tag|>", Means::Call(&PYTHON)),
        // In the middle of an answer a brace is a brace.
        Tag::at_begin("{", Means::Call(&BARE)),
    ],
    joints: &[';', ','],
    ..Style::PLAIN
};

static PYTHON: Body = body(false);
static BARE: Body = body(true);

const fn body(with_tag: bool) -> Body {
    Body {
        end: End::Json(Before::Nothing),
        read,
        with_tag,
    }
}

fn read(text: &str, tools: &Tools) -> Option<Vec<Call>> {
    let text = text.trim();
    if text.starts_with(['{', '[']) {
        json::calls(text, tools)
    } else {
        Some(vec![read_builtin(text, tools)?])
    }
}

/// `name.call(key="value", …)`, as tools that the model was trained with are called. Quotes in
/// values are not escaped.
fn read_builtin(text: &str, tools: &Tools) -> Option<Call> {
    let (name, rest) = text.split_once(".call(")?;
    let tool = tools.find(name)?;
    let mut rest = rest.strip_suffix(')')?;
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = match after.split_once("\", ") {
            Some(parts) => parts,
            None => (after.strip_suffix('"')?, ""),
        };
        let value = typed::argument(value, &tool.parameters, key);
        arguments.insert(key.to_owned(), value);
        rest = after;
    }
    Some(Call {
        name: tool.name.clone(),
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use crate::parse::Family::Llama3;
    use crate::parse::tests::{
        call, content, parse, parse_cut, parse_without_tools, thinking, weather,
    };
    use serde_json::json;

    #[test]
    fn json_at_the_beginning_is_a_call() {
        let text = "{\"name\": \"add\", \"parameters\": {\"a\": 1, \"b\": 2.5, \"opts\": {\"round\": true, \
            \"tags\": [\"x\", \"é\", \"\\\"q\\\"}\"]}}}";
        let options = json!({"round": true, "tags": ["x", "é", "\"q\"}"]});
        let wanted = [call("add", &json!({"a": 1, "b": 2.5, "opts": options}))];
        assert_eq!(parse(Llama3, text), wanted);
        assert_eq!(parse_cut(Llama3, text), wanted);
        assert_eq!(parse(Llama3, &format!("<|python_tag|>{text}")), wanted);
        assert_eq!(parse_without_tools(Llama3, text), [content(text)]);
        let parts = parse(Llama3, &format!("<think>\n{text}</think>\n\n{text}"));
        assert_eq!(parts, [thinking(text), wanted[0].clone()]);
    }

    #[test]
    fn several_calls_may_follow_each_other() {
        let one = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}";
        let two = "{\"name\": \"now\", \"parameters\": {}}";
        let wanted = [weather("Paris"), call("now", &json!({}))];
        for text in [
            format!("{one}; {two}"),
            format!("<|python_tag|>{one};\n{two}\n"),
        ] {
            assert_eq!(parse(Llama3, &text), wanted);
        }
    }

    #[test]
    fn trained_tools_are_called_in_another_way() {
        let text = "<|python_tag|>get_weather.call(city=\"Paris \"7\" {\")";
        assert_eq!(parse(Llama3, text), [weather("Paris \"7\" {")]);
        assert_eq!(parse_cut(Llama3, text), []);
        let text = "<|python_tag|>add.call(a=\"1\", b=\"null\")";
        assert_eq!(
            parse(Llama3, text),
            [call("add", &json!({"a": 1, "b": null}))]
        );
        let text = "<|python_tag|>now.call()";
        assert_eq!(parse(Llama3, text), [call("now", &json!({}))]);
    }

    #[test]
    fn what_is_no_call_is_the_answer() {
        for text in [
            "{\"name\": \"Alice\"} is it",
            "\n{\"a\": 1}\n",
            "{x <|python_tag|>",
            "It is {\"name\": \"now\", \"parameters\": {}}",
            "<|python_tag|>print(1)\nprint(2)",
            "<|python_tag|>now.call(",
            "{",
        ] {
            assert_eq!(parse(Llama3, text), [content(text)]);
        }
    }
}
