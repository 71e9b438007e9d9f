//! `tokenizer.json` as far as it says what byte-pair encoding does.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    #[serde(borrow)]
    pub(super) merges: MergeList<'a>,
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

/// Tokens as they are spelled, with their ids, in the file's order.
#[derive(Debug)]
pub(super) struct Vocab<'a>(pub(super) Vec<(Cow<'a, str>, u32)>);

/// Pairs of tokens as they are spelled.
#[derive(Debug)]
pub(super) struct MergeList<'a>(pub(super) Vec<MergePair<'a>>);

/// Two tokens as they are spelled: older files have them in one text, with a space between them.
#[derive(Debug)]
pub(super) struct MergePair<'a> {
    text: Cow<'a, str>,
    /// The second one, where it is not part of `text`.
    second: Option<Cow<'a, str>>,
}

impl MergePair<'_> {
    /// Both; `None` for a text that is not two tokens.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        match &self.second {
            Some(second) => Some((&self.text, second)),
            None => self
                .text
                .split_once(' ')
                .filter(|(_, second)| !second.contains(' ')),
        }
    }
}

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
                let mut tokens = Vec::new();
                while let Some((Text(token), id)) = map.next_entry()? {
                    tokens.push((token, id));
                }
                Ok(Vocab(tokens))
            }
        }
        deserializer.deserialize_map(VocabVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MergeList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = MergeList<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("pairs of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MergeList<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = list.next_element()? {
                    pairs.push(pair);
                }
                Ok(MergeList(pairs))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MergePair<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairVisitor;
        impl<'de> Visitor<'de> for PairVisitor {
            type Value = MergePair<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("two tokens")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(MergePair {
                    text: Cow::Borrowed(text),
                    second: None,
                })
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(MergePair {
                    text: Cow::Owned(text.to_owned()),
                    second: None,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let missing = || A::Error::custom("a merge has two tokens");
                let Text(text) = list.next_element()?.ok_or_else(missing)?;
                let Text(second) = list.next_element()?.ok_or_else(missing)?;
                if list.next_element::<Text<'de>>()?.is_some() {
                    return Err(missing());
                }
                Ok(MergePair {
                    text,
                    second: Some(second),
                })
            }
        }
        deserializer.deserialize_any(PairVisitor)
    }
}
