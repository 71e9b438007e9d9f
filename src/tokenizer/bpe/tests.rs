//! Random vocabularies, merges, added tokens and texts: ids and offsets are the reference's.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Encoder, build};
use crate::tokenizer::pieces::byte_level_char;

/// Bytes that random tokens are made of.
const ALPHABET: [&str; 7] = ["a", "b", "c", " ", "é", "中", "件"];

/// A vocabulary of random merges: what is merged, and which other pairs make the same tokens, in any order.
#[derive(Debug, Clone)]
struct Recipe {
    /// Pairs of tokens made so far, as fractions of how many there are.
    made: Vec<(f64, f64)>,
    /// Whether all pairs that make a token are in the list.
    all_pairs: bool,
    /// Swaps of places in the list.
    swaps: Vec<(f64, f64)>,
    ignore_merges: bool,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let pair = || (0.0..1.0f64, 0.0..1.0f64);
    (
        prop::collection::vec(pair(), 0..40),
        any::<bool>(),
        prop_oneof![Just(Vec::new()), prop::collection::vec(pair(), 0..30)],
        any::<bool>(),
    )
        .prop_map(|(made, all_pairs, swaps, ignore_merges)| Recipe {
            made,
            all_pairs,
            swaps,
            ignore_merges,
        })
}

impl Recipe {
    /// Tokens that are made, and the list of merges, of symbols that are spelled so.
    fn list(&self, symbols: &[String]) -> (Vec<String>, Vec<(String, String)>) {
        let mut tokens = symbols.to_vec();
        let mut list = Vec::new();
        for (left, right) in &self.made {
            let token = |fraction: f64| tokens[(fraction * tokens.len() as f64) as usize].clone();
            let (left, right) = (token(*left), token(*right));
            let merged = format!("{left}{right}");
            if !tokens.contains(&merged) && merged.chars().count() < 12 {
                tokens.push(merged);
                list.push((left, right));
            }
        }
        if self.all_pairs {
            list = tokens
                .iter()
                .flat_map(|token| {
                    let splits = token
                        .char_indices()
                        .skip(1)
                        .map(|(at, _)| token.split_at(at));
                    splits
                        .map(|(left, right)| (left.to_owned(), right.to_owned()))
                        .collect::<Vec<_>>()
                })
                .filter(|(left, right)| tokens.contains(left) && tokens.contains(right))
                .collect();
        }
        for (a, b) in &self.swaps {
            let place = |fraction: f64| (fraction * list.len() as f64) as usize;
            let (a, b) = (place(*a), place(*b));
            if !list.is_empty() {
                list.swap(a, b);
            }
        }
        (tokens.split_off(symbols.len()), list)
    }
}

/// Added tokens: their text, and what they may be.
fn added() -> impl Strategy<Value = Vec<(String, [bool; 5])>> {
    let content = prop::collection::vec(0..ALPHABET.len() + 2, 1..4).prop_map(|parts| {
        let part = |at: usize| {
            let other = if at == ALPHABET.len() { "\n" } else { "<|>" };
            ALPHABET.get(at).copied().unwrap_or(other)
        };
        parts.into_iter().map(part).collect::<String>()
    });
    prop::collection::vec((content, any::<[bool; 5]>()), 0..5)
}

fn texts() -> impl Strategy<Value = String> {
    let parts = [
        "a", "b", "c", " ", "é", "è", "中", "件", "<|>", "\n", "e\u{301}", "▁", "🙂", "1", "aa",
        "abc",
    ];
    // Words that are longer than what is merged at once, and such that are cut.
    let letters = ["a", "b", "c", "é", "è", "中", "件"];
    let of = |parts: &[&'static str], lengths| {
        prop::collection::vec(prop::sample::select(parts.to_vec()), lengths)
            .prop_map(|parts| parts.concat())
    };
    prop_oneof![
        30 => of(&parts, 0..40),
        10 => of(&letters, 20..120),
        1 => of(&letters, 3000..4000),
    ]
}

/// The file, without its added tokens.
fn definition(vocab: Vec<String>, merges: &[(String, String)], frame: &Value) -> Value {
    let ids: serde_json::Map<String, Value> = vocab
        .into_iter()
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let mut definition = frame.clone();
    definition["version"] = json!("1.0");
    definition["model"]["type"] = json!("BPE");
    definition["model"]["vocab"] = Value::Object(ids);
    definition["model"]["merges"] = json!(merges);
    definition
}

fn with_added(mut definition: Value, added: &[(String, [bool; 5])]) -> Value {
    let vocab = definition["model"]["vocab"].as_object().unwrap();
    let (mut next, mut tokens) = (vocab.len() as u64, Vec::<Value>::new());
    for (content, [single_word, lstrip, rstrip, normalized, special]) in added {
        if tokens.iter().any(|token| token["content"] == *content) {
            continue;
        }
        let id = vocab
            .get(content)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| {
                next += 1;
                next - 1
            });
        tokens.push(json!({
            "id": id, "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
            "normalized": normalized, "special": special,
        }));
    }
    definition["added_tokens"] = json!(tokens);
    definition
}

/// A text in as many parts as it may be cut in.
fn parts<'a>(text: &'a str, encoder: &Encoder) -> Vec<&'a str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = encoder.last_cut(rest) {
        parts.push(&rest[at..]);
        rest = &rest[..at];
    }
    parts.push(rest);
    parts.reverse();
    parts
}

