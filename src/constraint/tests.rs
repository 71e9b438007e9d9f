//! Answers along constraints, token by token, without an engine.

mod hostile;
mod schemas;
mod speed;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::{Constraint, Grammars, Guide};
use crate::files::ModelFiles;
use crate::tokenizer::{Bos, Tokenizer};

fn tokenizer(folder: PathBuf) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::load(&ModelFiles::Folder(folder)).unwrap())
}

static TOKENIZER: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| tokenizer(concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/stories").into()));

static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| Grammars::new(Arc::clone(&TOKENIZER)));

/// The end-of-sequence token of the built-in model.
const EOS: u32 = 2;

fn guide(constraint: &Constraint) -> Guide {
    GRAMMARS.guide(constraint, None).unwrap()
}

fn refusal(constraint: &Constraint) -> String {
    let refused = GRAMMARS.guide(constraint, None);
    refused
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

fn schema(schema: Value) -> Constraint {
    Constraint::JsonSchema(schema)
}

/// Whether a constraint allows a text, as an answer that ends there.
fn allows(constraint: &Constraint, text: &str) -> bool {
    let mut guide = guide(constraint);
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        let id = BYTES[usize::from(byte)].unwrap();
        if !guide.mask().contains(id) {
            return false;
        }
        if guide.push(id).unwrap().is_break() {
            return left.next().is_none();
        }
    }
    guide.mask().contains(EOS)
}

/// The token of each byte.
static BYTES: LazyLock<Vec<Option<u32>>> = LazyLock::new(|| {
    let piece = |byte: u8| (0..300).find(|&id| TOKENIZER.piece(id) == Some(&[byte]));
    (0..=255).map(piece).collect()
});

/// Tokens that end a string, an array, an object or an answer.
static ENDS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let bytes = b"\"]}".map(|byte| BYTES[usize::from(byte)].unwrap());
    [&bytes, TOKENIZER.eos_ids()].concat()
});

/// Chooses tokens at random, to the end of an answer.
struct Walk {
    state: u64,
}

impl Walk {
    /// A number below `count`, by `SplitMix64` (Steele et al. 2014): with a simpler generator some walks never come
    /// to an end, since one number tells too much of the next.
    fn below(&mut self, count: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % count as u64) as usize
    }

    /// The answer, or what it is after `limit` tokens.
    fn answer(&mut self, guide: &mut Guide, limit: usize) -> Result<Vec<u8>, Vec<u8>> {
        let mut answer = Vec::new();
        for _ in 0..limit {
            let mask = guide.mask();
            // One token in four ends what can end here: most others are texts, of which objects are made for ever.
            let ends: Vec<u32> = ENDS
                .iter()
                .copied()
                .filter(|&id| mask.contains(id))
                .collect();
            let ids = if self.below(4) == 0 && !ends.is_empty() {
                ends
            } else {
                mask.ids().collect()
            };
            let id = ids[self.below(ids.len())];
            if TOKENIZER.eos_ids().contains(&id) {
                return Ok(answer);
            }
            answer.extend(TOKENIZER.piece(id).unwrap());
            if guide.push(id).unwrap() == ControlFlow::Break(()) {
                return Ok(answer);
            }
        }
        Err(answer)
    }
}

#[test]
fn a_text_is_followed_to_the_letter() {
    let regex = Constraint::Regex("[0-9]{2}/[a-c]+\\n".to_owned());
    assert!(allows(&regex, "12/abc\n") && allows(&regex, "00/a\n"));
    assert!(!allows(&regex, "1/a\n") && !allows(&regex, "12/a") && !allows(&regex, " 12/a\n"));
    let choices = ["a \"quoted\" one", "é", "an", "and"].map(str::to_owned);
    let choices = Constraint::Choices(choices.to_vec());
    for choice in ["a \"quoted\" one", "é", "an", "and"] {
        assert!(allows(&choices, choice), "{choice}");
    }
    assert!(!allows(&choices, "a") && !allows(&choices, "andan") && !allows(&choices, ""));
    let lark = "start: (WORD \",\")* WORD\nWORD: /[a-z]+/";
    let lark = Constraint::Lark(lark.to_owned());
    assert!(allows(&lark, "a,bc,d") && !allows(&lark, "a,,b"));
}

