//! Which normalizers and pre-tokenizers are done here, told by their structure alone.

use serde_json::{Value, json};

use super::classes::{LETTER, MARK};
use super::scan::{Cased, Plain};

/// What is done to a text between two added tokens before it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Normal {
    /// Nothing.
    Same,
    /// Unicode's normalization form C.
    Composed,
    /// Spaces and `▁` are the same; here, both are a space.
    Spaces {
        /// Which texts get one more.
        before: Before,
        /// Whether that is done by the normalizer, so that added tokens that are sought in normalized text see it.
        early: bool,
    },
}

/// Which texts get a space before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Before {
    /// None.
    Nothing,
    /// All.
    Each,
    /// The first, where it does not begin with one.
    First,
}

/// How a text is cut into pieces that merges do not cross.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) enum Cut {
    Gpt2,
    Plain(Plain),
    Cased(Cased),
    DeepSeek,
    /// Where no token could reach across.
    Seams,
}

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

/// The expressions that are known, beside `DeepSeek`'s.
fn known(expression: &str) -> Option<Cut> {
    let plain = |word: &str, others: &str, digits: &str| {
        format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{word}+|\p{{N}}{digits}| ?[^\s{others}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
    let cased = |contractions: &str, digits: &str| {
        let (large, small) = (
            r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
        );
        format!(
            r"[^\r\n\p{{L}}\p{{N}}]?{large}*{small}+{contractions}|[^\r\n\p{{L}}\p{{N}}]?{large}+{small}*{contractions}|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
    let contraction = format!("{CONTRACTIONS}?");
    for (digits, count) in [("", 1), ("{1,3}", 3)] {
        for (word, others, class) in [
            (r"\p{L}", r"\p{L}", LETTER),
            (r"[\p{L}\p{M}]", r"\p{L}\p{M}", LETTER | MARK),
        ] {
            if expression == plain(word, others, digits) {
                return Some(Cut::Plain(Plain {
                    word: class,
                    digits: count,
                }));
            }
        }
        for contractions in [false, true] {
            if expression == cased(if contractions { &contraction } else { "" }, digits) {
                return Some(Cut::Cased(Cased {
                    contractions,
                    digits: count,
                }));
            }
        }
    }
    None
}

/// `DeepSeek`'s expressions.
const DEEPSEEK: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// The steps of a sequence, or the step that stands for itself.
fn steps<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match (value, value["type"].as_str()) {
        (Value::Null, _) => &[],
        (_, Some("Sequence")) => value[name].as_array().map_or(&[], Vec::as_slice),
        _ => std::slice::from_ref(value),
    }
}

/// The expression of a step that splits and keeps all parts; ends of lines are escaped.
fn split(step: &Value) -> Option<String> {
    let keeps =
        step["type"] == "Split" && step["behavior"] == "Isolated" && step["invert"] == false;
    let expression = step["pattern"]["Regex"].as_str().filter(|_| keeps)?;
    Some(expression.replace('\r', r"\r").replace('\n', r"\n"))
}

/// Normalizer and cut of a byte-level vocabulary; `None` where they are not known.
pub(super) fn byte_level(normalizer: &Value, pre_tokenizer: &Value) -> Option<(Normal, Cut)> {
    let normal = match steps(normalizer, "normalizers") {
        [] => Normal::Same,
        [step] if step["type"] == "NFC" => Normal::Composed,
        _ => return None,
    };
    let (last, splits) = steps(pre_tokenizer, "pretokenizers").split_last()?;
    if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
        return None;
    }
    let own_expression = last.get("use_regex").is_none_or(|uses| uses == true);
    let splits: Option<Vec<String>> = splits.iter().map(split).collect();
    let cut = match (&splits?[..], own_expression) {
        ([], true) => Cut::Gpt2,
        ([expression], false) => known(expression)?,
        (all, false) if all == DEEPSEEK => Cut::DeepSeek,
        _ => return None,
    };
    Some((normal, cut))
}

/// Normalizer of a SentencePiece vocabulary; `None` where it is not known.
pub(super) fn sentence_piece(normalizer: &Value, pre_tokenizer: &Value) -> Option<Normal> {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let prepend = json!({ "type": "Prepend", "prepend": "▁" });
    let nowhere = json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false });
    let (before, early) = match (steps(normalizer, "normalizers"), pre_tokenizer) {
        // There is no space left where it splits.
        ([step], splitter) if *step == replace && (splitter.is_null() || *splitter == nowhere) => {
            (Before::Nothing, true)
        }
        ([first, second], Value::Null) if *first == prepend && *second == replace => {
            (Before::Each, true)
        }
        ([], space)
            if space["type"] == "Metaspace"
                && space["replacement"] == "▁"
                && space["split"] == false =>
        {
            match space["prepend_scheme"].as_str()? {
                "first" => (Before::First, false),
                "never" => (Before::Nothing, false),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(Normal::Spaces { before, early })
}
