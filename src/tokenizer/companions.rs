//! The small JSON files beside `tokenizer.json`: which tokens begin and end texts, by which names.
//! Knows nothing of text.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::ModelFiles;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CONFIG: &str = "config.json";

/// The parsed files; an absent one is an empty object.
pub(super) struct Companions<'a> {
    files: &'a ModelFiles,
    pub(super) tokenizer_config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    generation_config: Map<String, Value>,
    config: Map<String, Value>,
}

impl<'a> Companions<'a> {
    pub(super) fn read(files: &'a ModelFiles) -> Result<Self> {
        Ok(Self {
            files,
            tokenizer_config: read_object(files, TOKENIZER_CONFIG)?,
            special_tokens_map: read_object(files, SPECIAL_TOKENS_MAP)?,
            generation_config: read_object(files, GENERATION_CONFIG)?,
            config: read_object(files, CONFIG)?,
        })
    }

    /// What `tokenizer_config.json` says about a beginning-of-sequence token before raw text.
    pub(super) fn add_bos(&self) -> Option<bool> {
        self.tokenizer_config.get("add_bos_token")?.as_bool()
    }

    /// The end-of-sequence tokens: those of the first file that has any, and always the one that
    /// `tokenizer_config.json` names, because that is the end of a turn where they differ.
    pub(super) fn eos_ids(&self, id: impl Fn(&str) -> Option<u32>) -> Result<Vec<u32>> {
        let mut ids = self.configured_ids("eos_token_id")?;
        ids.extend(named_id(&self.tokenizer_config, "eos_token", &id));
        if ids.is_empty() {
            ids.extend(named_id(&self.special_tokens_map, "eos_token", &id));
        }
        let mut unique = Vec::with_capacity(ids.len());
        for id in ids {
            if !unique.contains(&id) {
                unique.push(id);
            }
        }
        Ok(unique)
    }

    /// The beginning-of-sequence token, from the first file that has one.
    pub(super) fn bos_id(&self, id: impl Fn(&str) -> Option<u32>) -> Result<Option<u32>> {
        let configured = self.configured_ids("bos_token_id")?.first().copied();
        Ok(configured
            .or_else(|| named_id(&self.tokenizer_config, "bos_token", &id))
            .or_else(|| named_id(&self.special_tokens_map, "bos_token", &id)))
    }

    /// The special tokens by the names that chat templates know them by, `bos_token` and such.
    pub(super) fn special_tokens(&self) -> Map<String, Value> {
        let mut tokens = Map::new();
        for (name, value) in self.special_tokens_map.iter().chain(&self.tokenizer_config) {
            if let Some(text) = token_text(value).filter(|_| name.ends_with("_token")) {
                tokens.insert(name.clone(), Value::from(text));
            }
        }
        tokens
    }

    /// The ids under `key` in the first file that has any.
    fn configured_ids(&self, key: &str) -> Result<Vec<u32>> {
        let text_config = self.config.get("text_config").and_then(Value::as_object);
        let places = [
            (GENERATION_CONFIG, Some(&self.generation_config)),
            (CONFIG, Some(&self.config)),
            (CONFIG, text_config),
        ];
        for (file, object) in places {
            let Some(value) = object.and_then(|object| object.get(key)) else {
                continue;
            };
            let ids = token_ids(value).ok_or_else(|| Error::Tokenizer {
                path: self.files.path(file),
                problem: format!("`{key}` is neither a token id nor a list of them"),
            })?;
            if !ids.is_empty() {
                return Ok(ids);
            }
        }
        Ok(Vec::new())
    }
}

/// The id of the token that a file has under `name`.
fn named_id(
    file: &Map<String, Value>,
    name: &str,
    id: impl Fn(&str) -> Option<u32>,
) -> Option<u32> {
    id(token_text(file.get(name)?)?)
}

/// A special token is written as its text, or as an object around it.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// One id, a list of ids, or null for none.
fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.iter().map(id).collect(),
        value => Some(vec![id(value)?]),
    }
}

/// A file's JSON object; an empty one where there is no such file.
pub(super) fn read_object(files: &ModelFiles, name: &str) -> Result<Map<String, Value>> {
    let Some(bytes) = files.read(name)? else {
        return Ok(Map::new());
    };
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let object = reader.deserialize_map(Fields);
    let object = object.and_then(|object| reader.end().map(|()| object));
    object.map_err(|error| Error::Tokenizer {
        path: files.path(name),
        problem: format!("not a JSON object: {error}"),
    })
}

/// Tells of each added token what `tokenizer.json` has told: most of some files, and nobody asks for it.
const TOLD_ELSEWHERE: &str = "added_tokens_decoder";

/// The fields of an object, but for what is told elsewhere.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut fields: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if name == TOLD_ELSEWHERE {
                fields.next_value::<IgnoredAny>()?;
            } else {
                object.insert(name, fields.next_value()?);
            }
        }
        Ok(object)
    }
}
