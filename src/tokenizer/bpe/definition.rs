//! `tokenizer.json` as far as it says what byte-pair encoding does.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::build::Refusal;
use super::pairs::MOST_TOKENS;

/// The whole file. Fields of which nothing is believed are values, which `structure.rs` holds against what it knows.
#[derive(Debug, Deserialize)]
pub(super) struct Definition<'a> {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    #[serde(default)]
    pub(super) decoder: Value,
    #[serde(borrow)]
    pub(super) model: Model<'a>,
}

/// The field `model` of byte-pair encoding.
#[derive(Debug, Deserialize)]
pub(super) struct Model<'a> {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) dropout: Option<f64>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    #[serde(borrow)]
    pub(super) vocab: Vocab<'a>,
    /// As the file has them: see [`MergeList::parse`].
    #[serde(borrow)]
    pub(super) merges: &'a RawValue,
}

/// An element of `added_tokens`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(in super::super) struct AddedToken {
    pub(in super::super) id: u32,
    pub(in super::super) content: String,
    pub(in super::super) single_word: bool,
    pub(in super::super) lstrip: bool,
    pub(in super::super) rstrip: bool,
    pub(in super::super) normalized: bool,
    pub(in super::super) special: bool,
}

/// Tokens as they are spelled.
#[derive(Debug, Default)]
pub(super) struct Vocab<'a> {
    /// By id; empty where there is none.
    pub(super) names: Vec<Cow<'a, str>>,
    /// Whether there is one, which may be empty.
    pub(super) is_there: Vec<bool>,
    /// How many there are.
    pub(super) count: usize,
    /// Why no encoder can be made of them.
    pub(super) refusal: Option<Refusal>,
}

/// Pairs of tokens as they are spelled: a million small texts, of which only the places are held.
#[derive(Debug, Default)]
pub(super) struct MergeList<'a> {
    json: &'a str,
    /// Texts that are not in `json` as they are, for they have escapes there.
    others: String,
    pub(super) pairs: Vec<MergePair>,
}

/// Where two tokens begin and end in the text of a list, or, counted on from its end, among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct MergePair([[u32; 2]; 2]);

impl<'a> MergeList<'a> {
    /// The list that a text of JSON is.
    pub(super) fn parse(json: &'a [u8]) -> serde_json::Result<Self> {
        let json = str::from_utf8(json).map_err(serde_json::Error::custom)?;
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let list = PairsOf(json).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(list)
    }

    /// Both tokens of a pair.
    pub(super) fn tokens(&self, MergePair(places): MergePair) -> [&str; 2] {
        places.map(|place| {
            let [begin, end] = place.map(|at| at as usize);
            let before = self.json.len();
            match begin.checked_sub(before) {
                None => &self.json[begin..end],
                Some(begin) => &self.others[begin..end - before],
            }
        })
    }

    /// Adds a pair; `None` where a place has no number.
    fn add(&mut self, tokens: [&str; 2]) -> Option<()> {
        let [left, right] = tokens.map(|token| self.place(token));
        self.pairs.push(MergePair([left?, right?]));
        Some(())
    }

    fn place(&mut self, text: &str) -> Option<[u32; 2]> {
        let within = text.as_ptr().addr().wrapping_sub(self.json.as_ptr().addr());
        let mut begin = within;
        if within >= self.json.len() {
            begin = self.json.len() + self.others.len();
            self.others.push_str(text);
        }
        let end = begin + text.len();
        Some([begin.try_into().ok()?, end.try_into().ok()?])
    }
}

/// The list of merges of a file that ends in it, as most do, so that it can be parsed beside all else. Where the file is
/// not what it looks like, this is something else.
pub(super) fn last_merges(json: &[u8]) -> Option<&[u8]> {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'}';
    let end = json.iter().rposition(|byte| !is_end(byte))? + 1;
    let is_list = |at: &usize| {
        let mut behind = json[at + KEY.len()..].iter();
        let mut next = || behind.find(|byte| !byte.is_ascii_whitespace());
        (next(), next()) == (Some(&b':'), Some(&b'['))
    };
    let key = memmem::find_iter(json, KEY).find(is_list)?;
    let begin = key + json[key..end].iter().position(|&byte| byte == b'[')?;
    Some(&json[begin..end])
}

/// What merges come behind. Among tokens it has a number behind it, and within one other quotes.
const KEY: &[u8] = b"\"merges\"";

