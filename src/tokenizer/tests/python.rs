//! What templates find of Python: each result is what jinja2 3.1.6 renders.

use serde_json::Map;

use crate::error::{Error, Result};
use crate::tokenizer::{Chat, ChatTemplate, Message};

pub(super) fn render(source: &str) -> Result<String> {
    let messages = vec![Message::new("user", "hi"), Message::new("assistant", "yo")];
    let chat = Chat::new(messages, "2024-07-26T09:05:07".parse().unwrap());
    ChatTemplate::new(source, Map::new())?.render(&chat)
}

#[test]
fn expressions_have_the_results_of_python() {
    let table = [
        // json.dumps
        (
            r#"{"b": 1, "a": "é<>&'\"\n"}|tojson"#,
            r#"{"b": 1, "a": "é<>&'\"\n"}"#,
        ),
        (
            r#"{"b": 1, "a": 2}|tojson(sort_keys=true)"#,
            r#"{"a": 2, "b": 1}"#,
        ),
        (
            r#"{1: "a", none: "b", true: "c"}|tojson"#,
            r#"{"1": "c", "null": "b"}"#,
        ),
        (
            r#""é😀"|tojson(ensure_ascii=true)"#,
            r#""\u00e9\ud83d\ude00""#,
        ),
        (
            "[1.0, 1e16, 1e-5, 0.0001, 5e-324]|tojson",
            "[1.0, 1e+16, 1e-05, 0.0001, 5e-324]",
        ),
        ("[true, none, (1, 2)]|tojson", "[true, null, [1, 2]]"),
        (
            "[1, {}, [2]]|tojson(indent=2)",
            "[\n  1,\n  {},\n  [\n    2\n  ]\n]",
        ),
        ("[1]|tojson(indent=none)", "[1]"),
        (
            r#"[1, {"a": 2}]|tojson(separators=(",", ":"))"#,
            r#"[1,{"a":2}]"#,
        ),
        ("messages[0]|tojson", r#"{"role": "user", "content": "hi"}"#),
        // how values are written
        ("[none, true, 1.0, 'x']", "[None, True, 1.0, 'x']"),
        ("1e-5", "1e-05"),
        ("1e16", "1e+16"),
        ("'a' ~ none ~ 1.5", "aNone1.5"),
        // methods
        ("'aBc'.swapcase() ~ 'ABC'.casefold()", "AbCabc"),
        (
            "'abc'.index('c') ~ 'abca'.rindex('a') ~ [1, 2].index(2)",
            "231",
        ),
        ("'abc'.ljust(5) ~ '|' ~ 'abc'.rjust(5, '*')", "abc  |**abc"),
        (
            "'abc'.center(6) ~ '|' ~ 'ab'.center(5) ~ '|'",
            " abc  |  ab |",
        ),
        ("'-12'.zfill(5)", "-0012"),
        ("'a=b=c'.partition('=')", "('a', '=', 'b=c')"),
        ("'a=b=c'.rpartition('=')", "('a=b', '=', 'c')"),
        (
            "'a'.partition('=') ~ 'a'.rpartition('=')",
            "('a', '', '')('', '', 'a')",
        ),
        ("'abc'.removeprefix('a').removesuffix('c')", "b"),
        ("' a  b c '.split()", "['a', 'b', 'c']"),
        ("' a  b c '.split(none, 1)", "['a', 'b c ']"),
        ("' a  b c '.rsplit(none, 1)", "[' a  b', 'c']"),
        ("'a,b,c'.split(',', maxsplit=1)", "['a', 'b,c']"),
        ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
        ("'a,'.split(sep=',')", "['a', '']"),
        ("''.split() ~ ''.split(',')", "[]['']"),
        (r"'a\nb\r\nc\n'.splitlines()", "['a', 'b', 'c']"),
        (r"'a\nb'.splitlines(keepends=true)", r"['a\n', 'b']"),
        ("'aaa'.replace('a', 'b', 2)", "bba"),
        ("'x'.join(['a', 'b'])", "axb"),
        ("'{0} {n:>3}'.format('a', n=1)", "a   1"),
        ("{'items': 1}.items()|list", "[('items', 1)]"),
        ("{'a': 1}.copy().get('b', 5)", "5"),
        // tests
        ("none is iterable", "False"),
        (
            "'a' is iterable and undefinedvar is iterable and [] is iterable",
            "True",
        ),
        (
            "'a' is sequence and {} is sequence and none is not sequence",
            "True",
        ),
        // functions
        ("strftime_now('%d %b %Y')", "26 Jul 2024"),
        (
            "strftime_now('%B %d, %Y %H:%M:%S %p %A %j %-d %%')",
            "July 26, 2024 09:05:07 AM Friday 208 26 %",
        ),
        ("cycler('a', 'b').next()", "a"),
    ];
    for (expression, expected) in table {
        assert_eq!(
            render(&format!("{{{{ {expression} }}}}")).unwrap(),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn what_python_refuses_is_refused() {
    for expression in [
        "'a' + 1",
        "none|length",
        "undefinedvar.foo",
        "undefinedvar|tojson",
        "'a'|tojson(foo=1)",
        "[1]|tojson(indent={})",
        "[1]|tojson(indent=1000000000000)",
        "[1]|tojson(separators=['a'])",
        "{(1,): 2}|tojson",
        "'abc'.index('x')",
        "'abc'.split('')",
        "'abc'.split(1)",
        "'abc'.split('a', 1, 2)",
        "[1].append(2)",
        "{}.update({})",
        "'a'.nope()",
    ] {
        let result = render(&format!("{{{{ {expression} }}}}"));
        assert!(
            matches!(result, Err(Error::Template(_))),
            "{expression}: {result:?}"
        );
    }
}

#[test]
fn blocks_are_those_of_python() {
    let table = [
        ("  {% if true %}  \n  a\n  {% endif %}\nb", "  \n  a\nb"),
        (
            "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
            "13",
        ),
        ("{% for x in [1, 2] %}{% break %}{% endfor %}a\n", "a"),
        ("{% generation %}a{%- endgeneration -%} b", "ab"),
        (
            "{% set x = 1 %}{%- generation -%}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
            "21",
        ),
        ("{% set generation = 1 %}{{ generation }}", "1"),
        (
            "{% set ns = namespace(a=1) %}{% for x in [1] %}{% set ns.a = 2 %}{% endfor %}{{ ns.a }}",
            "2",
        ),
    ];
    for (source, expected) in table {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
}
