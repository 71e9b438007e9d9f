//! Chat templates: against what Python's renderer makes of them, where they come from, how chats
//! end, and what hostile ones may not do.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::python::render;
use super::{STORIES, folder_with, load, read_json, reference, stories};
use crate::error::Error;
use crate::tokenizer::{Bos, Chat, ChatTemplate, Ending, Message, Special};

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn chat(messages: Value) -> Chat {
    Chat::new(
        serde_json::from_value(messages).unwrap(),
        "2024-07-26T09:05:07".parse().unwrap(),
    )
}

fn template_error<T: std::fmt::Debug>(result: crate::Result<T>) -> String {
    match result {
        Err(Error::Template(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn templates_render_and_refuse_as_in_python() {
    let Some(path) = reference("chat_templates/golden_chat.json") else {
        return;
    };
    let golden = read_json(&path);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (name, template) in golden["templates"].as_object().unwrap() {
        let source = fs::read_to_string(path.with_file_name(template["file"].as_str().unwrap()));
        let special_tokens = object(&template["special_tokens"]);
        let template = ChatTemplate::new(&source.unwrap(), special_tokens).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let mut chat = chat(case["messages"].clone());
            chat.now = golden["now"].as_str().unwrap().parse().unwrap();
            chat.tools = list(&case["tools"]);
            chat.arguments = object(&case["kwargs"]);
            chat.ending = if case["continue_final_message"] == true {
                Ending::Continue
            } else if case["add_generation_prompt"] == true {
                Ending::Answer
            } else {
                Ending::Closed
            };
            let expected = &golden["expected"][name][case["name"].as_str().unwrap()];
            let rendered = template.render(&chat);
            let agrees = match (&rendered, expected["text"].as_str()) {
                (Ok(text), Some(python)) => text == python,
                // An error that the template raises comes with its own words.
                (Err(Error::Template(problem)), None) => {
                    expected["error"] != "TemplateError" || *problem == expected["message"]
                }
                _ => false,
            };
            if !agrees {
                wrong.push(format!(
                    "{name} {}: {rendered:?}\n  not {expected}",
                    case["name"]
                ));
            }
            checked += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn templates_are_found_in_each_place_that_holds_them() {
    let config = |template: Value| {
        (
            "tokenizer_config.json",
            json!({ "chat_template": template, "bos_token": "<s>" }),
        )
    };
    let jinja = ("chat_template.jinja", json!("jinja {{ bos_token }}"));
    let json_file = (
        "chat_template.json",
        json!({ "chat_template": "json {{ bos_token }}" }),
    );
    let render = |files: &[(&str, Value)], tools: Vec<Value>| {
        let tokenizer = load(folder_with(files).path()).unwrap();
        let mut chat = chat(json!([]));
        chat.tools = tools;
        tokenizer
            .chat_template()
            .and_then(|template| template.render(&chat))
    };
    let in_config = config(json!("config {{ bos_token }}"));
    assert_eq!(
        render(&[in_config.clone(), jinja, json_file.clone()], vec![]).unwrap(),
        "jinja <s>"
    );
    assert_eq!(
        render(&[in_config, json_file.clone()], vec![]).unwrap(),
        "config <s>"
    );
    assert_eq!(render(&[json_file], vec![]).unwrap(), "json ");

    let named = config(json!([
        { "name": "default", "template": "plain" },
        { "name": "tool_use", "template": "tools {{ tools|length }}" },
    ]));
    assert_eq!(
        render(std::slice::from_ref(&named), vec![]).unwrap(),
        "plain"
    );
    assert_eq!(
        render(&[named], vec![json!({ "a": 1 })]).unwrap(),
        "tools 1"
    );

    let unusable = [
        (vec![], "the model has none"),
        (vec![config(json!([]))], "no template is named `default`"),
        (vec![config(json!(3))], "no template is named `default`"),
        (vec![config(json!("{% if %}"))], "syntax error"),
    ];
    for (files, expected) in unusable {
        let problem = template_error(render(&files, vec![]));
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_broken_template_leaves_raw_text_alone() {
    let files = [("tokenizer_config.json", json!({ "chat_template": "{{" }))];
    let tokenizer = load(folder_with(&files).path()).unwrap();
    assert!(tokenizer.has_chat_template());
    assert!(!tokenizer.encode("Hi", Bos::Auto).unwrap().is_empty());
    assert!(template_error(tokenizer.encode_chat(&chat(json!([])))).contains("syntax error"));

    let folder = folder_with(&[]);
    fs::write(folder.path().join("chat_template.jinja"), b"a\xff").unwrap();
    let tokenizer = load(folder.path()).unwrap();
    let problem = template_error(tokenizer.encode_chat(&chat(json!([]))));
    assert_eq!(problem, "chat_template.jinja is not valid UTF-8 at byte 1");
}

#[test]
fn the_last_message_can_be_left_open() {
    let open = |source: &str, content: Value| {
        let mut chat = chat(json!([{ "role": "assistant", "content": content }]));
        chat.ending = Ending::Continue;
        ChatTemplate::new(source, Map::new()).unwrap().render(&chat)
    };
    let plain = "<a>{{ messages[0].content }}</a>";
    let trimmed = "<a>{{ messages[0].content|trim }}</a>";
    let parts = "<a>{% for part in messages[0].content %}{{ part.text }}{% endfor %}</a>";
    assert_eq!(open(plain, json!("One, ")).unwrap(), "<a>One, ");
    assert_eq!(open(trimmed, json!(" One, ")).unwrap(), "<a>One,");
    assert_eq!(open(plain, json!("")).unwrap(), "<a>");
    let texts =
        json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }, { "x": 1 }]);
    assert_eq!(open(parts, texts).unwrap(), "<a>ab");
    for content in [json!(null), json!([]), json!([{ "image": 1 }])] {
        let problem = template_error(open(plain, content));
        assert_eq!(problem, "the last message has no text to continue");
    }
    let problem = template_error(open("nothing", json!("One")));
    assert_eq!(
        problem,
        "the template does not show the message to continue"
    );
}

#[test]
fn arguments_may_not_replace_the_chat() {
    let mut chat = chat(json!([]));
    chat.arguments.insert("messages".to_owned(), json!([]));
    let template = ChatTemplate::new("", Map::new()).unwrap();
    let error = template.render(&chat).unwrap_err().to_string();
    assert!(
        error.contains("`messages` is filled by the chat itself"),
        "{error}"
    );
}

#[test]
fn joints_are_where_messages_end() {
    let tokenizer = stories();
    let messages: Vec<Message> = (0..40)
        .map(|turn| Message::new(["user", "assistant"][turn % 2], format!("Tell me {turn}. ")))
        .collect();
    let mut chat = chat(json!([]));
    chat.messages = messages;
    let prompt = tokenizer.encode_chat(&chat).unwrap();
    assert_eq!(
        prompt.tokens,
        tokenizer.encode(&prompt.text, Bos::Never).unwrap()
    );
    assert_eq!(prompt.joints.len(), 17, "the first and the last sixteen");
    for (joint, count) in prompt.joints.iter().zip([1].into_iter().chain(25..=40)) {
        let mut beginning = Chat {
            ending: Ending::Closed,
            ..chat.clone()
        };
        beginning.messages.truncate(count);
        let text = tokenizer
            .chat_template()
            .unwrap()
            .render(&beginning)
            .unwrap();
        assert_eq!(
            tokenizer.decode(&prompt.tokens[..*joint], Special::Show),
            text
        );
    }
}

/// Neither a message whose end is inside a token nor one that is rendered differently when others
/// follow has a joint.
#[test]
fn a_joint_needs_a_boundary() {
    let joints = |template: &str, messages: Value| {
        let files = [(
            "tokenizer_config.json",
            json!({ "chat_template": template }),
        )];
        let tokenizer = load(folder_with(&files).path()).unwrap();
        let mut chat = chat(messages);
        chat.ending = Ending::Closed;
        tokenizer.encode_chat(&chat).unwrap().joints.len()
    };
    let messages = json!([{ "content": "Once up" }, { "content": "on a time" }]);
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(joints(plain, messages.clone()), 1);
    let counted = "{{ messages|length }}: {% for m in messages %}{{ m.content }}. {% endfor %}";
    assert_eq!(joints(counted, messages.clone()), 1);
    let raising = "{% if messages|length < 2 %}{{ raise_exception('no') }}{% endif %}a";
    assert_eq!(joints(raising, messages), 1);
}

#[test]
fn raised_errors_keep_their_words() {
    assert_eq!(
        template_error(render("{{ raise_exception('No é!') }}")),
        "No é!"
    );
    let inside = "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m()|upper }}";
    assert_eq!(template_error(render(inside)), "deep");
}

#[test]
fn endless_and_huge_templates_are_stopped() {
    let repeat = |body: &str| {
        format!(
            "{{% set ns = namespace(s='ab') %}}{{% for a in range(100000) %}}\
             {{% for b in range(100000) %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    let endless = [
        repeat(""),
        repeat("text"),
        repeat("{% set ns.s = ns.s ~ ns.s %}"),
        repeat("{% set ns.s = [ns.s] %}"),
        "{{ 'a' * 1000000000000 }}".to_owned(),
        "{{ 'a'.ljust(1000000000000) }}".to_owned(),
        "{{ ('a' * 10000000).replace('a', 'b' * 10000000) }}".to_owned(),
        "{{ ('a' * 10000000).join(range(100000)|list) }}".to_owned(),
        "{{ range(100000)|list|tojson(separators=['a' * 10000000, '']) }}".to_owned(),
    ];
    for source in endless {
        let problem = template_error(render(&source));
        assert_eq!(
            problem, "it takes too many steps or too much memory",
            "{source}"
        );
    }
    for (source, expected) in [
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
            "recursion limit",
        ),
        (
            "{{ ".to_owned() + &"[".repeat(100_000) + " }}",
            "recursion limit",
        ),
        ("{% if 1 %}".repeat(20_000), "recursion limit"),
        (
            "{{ '{:>1000000000000}'.format('a') }}".to_owned(),
            "a width is too large",
        ),
        ("a".repeat(300_000), "it has more than 262144 bytes"),
    ] {
        let problem = template_error(render(&source));
        assert!(problem.contains(expected), "{problem}");
    }
}

/// Values may nest as deep as the steps allow: dropping, writing and comparing them is recursive.
#[test]
fn deep_values_do_not_overflow_the_stack() {
    let nest = format!("{}ns.s{}", "[".repeat(40), "]".repeat(40));
    let build = format!(
        "{{% set ns = namespace(s=1, t=1) %}}{{% for a in range(18000) %}}\
         {{% set ns.s = {nest} %}}{{% endfor %}}"
    );
    assert_eq!(render(&build).unwrap(), "");
    assert_eq!(
        render(&(build.clone() + "{{ ns.s|string|length }}")).unwrap(),
        "1440001"
    );
    assert_eq!(
        render(&(build.clone() + "{{ ns.s == [1] }}")).unwrap(),
        "False"
    );
    let problem = template_error(render(&(build + "{{ ns.s|tojson }}")));
    assert!(problem.contains("nested too deep"), "{problem}");
}

#[test]
fn the_builtin_template_renders_from_its_folder() {
    let prompt = load(Path::new(STORIES))
        .unwrap()
        .encode_chat(&chat(json!([{ "role": "user", "content": "Hi" }])))
        .unwrap();
    assert_eq!(
        prompt.text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}