/// A string, borrowed from the file where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabVisitor;
        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = Vocab<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab<'de>, A::Error> {
                let mut vocab = Vocab::default();
                while let Some((Text(name), id)) = map.next_entry::<_, u32>()? {
                    let id = id as usize;
                    if id >= MOST_TOKENS {
                        vocab.refusal = Some("its ids are absurdly large");
                        continue;
                    }
                    if id >= vocab.names.len() {
                        vocab.names.resize(id + 1, Cow::Borrowed(""));
                        vocab.is_there.resize(id + 1, false);
                    }
                    if vocab.is_there[id] {
                        vocab.refusal = Some("two of its tokens have one id");
                        continue;
                    }
                    vocab.names[id] = name;
                    vocab.is_there[id] = true;
                    vocab.count += 1;
                }
                Ok(vocab)
            }
        }
        deserializer.deserialize_map(VocabVisitor)
    }
}

/// Reads the list of pairs that is in this text.
struct PairsOf<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for PairsOf<'de> {
    type Value = MergeList<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PairsOf<'de> {
    type Value = MergeList<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pairs of tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
        let mut list = MergeList {
            json: self.0,
            ..MergeList::default()
        };
        while pairs.next_element_seed(Pair(&mut list))?.is_some() {}
        Ok(list)
    }
}

/// Reads one pair. Older files have both tokens in one text, with a space between them.
struct Pair<'l, 'a>(&'l mut MergeList<'a>);

impl<'de> DeserializeSeed<'de> for Pair<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let parts = text.split_once(' ');
        parts
            .filter(|(_, second)| !second.contains(' '))
            .and_then(|(first, second)| self.0.add([first, second]))
            .ok_or_else(|| E::custom("a merge has two tokens"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<(), A::Error> {
        let missing = || A::Error::custom("a merge has two tokens");
        let Text(left) = pair.next_element()?.ok_or_else(missing)?;
        let Text(right) = pair.next_element()?.ok_or_else(missing)?;
        if pair.next_element::<Text<'de>>()?.is_some() {
            return Err(missing());
        }
        self.0.add([&left, &right]).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tokens = Vec<(String, u32)>;

    /// All tokens, and the merges where they are the last ones.
    fn parsed(json: &str) -> Option<(Tokens, Vec<String>)> {
        let list = last_merges(json.as_bytes())?;
        let whole: Definition<'_> = serde_json::from_str(json).ok()?;
        if !std::ptr::eq(list, whole.model.merges.get().as_bytes()) {
            return None;
        }
        let list = MergeList::parse(list).ok()?;
        let tokens = whole.model.vocab.names.iter().zip(0..);
        let tokens = tokens.map(|(name, id)| (name.to_string(), id));
        let pairs = list.pairs.iter().map(|pair| list.tokens(*pair).join("+"));
        Some((tokens.collect(), pairs.collect()))
    }

    #[test]
    fn merges_that_a_file_ends_in_are_found() {
        let vocab = r#"{"a": 0, "merges": 1, "\"merges\": [": 2}"#;
        let tokens = [("a", 0), ("merges", 1), ("\"merges\": [", 2)];
        let tokens: Vec<_> = tokens.map(|(name, id)| (name.to_owned(), id)).into();
        for (merges, pairs) in [
            (r#"[["a", "b"], ["]", "}"]]"#, vec!["a+b", "]+}"]),
            (r#"["a b", "] }"]"#, vec!["a+b", "]+}"]),
            (
                r#"[["\"", "b"], ["", "\u0061b"], "\\ c", "ä ö"]"#,
                vec!["\"+b", "+ab", "\\+c", "ä+ö"],
            ),
            ("[]", vec![]),
        ] {
            let file =
                format!("{{\"model\": {{\"vocab\": {vocab}, \"merges\" :\n{merges}\n}} }}\n");
            let pairs = pairs.into_iter().map(str::to_owned).collect();
            assert_eq!(parsed(&file), Some((tokens.clone(), pairs)), "{file}");
        }
    }

    #[test]
    fn other_files_are_not() {
        for file in [
            "",
            "}",
            r#"{"model": {"vocab": {"a": 0}}}"#,
            r#"{"model": {"merges": [], "vocab": {"a": 0}}}"#,
            r#"{"model": {"vocab": {"a": 0}, "merges": [["a", "a"]]}, "x": [1]}"#,
            r#"{"x": {"merges": [["a", "a"]]}, "model": {"vocab": {"a": 0}, "merges": []}}"#,
            r#"{"model": {"vocab": {"a": 0}}, "x": {"merges": [["a", "a"]]}}"#,
            r#"{"model": {"vocab": {"a": 0}, "\u006derges": []}, "x": {"merges": [["a", "a"]]}}"#,
        ] {
            assert_eq!(parsed(file), None, "{file}");
        }
    }
}