#[test]
fn json_has_spaces_as_models_write_them_and_no_more() {
    let constraint = schema(json!({"type": "array", "items": {"type": "object"}}));
    for text in [
        "[]",
        "[{}, {}]",
        "[{\"a\":1,\"b\": [true, null]}]",
        "[\n  {\n    \"a\": -1.5e3\n  },\r\n\t{}\n]",
    ] {
        assert!(allows(&constraint, text), "{text}");
    }
    let indented = |spaces| format!("[\n{}{{}}]", " ".repeat(spaces));
    assert!(allows(&constraint, &indented(32)) && !allows(&constraint, &indented(33)));
    for text in [
        " []", "[] ", "[]\n", "[  {}]", "[\n\n{}]", "[ \n{}]", "{}", "[1]",
    ] {
        assert!(!allows(&constraint, text), "{text:?}");
    }
    assert!(allows(&Constraint::JsonObject, "{\"a\": {\"b\": \"\\n\"}}"));
    assert!(!allows(&Constraint::JsonObject, "[]"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (wanted, constraint) in [
        (
            "\"not\"",
            schema(json!({"type": "string", "not": {"const": "a"}})),
        ),
        (
            "\"if\"",
            schema(json!({"properties": {"a": {"if": true, "then": false}}})),
        ),
        (
            "\"uniqueItems\"",
            schema(json!({"type": "array", "uniqueItems": true})),
        ),
        (
            "oneOf",
            schema(json!({"oneOf": [{"minimum": 1}, {"maximum": 3}]})),
        ),
        (
            "format",
            schema(json!({"type": "string", "format": "lottery-number"})),
        ),
        ("nowhere", schema(json!({"$ref": "#/$defs/nowhere"}))),
        (
            "https://",
            schema(json!({"$ref": "https://example.com/schema"})),
        ),
        (
            "x-guidance",
            schema(json!({"type": "object", "x-guidance": {"lenient": true}})),
        ),
        ("not an object", schema(json!("string"))),
        (
            "nsatisfiable",
            schema(json!({"type": "string", "minLength": 3, "maxLength": 2})),
        ),
        ("false", schema(json!(false))),
        ("type", schema(json!({"type": 3}))),
        ("unclosed", Constraint::Regex("(a".to_owned())),
        ("not complete", Constraint::Regex("a\\".to_owned())),
        ("look", Constraint::Regex("a(?=b)".to_owned())),
        ("not complete", Constraint::Regex(String::new())),
        ("start", Constraint::Lark("begin: \"a\"".to_owned())),
        ("empty", Constraint::Choices(Vec::new())),
        ("empty", Constraint::Choices(vec![String::new()])),
    ] {
        let said = refusal(&constraint);
        assert!(
            said.starts_with("constraint: ") && said.contains(wanted),
            "{constraint:?}: {said}"
        );
        assert!(said.lines().count() == 1 && said.len() < 300, "{said}");
    }
}

#[test]
fn multiples_are_those_of_the_number() {
    for (factor, right, wrong) in [
        (json!(1000), "12000", "12100"),
        (json!(0.25), "-1.75", "1.3"),
        (json!(7), "49", "50"),
    ] {
        let constraint = schema(json!({"type": "number", "multipleOf": factor}));
        assert!(
            allows(&constraint, right) && !allows(&constraint, wrong),
            "{factor}"
        );
    }
}

#[test]
fn constraints_are_written_as_json() {
    let check = |constraint: Constraint, json: Value| {
        assert_eq!(serde_json::to_value(&constraint).unwrap(), json);
        assert_eq!(
            serde_json::from_value::<Constraint>(json).unwrap(),
            constraint
        );
    };
    check(Constraint::JsonObject, json!("json_object"));
    check(
        schema(json!({"type": "null"})),
        json!({"json_schema": {"type": "null"}}),
    );
    check(Constraint::Regex("a".into()), json!({"regex": "a"}));
    check(
        Constraint::Choices(vec!["a".into()]),
        json!({"choices": ["a"]}),
    );
}

#[test]
fn special_tokens_come_only_where_a_grammar_names_them() {
    let anything = guide(&Constraint::Regex("(?s:.)+".to_owned()));
    assert!(!anything.mask().contains(0) && !anything.mask().contains(1));
    let named = guide(&Constraint::Lark("start: <|im_start|> \"a\"".to_owned()));
    assert_eq!(named.mask().ids().collect::<Vec<_>>(), [1]);
}

#[test]
fn tokens_that_the_tokenizer_would_choose_are_among_those_that_may_come() {
    let text = "{\"name\": \"Tom and the big red ball\", \"age\": 41}";
    let constraint = schema(json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": false,
    }));
    let mut guide = guide(&constraint);
    let ids = TOKENIZER.encode(text, Bos::Never).unwrap();
    let (last, ids) = ids.split_last().unwrap();
    for &id in ids {
        assert!(guide.mask().contains(id));
        assert!(guide.push(id).unwrap().is_continue());
    }
    assert!(guide.push(*last).unwrap().is_break());
}

#[test]
fn json_stands_between_its_texts() {
    let number = json!({"type": "integer"});
    let framed = |before: &str, after: &str| Constraint::Framed {
        before: before.to_owned(),
        schema: number.clone(),
        after: after.to_owned(),
    };
    let called = framed("<call \"f\">\n", "\n</call>");
    assert!(allows(&called, "<call \"f\">\n12\n</call>"));
    assert!(!allows(&called, "12"));
    assert!(!allows(&called, "<call \"f\">\n12\n"));
    assert!(allows(&framed("", ";"), "-3;"));
    assert!(allows(&framed("", ""), "7"));
}
