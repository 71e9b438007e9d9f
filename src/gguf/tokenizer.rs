//! `tokenizer.json` and the files beside it of a GGUF file's metadata: byte-level BPE, whose tokens and merges GGUF
//! has as they are. How text is cut before that, it has as a name only.

use serde_json::{Map, Value as Json, json};

use super::value::{Metadata, Value};

/// How text is cut into words.
struct Cut {
    /// As GGUF names it.
    names: &'static [&'static str],
    /// The words; nothing is GPT-2's, which is built into byte-level BPE.
    words: Option<&'static str>,
    /// Digits are cut one by one before.
    digits: bool,
    /// Text is normalized (NFC).
    composed: bool,
    /// A word that is a token needs no merges.
    whole: bool,
    /// Texts begin with a token, where nothing else is said.
    begins: bool,
}

const CUTS: [Cut; 5] = [
    Cut {
        names: &["llama-bpe", "llama3", "llama-v3"],
        words: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        digits: false,
        composed: false,
        whole: true,
        begins: true,
    },
    Cut {
        names: &["qwen2", "deepseek-r1-qwen"],
        words: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        digits: false,
        composed: true,
        whole: false,
        begins: false,
    },
    Cut {
        names: &["tekken"],
        words: Some(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        digits: false,
        composed: false,
        whole: true,
        begins: true,
    },
    Cut {
        names: &["gpt-2"],
        words: None,
        digits: false,
        composed: false,
        whole: false,
        begins: false,
    },
    Cut {
        names: &["smollm"],
        words: None,
        digits: true,
        composed: false,
        whole: false,
        begins: false,
    },
];

/// Kinds of tokens that are taken out of a text before it is cut.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
/// Places without a token.
const UNUSED: u64 = 5;

/// `tokenizer.json`.
///
/// # Errors
/// One sentence where the vocabulary is of a kind that cannot be made of the metadata.
pub(super) fn tokenizer(metadata: &Metadata) -> Result<Json, String> {
    let refuse = |what: String| format!("{what}: put the model's tokenizer.json beside the file");
    let model = metadata.text("tokenizer.ggml.model").map_err(refuse)?;
    if model != "gpt2" {
        return Err(refuse(format!(
            "its vocabulary is of the kind `{model}`, and only `gpt2` is read"
        )));
    }
    let cut = cut(metadata).ok_or_else(|| {
        let name = metadata.text("tokenizer.ggml.pre").unwrap_or("");
        refuse(format!(
            "how text is cut into words is not known by the name `{name}`"
        ))
    })?;
    let tokens = metadata.list("tokenizer.ggml.tokens", Value::text)?;
    let merges = metadata.list("tokenizer.ggml.merges", Value::text)?;
    let kinds = match metadata.get("tokenizer.ggml.token_type") {
        Some(_) => metadata.list("tokenizer.ggml.token_type", Value::size)?,
        None => Vec::new(),
    };
    let (mut vocabulary, mut added) = (Map::new(), Vec::new());
    for (id, token) in tokens.iter().enumerate() {
        let kind = kinds.get(id).copied().unwrap_or(1);
        if kind == UNUSED {
            continue;
        }
        vocabulary.insert((*token).to_owned(), json!(id));
        if matches!(kind, CONTROL | USER_DEFINED) {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL,
            }));
        }
    }
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let mut cutters = Vec::new();
    if cut.digits {
        cutters.push(json!({"type": "Digits", "individual_digits": true}));
    }
    if let Some(words) = cut.words {
        cutters.push(json!({
            "type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false,
        }));
    }
    cutters.push(bytes(cut.words.is_none()));
    let bos = bos(metadata).filter(|_| begins(metadata));
    let bos = bos.and_then(|id| Some((id, *tokens.get(id)?)));
    let processor = bos.map_or_else(
        || bytes(false),
        |(id, token)| {
            json!({
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [
                    {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": token, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
            })
        },
    );
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": if cut.composed { json!({"type": "NFC"}) } else { Json::Null },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cutters},
        "post_processor": processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": cut.whole,
            "vocab": vocabulary, "merges": merges,
        },
    }))
}

/// `tokenizer_config.json`: the template for chats, and which tokens begin and end texts.
pub(super) fn companion(metadata: &Metadata) -> Json {
    let mut config = Map::new();
    config.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    config.insert("add_bos_token".to_owned(), json!(begins(metadata)));
    let tokens = metadata
        .list("tokenizer.ggml.tokens", Value::text)
        .unwrap_or_default();
    for (key, field) in [
        ("tokenizer.ggml.bos_token_id", "bos_token"),
        ("tokenizer.ggml.eos_token_id", "eos_token"),
        ("tokenizer.ggml.padding_token_id", "pad_token"),
    ] {
        if let Some(token) = id(metadata, key).and_then(|id| tokens.get(id)) {
            config.insert(field.to_owned(), json!(token));
        }
    }
    if let Ok(template) = metadata.text("tokenizer.chat_template") {
        config.insert("chat_template".to_owned(), json!(template));
    }
    Json::Object(config)
}

/// `generation_config.json`: which tokens end an answer.
pub(super) fn ends(metadata: &Metadata) -> Json {
    let mut config = Map::new();
    if let Some(bos) = bos(metadata) {
        config.insert("bos_token_id".to_owned(), json!(bos));
    }
    let mut ends: Vec<usize> = Vec::new();
    for key in ["eos", "eot", "eom"] {
        let found = id(metadata, &format!("tokenizer.ggml.{key}_token_id"));
        ends.extend(found.filter(|id| !ends.contains(id)));
    }
    if !ends.is_empty() {
        config.insert("eos_token_id".to_owned(), json!(ends));
    }
    Json::Object(config)
}

fn id(metadata: &Metadata, key: &str) -> Option<usize> {
    metadata.get(key)?.size()?.try_into().ok()
}

fn bos(metadata: &Metadata) -> Option<usize> {
    id(metadata, "tokenizer.ggml.bos_token_id")
}

fn cut(metadata: &Metadata) -> Option<&'static Cut> {
    let name = metadata.text("tokenizer.ggml.pre").ok()?;
    CUTS.iter().find(|cut| cut.names.contains(&name))
}

/// Whether texts begin with a token.
fn begins(metadata: &Metadata) -> bool {
    let said = metadata.flag("tokenizer.ggml.add_bos_token");
    said.unwrap_or_else(|| cut(metadata).is_some_and(|cut| cut.begins))
}
