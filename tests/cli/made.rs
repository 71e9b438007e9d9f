//! A whole model of some hundred kilobytes, made here, damaged at will and run; knows no damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::support::{Ended, Sealed, ended};

/// Bytes, each a token, and the one that ends an answer.
pub(crate) const VOCABULARY: usize = 257;
const HIDDEN: usize = 32;
const HEADS: usize = 2;
const HEAD_WIDTH: usize = 16;
const LAYERS: usize = 2;

/// The files of a model of the Qwen3 architecture. Its answers mean nothing.
pub(crate) struct Made {
    pub(crate) config: Value,
    pub(crate) tokenizer: Value,
    pub(crate) tokenizer_config: Value,
    /// Float32, with their shapes.
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// What files hold instead of the above; `None` leaves the file out.
    pub(crate) files: BTreeMap<&'static str, Option<Vec<u8>>>,
}

impl Made {
    pub(crate) fn new() -> Self {
        let config = json!({
            "architectures": ["Qwen3ForCausalLM"],
            "eos_token_id": 256,
            "head_dim": HEAD_WIDTH,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "max_position_embeddings": 64,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": HEADS,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": true,
            "vocab_size": VOCABULARY,
        });
        let tokenizer_config = json!({
            "eos_token": "<|end|>",
            "chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
        });
        let mut made = Self {
            config,
            tokenizer: tokenizer(),
            tokenizer_config,
            tensors: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        made.add("model.embed_tokens.weight", &[VOCABULARY, HIDDEN]);
        made.add("model.norm.weight", &[HIDDEN]);
        for layer in 0..LAYERS {
            let mut add = |name: &str, shape: &[usize]| {
                made.add(&format!("model.layers.{layer}.{name}.weight"), shape);
            };
            for name in ["q", "k", "v", "o"] {
                add(&format!("self_attn.{name}_proj"), &[HIDDEN, HIDDEN]);
            }
            for name in ["gate", "up", "down"] {
                add(&format!("mlp.{name}_proj"), &[HIDDEN, HIDDEN]);
            }
            for name in ["input_layernorm", "post_attention_layernorm"] {
                add(name, &[HIDDEN]);
            }
            for name in ["self_attn.q_norm", "self_attn.k_norm"] {
                add(name, &[HEAD_WIDTH]);
            }
        }
        made
    }

    /// A tensor of small numbers that differ.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize]) {
        let count = shape.iter().product::<usize>();
        let numbers = (0..count).map(|i| (((i * 37 + name.len()) % 101) as f32 - 50.0) / 250.0);
        self.tensors
            .insert(name.to_owned(), (shape.to_vec(), numbers.collect()));
    }

    /// `model.safetensors` as it is without damage.
    pub(crate) fn weights(&self) -> Vec<u8> {
        safetensors(self.tensors.iter())
    }

    /// Writes all files into a folder, which is made.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let sound = [
            ("config.json", self.config.to_string().into_bytes()),
            ("tokenizer.json", self.tokenizer.to_string().into_bytes()),
            (
                "tokenizer_config.json",
                self.tokenizer_config.to_string().into_bytes(),
            ),
            ("model.safetensors", self.weights()),
        ];
        let mut files: BTreeMap<_, _> = sound.map(|(name, bytes)| (name, Some(bytes))).into();
        files.extend(self.files.clone());
        for (name, bytes) in files {
            if let Some(bytes) = bytes {
                fs::write(folder.join(name), bytes).unwrap();
            }
        }
    }
}

/// A safetensors file of float32 tensors.
pub(crate) fn safetensors<'a>(
    tensors: impl Iterator<Item = (&'a String, &'a (Vec<usize>, Vec<f32>))>,
) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, (shape, numbers)) in tensors {
        let start = data.len();
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    with_header(&Value::from(header).to_string(), &data)
}

/// A safetensors file whose header says what it likes.
pub(crate) fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

/// Byte-level BPE without merges, so that each byte is a token.
fn tokenizer() -> Value {
    let mut vocabulary = Map::new();
    let mut unprintable = 0x100..;
    for byte in 0..=255_u8 {
        let character = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae.. => char::from(byte),
            _ => unprintable.next().and_then(char::from_u32).unwrap(),
        };
        vocabulary.insert(character.to_string(), byte.into());
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    json!({
        "version": "1.0",
        "added_tokens": [{
            "id": 256, "content": "<|end|>", "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        }],
        "normalizer": null,
        "pre_tokenizer": level,
        "post_processor": null,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    })
}

/// Runs with the model that `damage` leaves.
pub(crate) fn run(damage: impl FnOnce(&mut Made), arguments: &[&str]) -> Ended {
    let home = Sealed::new();
    let mut made = Made::new();
    damage(&mut made);
    made.write(&home.path("made"));
    let arguments = [&["run", "-m", "./made", "-t", "0", "-n", "3"], arguments].concat();
    ended(&mut home.command(&arguments))
}

/// Asserts that a run with the model that `damage` leaves is refused, in a second at most of work.
#[track_caller]
pub(crate) fn refused(damage: impl FnOnce(&mut Made), code: i32, sentence: &str) {
    run(damage, &["a"]).refused(code, sentence);
}

/// As [`refused`], after setting one field of `config.json`.
#[track_caller]
pub(crate) fn refused_config(field: &str, value: Value, code: i32, sentence: &str) {
    refused(|made| made.config[field] = value, code, sentence);
}

/// As [`refused`], after giving one file another content.
#[track_caller]
pub(crate) fn refused_file(
    file: &'static str,
    content: impl Into<Vec<u8>>,
    code: i32,
    sentence: &str,
) {
    let content = content.into();
    let damage = |made: &mut Made| drop(made.files.insert(file, Some(content)));
    refused(damage, code, sentence);
}
