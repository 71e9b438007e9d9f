//! The vocabulary, the special tokens and the streaming decoder against what Python's tokenizers do.

mod chat;
mod python;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Bos, Special, StreamDecoder, Tokenizer, TokenizerOptions};
use crate::error::Error;
use crate::files::ModelFiles;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/stories");

fn load(folder: &Path) -> crate::Result<Tokenizer> {
    Tokenizer::load(&ModelFiles::Folder(folder.to_path_buf()))
}

/// The built-in model's tokenizer, which is always there.
fn stories() -> Tokenizer {
    load(Path::new(STORIES)).unwrap()
}

/// A folder with the built-in model's tokenizer.json and these files beside it.
fn folder_with(files: &[(&str, Value)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(
        Path::new(STORIES).join("tokenizer.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    for (name, content) in files {
        let text = content
            .as_str()
            .map_or_else(|| content.to_string(), str::to_owned);
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A file or folder of the reference data; says so and gives `None` where there is none.
fn reference(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")).join(name);
    if path.exists() {
        return Some(path);
    }
    // Past the capture that hides what passing tests print.
    let line = format!("skipped: no {}\n", path.display());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

/// Decodes one token at a time.
fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[u32], special: Special) -> String {
    let mut decoder = StreamDecoder::with_special(Arc::clone(tokenizer), special);
    let text: String = ids.iter().map(|id| decoder.push(*id).to_owned()).collect();
    text + decoder.finish()
}

/// The stream gives the decoded text, and may only lack a character that the end left unfinished.
fn assert_streams(tokenizer: &Arc<Tokenizer>, ids: &[u32], special: Special) {
    let whole = tokenizer.decode(ids, special);
    let text = streamed(tokenizer, ids, special);
    let missing = whole
        .strip_prefix(&text)
        .unwrap_or_else(|| panic!("{ids:?}: {text:?} {whole:?}"));
    assert!(
        missing.chars().all(|character| character == '\u{FFFD}'),
        "{ids:?}: {text:?} {whole:?}"
    );
    assert!(missing.chars().count() <= 3, "{ids:?}: {text:?} {whole:?}");
}

#[test]
fn every_vocabulary_agrees_with_python() {
    let goldens = [
        "golden_short.json",
        "golden_decode.json",
        "golden_tokens.json",
    ]
    .map(reference);
    let [Some(short), Some(decode), Some(tokens)] = goldens else {
        return;
    };
    let [short, decode, tokens] = [short, decode, tokens].map(|path| read_json(&path));
    for (name, expected) in short["tokenizers"].as_object().unwrap() {
        let Some(folder) = reference(&format!("tokenizers/{name}")) else {
            continue;
        };
        let tokenizer = Arc::new(load(&folder).unwrap());
        check_short_texts(name, &tokenizer, &short["strings"], expected);
        check_beginning(name, &tokenizer, &short["strings"], expected);
        check_decoding(name, &tokenizer, &decode["tokenizers"][name]);
        // The reference itself takes minutes for all of them.
        if tokenizer.reference_reason().is_none() {
            check_long_texts(name, &tokenizer, &tokens["golden"][name]);
        }
    }
}

fn check_short_texts(name: &str, tokenizer: &Arc<Tokenizer>, texts: &Value, expected: &Value) {
    for (index, text) in texts.as_array().unwrap().iter().enumerate() {
        let text = text.as_str().unwrap();
        let expected_ids = ids(&expected["ids"][index]);
        assert_eq!(
            tokenizer.encode(text, Bos::Never).unwrap(),
            expected_ids,
            "{name} {text:?}"
        );
        for (key, special) in [("decoded", Special::Show), ("decoded_skip", Special::Hide)] {
            let decoded = expected[key][index].as_str().unwrap_or(text);
            assert_eq!(
                tokenizer.decode(&expected_ids, special),
                decoded,
                "{name} {text:?}"
            );
            assert_streams(tokenizer, &expected_ids, special);
        }
    }
}

/// Raw text begins as Python's post-processor has it, and ends with the text.
fn check_beginning(name: &str, tokenizer: &Tokenizer, texts: &Value, expected: &Value) {
    let index = texts
        .as_array()
        .unwrap()
        .iter()
        .position(|text| text == "Hello")
        .unwrap();
    let plain = ids(&expected["ids"][index]);
    let begun = tokenizer.encode("Hello", Bos::Auto).unwrap();
    if ["deepseek-v3", "phi-3"].contains(&name) {
        // Their tokenizer_config.json asks for the token that tokenizer.json does not add.
        assert_eq!(
            begun,
            [&[tokenizer.bos_id().unwrap()], &plain[..]].concat(),
            "{name}"
        );
        return;
    }
    let python = match &expected["ids_special"][index] {
        Value::Null => plain.clone(),
        special => ids(special),
    };
    let text_at = python
        .windows(plain.len())
        .position(|window| window == plain)
        .unwrap();
    assert_eq!(begun, python[..text_at + plain.len()], "{name}");
}

fn check_decoding(name: &str, tokenizer: &Arc<Tokenizer>, expected: &Value) {
    for case in expected["random"].as_array().unwrap() {
        let ids = ids(&case[0]);
        for (text, special) in [(&case[1], Special::Show), (&case[2], Special::Hide)] {
            assert_eq!(
                tokenizer.decode(&ids, special),
                text.as_str().unwrap(),
                "{name} {ids:?}"
            );
            assert_streams(tokenizer, &ids, special);
        }
    }
    let mut decoder = StreamDecoder::with_special(Arc::clone(tokenizer), Special::Show);
    let mut text = String::new();
    for case in expected["stream"].as_array().unwrap() {
        let ids = ids(&case[0]);
        let python = case[1].as_str().unwrap();
        assert_eq!(
            tokenizer.decode(&ids, Special::Show),
            python,
            "{name} {ids:?}"
        );
        text.push_str(decoder.push(*ids.last().unwrap()));
        assert_eq!(text, python.trim_end_matches('\u{FFFD}'), "{name} {ids:?}");
    }
}

fn check_long_texts(name: &str, tokenizer: &Tokenizer, expected: &Value) {
    for (file, expected) in expected.as_object().unwrap() {
        let Some(path) = reference(&format!("text/{file}")) else {
            continue;
        };
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let ids = tokenizer.encode(&text, Bos::Never).unwrap();
        // The second time from what is remembered.
        assert_eq!(
            tokenizer.encode(&text, Bos::Never).unwrap(),
            ids,
            "{name} {file}"
        );
        let little_endian: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let hex = expected["sha256"].as_str().unwrap();
        let digest = Sha256::digest(&little_endian);
        assert_eq!(expected["count"], ids.len(), "{name} {file}");
        for (index, byte) in digest.iter().enumerate() {
            assert_eq!(
                hex[2 * index..][..2],
                format!("{byte:02x}"),
                "{name} {file}"
            );
        }
    }
}

#[test]
fn llama_cpp_s_own_texts_have_its_ids() {
    for (vectors, name) in [
        ("gpt-2", "gpt2"),
        ("llama-bpe", "llama3.1"),
        ("qwen2", "qwen3"),
        ("llama-spm", "llama2"),
        ("phi-3", "phi-3"),
        ("falcon", "extra-falcon"),
    ] {
        let file = |ending: &str| {
            reference(&format!(
                "llamacpp-vectors/ggml-vocab-{vectors}.gguf.{ending}"
            ))
        };
        let (Some(texts), Some(ids), Some(folder)) = (
            file("inp"),
            file("out"),
            reference(&format!("tokenizers/{name}")),
        ) else {
            continue;
        };
        let [texts, ids] = [texts, ids].map(|path| fs::read_to_string(path).unwrap());
        let tokenizer = load(&folder).unwrap();
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        assert!(
            texts.len() > 40 && ids.lines().count() >= texts.len() - 1,
            "{vectors}"
        );
        for (text, expected) in texts.iter().zip(ids.lines()) {
            let expected: Vec<u32> = expected
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(
                tokenizer.encode(text, Bos::Never).unwrap(),
                expected,
                "{vectors} {text:?}"
            );
        }
    }
}

#[test]
fn the_usual_vocabularies_are_encoded_by_our_own_engine() {
    let Some(folder) = reference("tokenizers") else {
        return;
    };
    let mut left: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() && load(&folder).unwrap().reference_reason().is_some() {
            left.push(folder.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    left.sort();
    assert_eq!(
        left,
        [
            "extra-bert-base-cased",
            "extra-falcon",
            "extra-modernbert",
            "extra-t5-small"
        ]
    );
    assert_eq!(stories().reference_reason(), None);
}

#[test]
fn the_builtin_tokenizer_turns_text_into_ids_and_back() {
    let tokenizer = stories();
    let text = "Once upon a time <|im_end|> 漢字 🙂";
    let ids = tokenizer.encode(text, Bos::Auto).unwrap();
    assert_eq!(tokenizer.decode(&ids, Special::Show), text);
    assert_eq!(
        tokenizer.decode(&ids, Special::Hide),
        text.replace("<|im_end|>", "")
    );
    assert_eq!(tokenizer.eos_ids(), [2, 0]);
    assert_eq!(tokenizer.vocab_size(), 4096);
    assert!(tokenizer.is_special(2) && !tokenizer.is_special(100));
    let bytes: Vec<u8> = ids
        .iter()
        .flat_map(|id| tokenizer.piece(*id).unwrap().to_vec())
        .collect();
    assert_eq!(bytes, text.as_bytes());
    assert_eq!(tokenizer.piece(1_000_000), None);
}

#[test]
fn special_tokens_come_from_the_first_file_that_has_them() {
    let eos = |files: &[(&str, Value)]| load(folder_with(files).path()).unwrap().eos_ids().to_vec();
    let config = ("config.json", json!({ "eos_token_id": 7 }));
    let nested = (
        "config.json",
        json!({ "text_config": { "eos_token_id": [8, 9] } }),
    );
    let generation = ("generation_config.json", json!({ "eos_token_id": [5, 6] }));
    let named = (
        "tokenizer_config.json",
        json!({ "eos_token": { "content": "<|im_end|>" } }),
    );
    let map = (
        "special_tokens_map.json",
        json!({ "eos_token": "<|endoftext|>" }),
    );
    assert_eq!(eos(&[]), [0; 0]);
    assert_eq!(eos(std::slice::from_ref(&map)), [0]);
    assert_eq!(eos(&[named.clone(), map.clone()]), [2]);
    assert_eq!(eos(&[nested, named.clone(), map]), [8, 9, 2]);
    assert_eq!(eos(&[config.clone(), named.clone()]), [7, 2]);
    assert_eq!(eos(&[config, generation, named]), [5, 6, 2]);
}

#[test]
fn raw_text_gets_one_beginning_where_it_is_configured() {
    let encode = |config: Value, text: &str| {
        let folder = folder_with(&[("tokenizer_config.json", config)]);
        load(folder.path())
            .unwrap()
            .encode(text, Bos::Auto)
            .unwrap()
    };
    let configured = json!({ "add_bos_token": true, "bos_token": "<|endoftext|>" });
    let plain = stories().encode("Hi", Bos::Never).unwrap();
    let begun = [&[0], &plain[..]].concat();
    assert_eq!(encode(configured.clone(), "Hi"), begun);
    assert_eq!(encode(configured, "<|endoftext|>Hi"), begun);
    assert_eq!(encode(json!({ "bos_token": "<|endoftext|>" }), "Hi"), plain);
    assert_eq!(encode(json!({ "add_bos_token": true }), "Hi"), plain);
}

#[test]
fn unusable_files_are_named_with_what_is_wrong() {
    let problem = |files: &[(&str, Value)]| match load(folder_with(files).path()) {
        Err(Error::Tokenizer { path, problem }) => {
            format!("{}: {problem}", path.file_name().unwrap().display())
        }
        other => panic!("{other:?}"),
    };
    let tokenizer = |content: Value| problem(&[("tokenizer.json", content)]);
    let model = |vocab: Value| json!({ "model": { "type": "BPE", "vocab": vocab, "merges": [] } });
    assert!(tokenizer(json!("{\"model\"")).contains("not valid JSON: EOF"));
    assert!(tokenizer(json!("\u{1}")).contains("not valid JSON"));
    assert!(tokenizer(json!({})).ends_with("there is no vocabulary at `model.vocab`"));
    assert!(tokenizer(json!({ "model": { "type": "BPE" } })).contains("no vocabulary"));
    assert!(tokenizer(model(json!({}))).ends_with("the vocabulary is empty"));
    assert!(!tokenizer(model(json!({ "a": "b" }))).is_empty());
    for id in [u32::MAX, u32::MAX - 1, 1 << 30] {
        assert!(tokenizer(model(json!({ "a": id }))).ends_with("its ids are absurdly large"));
    }
    for file in ["config.json", "generation_config.json"] {
        let wrong = json!({ "eos_token_id": "two" });
        let expected = format!("{file}: `eos_token_id` is neither a token id nor a list of them");
        assert_eq!(problem(&[(file, wrong)]), expected);
    }
    assert!(problem(&[("tokenizer_config.json", json!("[1]"))]).contains("not a JSON object"));

    let missing = load(TempDir::new().unwrap().path()).unwrap_err();
    assert!(matches!(missing, Error::MissingFile { file, .. } if file == "tokenizer.json"));
}

#[test]
fn kept_tables_are_those_that_were_built() {
    let (model, tables) = (folder_with(&[]), TempDir::new().unwrap());
    let file = model.path().join("tokenizer.json");
    // Tables of small vocabularies are not kept.
    let mut json = fs::read_to_string(&file).unwrap();
    json.push_str(&" ".repeat(1 << 20));
    fs::write(&file, &json).unwrap();
    let options = TokenizerOptions {
        tables: Some(tables.path().to_path_buf()),
        ..TokenizerOptions::default()
    };
    let files = ModelFiles::Folder(model.path().to_path_buf());
    let text = "Once upon a <|im_end|> é🙂 12345\n\n  whale";
    let expected = stories().encode(text, Bos::Auto).unwrap();
    let check = || {
        let tokenizer = Tokenizer::load_with(&files, &options).unwrap();
        assert_eq!(tokenizer.encode(text, Bos::Auto).unwrap(), expected);
        assert_eq!(tokenizer.decode(&expected, Special::Show), text);
        assert!(tokenizer.is_special(2) && tokenizer.vocab_size() == 4096);
        let kept = fs::read_dir(tables.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        kept.collect::<Vec<_>>()
    };
    let [kept] = &check()[..] else {
        panic!("one file");
    };
    let whole = fs::read(kept).unwrap();
    assert_eq!(check(), std::slice::from_ref(kept));
    // Damaged in any way, they are built anew.
    for damage in [
        &whole[..whole.len() / 2],
        &whole[..10],
        b"",
        &[&whole[..], b"x"].concat(),
    ] {
        fs::write(kept, damage).unwrap();
        check();
        assert_eq!(fs::read(kept).unwrap(), whole);
    }
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(kept, damaged).unwrap();
        check();
        assert_eq!(fs::read(kept).unwrap(), whole, "byte {at}");
    }
    // Another vocabulary at the same place has tables of its own.
    fs::write(&file, json.replace("<|im_end|>", "<|im_sep|>")).unwrap();
    let other = Tokenizer::load_with(&files, &options).unwrap();
    assert_eq!(other.decode(&[2], Special::Show), "<|im_sep|>");
    assert_eq!(fs::read_dir(tables.path()).unwrap().count(), 2);
}

/// A vocabulary in the manner of SentencePiece: `▁a` is 1, `b` is 2, then the 256 bytes.
fn with_byte_fallback() -> Tokenizer {
    let mut vocab = json!({ "<unk>": 0, "▁a": 1, "b": 2 });
    for byte in 0..=255 {
        vocab[format!("<0x{byte:02X}>")] = json!(3 + byte);
    }
    let decoders = json!([
        { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
        { "type": "ByteFallback" },
        { "type": "Fuse" },
        { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
    ]);
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "model": {
            "type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "byte_fallback": true
        },
        "decoder": { "type": "Sequence", "decoders": decoders },
    });
    load(folder_with(&[("tokenizer.json", tokenizer)]).path()).unwrap()
}

#[test]
fn bytes_become_characters_and_broken_ones_do_not_stall() {
    let tokenizer = Arc::new(with_byte_fallback());
    let bytes = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| 3 + u32::from(*byte))
            .collect::<Vec<_>>()
    };
    let mut decoder = StreamDecoder::new(Arc::clone(&tokenizer));
    let steps = [
        &[1, 1][..],
        &bytes("é".as_bytes()),
        &bytes(&[0xF0, 0x9F]),
        &[2],
    ]
    .concat();
    let shown: Vec<String> = steps
        .iter()
        .map(|id| decoder.push(*id).to_owned())
        .collect();
    assert_eq!(shown, ["a", " a", "", "é", "", "", "\u{FFFD}\u{FFFD}b"]);

    assert_eq!(decoder.push(bytes(&[0xE6])[0]), "");
    assert_eq!(decoder.finish(), "");
    assert_eq!(decoder.push(1), "a", "a new text begins");
    assert_eq!(
        tokenizer.decode(&bytes(&[0xE6, 0xBC]), Special::Hide),
        "\u{FFFD}\u{FFFD}"
    );
    assert_eq!(tokenizer.piece(1).unwrap(), b" a");
    assert_eq!(tokenizer.piece(3 + 0xE6).unwrap(), [0xE6]);
}

/// Loaded once for all cases of a property.
static STORIES_TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| Arc::new(stories()));
static BYTE_FALLBACK: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| Arc::new(with_byte_fallback()));

proptest! {
    #[test]
    fn any_ids_stream_as_they_decode(ids in prop::collection::vec(0_u32..4100, 0..60)) {
        assert_streams(&STORIES_TOKENIZER, &ids, Special::Hide);
        assert_streams(&STORIES_TOKENIZER, &ids, Special::Show);
    }

    #[test]
    fn any_bytes_stream_as_they_decode(ids in prop::collection::vec(0_u32..300, 0..60)) {
        assert_streams(&BYTE_FALLBACK, &ids, Special::Hide);
    }

    #[test]
    fn any_text_comes_back(text in "\\PC*") {
        let ids = STORIES_TOKENIZER.encode(&text, Bos::Never).unwrap();
        let normalized = STORIES_TOKENIZER.decode(&ids, Special::Show);
        prop_assert_eq!(STORIES_TOKENIZER.encode(&normalized, Bos::Never).unwrap(), ids);
    }
}