/// Our ids and offsets are the reference's; `false` where the vocabulary is left to it.
fn agree(definition: &Value, text: &str) -> bool {
    let json = definition.to_string();
    let Ok(built) = build(json.clone().into_bytes().into()) else {
        return false;
    };
    let mut reference = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
    // It panics where a token takes white space along that another one has taken.
    let answer = |reference: &tokenizers::Tokenizer| {
        std::panic::catch_unwind(|| reference.encode(text, false).unwrap())
    };
    let Ok(expected) = answer(&reference) else {
        return true;
    };
    // The second time from what is remembered.
    for _ in 0..2 {
        assert_eq!(
            built.encoder.encode(text, true),
            expected.get_ids(),
            "{text:?} {json}"
        );
    }
    reference.set_encode_special_tokens(true);
    if let Ok(expected) = answer(&reference) {
        assert_eq!(
            built.encoder.encode(text, false),
            expected.get_ids(),
            "{text:?} {json}"
        );
    }
    assert_eq!(built.encoder.count(text, true), expected.len());
    let spans = built.encoder.encode_spanned(text, true);
    let offsets: Vec<(usize, usize)> = spans.iter().map(|span| (span.begin, span.end)).collect();
    assert_eq!(offsets, expected.get_offsets(), "{text:?} {json}");
    for special in [true, false] {
        let ids = parts(text, &built.encoder)
            .into_iter()
            .flat_map(|part| built.encoder.encode(part, special));
        assert!(
            ids.eq(built.encoder.encode(text, special)),
            "{text:?} {json}"
        );
    }
    true
}

fn byte_level(recipe: &Recipe, normalizer: &Value) -> Value {
    let spell = |text: &str| text.bytes().map(byte_level_char).collect::<String>();
    let symbols: Vec<String> = (0..=255)
        .map(|byte| byte_level_char(byte).to_string())
        .collect();
    let own: Vec<String> = ALPHABET
        .iter()
        .flat_map(|part| spell(part).chars().map(String::from).collect::<Vec<_>>())
        .collect();
    let (tokens, merges) = recipe.list(&own);
    let frame = json!({
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"ignore_merges": recipe.ignore_merges},
    });
    definition([symbols, tokens].concat(), &merges, &frame)
}

fn sentence_piece(recipe: &Recipe, normalizer: &Value, pre_tokenizer: &Value) -> Value {
    let symbols: Vec<String> = ["a", "b", "c", "▁", "é"].map(str::to_owned).to_vec();
    let (tokens, merges) = recipe.list(&symbols);
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    let frame = json!({
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        ]},
        "model": {"byte_fallback": true, "unk_token": "<unk>", "fuse_unk": true},
    });
    definition(
        [vec!["<unk>".to_owned()], bytes, symbols, tokens].concat(),
        &merges,
        &frame,
    )
}

/// Random vocabularies, or more where `PROPTEST_CASES` says so: these tests run for as long as one likes.
fn cases() -> ProptestConfig {
    let asked = ProptestConfig::default().cases;
    ProptestConfig::with_cases(asked.max(1500))
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn byte_level_ids_are_the_references(recipe in recipes(), added in added(), text in texts(), composed: bool) {
        let normalizer = if composed { json!({"type": "NFC"}) } else { Value::Null };
        prop_assert!(agree(&with_added(byte_level(&recipe, &normalizer), &added), &text));
    }

    #[test]
    fn sentence_piece_ids_are_the_references(recipe in recipes(), added in added(), text in texts(), kind in 0..3) {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let (normalizer, pre_tokenizer) = match kind {
            0 => (replace, Value::Null),
            1 => {
                let prepend = json!({"type": "Prepend", "prepend": "▁"});
                (json!({"type": "Sequence", "normalizers": [prepend, replace]}), Value::Null)
            }
            _ => (Value::Null, json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false})),
        };
        let plain = sentence_piece(&recipe, &normalizer, &pre_tokenizer);
        prop_assert!(agree(&plain, &text));
        agree(&with_added(plain, &added), &text);
    }
}

#[test]
fn what_is_not_known_is_left_to_the_reference() {
    let recipe = Recipe {
        made: vec![(0.0, 0.2)],
        all_pairs: false,
        swaps: Vec::new(),
        ignore_merges: false,
    };
    let known = byte_level(&recipe, &Value::Null);
    assert!(agree(&known, "a ab"));
    for (field, value) in [
        ("/normalizer", json!({"type": "Lowercase"})),
        ("/pre_tokenizer", Value::Null),
        ("/pre_tokenizer/add_prefix_space", json!(true)),
        ("/post_processor", json!({"type": "Unknown"})),
        ("/decoder", json!({"type": "WordPiece"})),
        ("/model/dropout", json!(0.1)),
        ("/model/end_of_word_suffix", json!("</w>")),
        ("/model/merges/1", json!(["a", "b"])),
    ] {
        let mut other = known.clone();
        match (other.pointer_mut(field), field.rsplit_once('/')) {
            (Some(place), _) => *place = value,
            (None, Some(("/model/merges", _))) => {
                let merges = other["model"]["merges"].as_array_mut().unwrap();
                merges.push(merges[0].clone());
            }
            (None, Some((parent, name))) => other.pointer_mut(parent).unwrap()[name] = value,
            (None, None) => unreachable!("a field has a parent"),
        }
        assert!(
            build(other.to_string().into_bytes().into()).is_err(),
            "{field}"
        );
    }
}

#[test]
fn ids_that_cannot_be_are_named() {
    let recipe = Recipe {
        made: Vec::new(),
        all_pairs: false,
        swaps: Vec::new(),
        ignore_merges: false,
    };
    let known = byte_level(&recipe, &Value::Null);
    for (id, refusal) in [
        (0, "two of its tokens have one id"),
        (1 << 30, "its ids are absurdly large"),
    ] {
        let mut other = known.clone();
        other["model"]["vocab"]["another"] = json!(id);
        let built = build(other.to_string().into_bytes().into());
        assert_eq!(built.err(), Some(refusal));
    }
}
