//! GGUF files that are written here, whole and damaged.

use proptest::prelude::*;
use serde_json::json;

use super::header::Kind;
use super::value::Value;
use super::*;
use crate::config::{PackingConfig, PackingMode};
use crate::progress::Silent;
use crate::quantize::{self, Checkpoint, QuantizeSettings, Recipe, WriteOptions};
use crate::weights::Weights;

/// Bytes of a header.
#[derive(Default)]
struct Made {
    metadata: Vec<u8>,
    values: u64,
    tensors: Vec<u8>,
    count: u64,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Made {
    fn value(&mut self, name: &str, kind: u32, bytes: &[u8]) -> &mut Self {
        self.metadata.extend(text(name));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(bytes);
        self.values += 1;
        self
    }

    fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.value(name, 8, &text(value))
    }

    fn size(&mut self, name: &str, value: u32) -> &mut Self {
        self.value(name, 4, &value.to_le_bytes())
    }

    fn texts(&mut self, name: &str, values: &[&str]) -> &mut Self {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| text(value)));
        self.value(name, 9, &bytes)
    }

    fn tensor(&mut self, name: &str, sizes: &[u64], kind: u32, data: &[u8]) -> &mut Self {
        self.tensors.extend(text(name));
        self.tensors.extend((sizes.len() as u32).to_le_bytes());
        self.tensors
            .extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.count += 1;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.values.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A file with an embedding and a projection of queries, of 2 heads that are 4 wide.
fn llama() -> Made {
    llama_with(8)
}

/// With so many rows of queries.
fn llama_with(queries: u64) -> Made {
    let numbers = vec![1; 16 * queries as usize];
    let mut made = Made::default();
    made.text("general.architecture", "llama")
        .size("llama.embedding_length", 8)
        .size("llama.block_count", 1)
        .size("llama.feed_forward_length", 16)
        .size("llama.attention.head_count", 2)
        .size("llama.context_length", 64)
        .value(
            "llama.attention.layer_norm_rms_epsilon",
            6,
            &1e-5_f32.to_le_bytes(),
        )
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen2")
        .texts(
            "tokenizer.ggml.tokens",
            &["a", "b", "ab", "<end>", "[PAD4]"],
        )
        .texts("tokenizer.ggml.merges", &["a b"])
        .value(
            "tokenizer.ggml.token_type",
            9,
            &[&5_u32.to_le_bytes()[..], &5_u64.to_le_bytes()]
                .into_iter()
                .flatten()
                .copied()
                .chain([1, 1, 1, 3, 5].into_iter().flat_map(i32::to_le_bytes))
                .collect::<Vec<u8>>(),
        )
        .size("tokenizer.ggml.eos_token_id", 3)
        .text("tokenizer.chat_template", "{{ messages }}")
        .tensor("token_embd.weight", &[8, 5], 0, &[0; 160])
        .tensor("blk.0.attn_q.weight", &[8, queries], 1, &numbers);
    made
}

fn opened(made: &Made) -> (tempfile::TempDir, Result<Gguf>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, made.bytes()).unwrap();
    let gguf = Gguf::open(&path);
    (folder, gguf)
}

fn parsed(gguf: &Gguf, name: &str) -> Json {
    serde_json::from_slice(&gguf.files.require(name).unwrap()).unwrap()
}

#[test]
fn a_header_says_what_is_where() {
    let header = Header::parse(&llama().bytes()).unwrap();
    let [embedding, queries] = header.tensors.as_slice() else {
        panic!("{:?}", header.tensors);
    };
    assert_eq!(
        (embedding.shape.as_slice(), embedding.kind),
        (&[5, 8][..], Kind::F32)
    );
    assert_eq!(queries.range.len(), 128);
    assert_eq!(
        header.metadata.get("llama.block_count"),
        Some(&Value::Unsigned(1))
    );
}

#[test]
fn a_file_gives_what_a_folder_has() {
    let (folder, gguf) = opened(&llama());
    let gguf = gguf.unwrap();
    let config = parsed(&gguf, "config.json");
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    for (field, value) in [
        ("vocab_size", json!(5)),
        ("head_dim", json!(4)),
        ("num_key_value_heads", json!(2)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(10000.0)),
        ("tie_word_embeddings", json!(true)),
    ] {
        assert_eq!(config[field], value, "{field}");
    }
    let tokenizer = crate::tokenizer::Tokenizer::load(&gguf.files).unwrap();
    let encode = |text| tokenizer.encode(text, crate::tokenizer::Bos::Auto).unwrap();
    assert_eq!(encode("abba<end>"), [2, 1, 0, 3]);
    assert_eq!(
        parsed(&gguf, "generation_config.json")["eos_token_id"],
        json!([3])
    );
    assert_eq!(
        parsed(&gguf, "tokenizer_config.json")["chat_template"],
        "{{ messages }}"
    );
    let names: Vec<(&str, Change)> = gguf
        .tensors
        .iter()
        .map(|tensor| (tensor.stored.name.as_str(), tensor.change))
        .collect();
    assert_eq!(
        names,
        [
            ("model.embed_tokens.weight", Change::None),
            (
                "model.layers.0.self_attn.q_proj.weight",
                Change::Interleaved(4)
            ),
        ]
    );
    // What lies beside counts.
    fs::write(folder.path().join("config.json"), "{\"own\": 1}").unwrap();
    let gguf = Gguf::open(&folder.path().join("model.gguf")).unwrap();
    assert_eq!(parsed(&gguf, "config.json"), json!({"own": 1}));
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    type Change = fn(&mut Made) -> &mut Made;
    let cases: [(Change, &str); 9] = [
        (
            |made| made.tensor("blk.0.attn_k.weight", &[256, 1], 12, &[0; 144]),
            "tensor blk.0.attn_k.weight is of type Q4_K",
        ),
        (
            |made| made.tensor("blk.0.attn_k.weight", &[8, 6], 1, &[0; 96]),
            "blk.0.attn_k.weight has 6 rows, which are no heads of 4",
        ),
        (
            |made| made.tensor("blk.0.odd.weight", &[8], 0, &[0; 32]),
            "blk.0.odd.weight has no place",
        ),
        (
            |made| made.tensor("output.weight", &[9, 1], 8, &[0; 34]),
            "no blocks of Q8_0",
        ),
        (
            |made| made.tensor("output.weight", &[1 << 40], 0, &[]),
            "no size",
        ),
        (
            |made| made.tensor("token_embd.weight", &[8], 0, &[0; 32]),
            "two tensors",
        ),
        (|made| made.size("split.count", 3), "one of several"),
        (
            |made| made.size("llama.expert_count", 8),
            "llama with experts",
        ),
        (|made| made.size("general.alignment", 33), "no power of two"),
    ];
    for (change, words) in cases {
        let mut made = llama();
        change(&mut made);
        let (_folder, gguf) = opened(&made);
        let error = gguf.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut bytes = llama().bytes();
    bytes.truncate(bytes.len() - 1);
    bytes.truncate(bytes.len() - 64);
    assert!(Header::parse(&bytes).unwrap_err().contains("cut short"));
    assert!(
        Header::parse(b"GGUF\x01\0\0\0")
            .unwrap_err()
            .contains("version 1")
    );
}

#[test]
fn the_scaling_of_llama_3_is_found_again() {
    let theta = 500_000.0_f64;
    let mut made = llama_with(128);
    made.size("llama.attention.key_length", 64).value(
        "llama.rope.freq_base",
        6,
        &(theta as f32).to_le_bytes(),
    );
    let factors = (0..32).map(|pair| {
        let period = std::f64::consts::TAU * theta.powf(f64::from(pair) / 32.0);
        let share = ((8192.0 / period - 1.0) / 3.0).clamp(0.0, 1.0);
        (1.0 / ((1.0 - share) / 8.0 + share)) as f32
    });
    let factors: Vec<u8> = factors.flat_map(f32::to_le_bytes).collect();
    made.tensor("rope_freqs.weight", &[32], 0, &factors);
    let (_folder, gguf) = opened(&made);
    let gguf = gguf.unwrap();
    assert_eq!(
        parsed(&gguf, "config.json")["rope_scaling"],
        json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        })
    );
    assert_eq!(gguf.dropped.len(), 1);
}

#[test]
fn a_file_becomes_a_folder_whose_codes_are_its_own() {
    let (hidden, inner) = (32_u64, 64_u64);
    let mut made = Made::default();
    made.text("general.architecture", "qwen2")
        .size("qwen2.embedding_length", 32)
        .size("qwen2.block_count", 1)
        .size("qwen2.feed_forward_length", 64)
        .size("qwen2.attention.head_count", 2)
        .size("qwen2.context_length", 64)
        .value(
            "qwen2.attention.layer_norm_rms_epsilon",
            6,
            &1e-6_f32.to_le_bytes(),
        );
    // Q8_0: each block a scale of 1/64 and codes that count.
    let blocks = |numbers: u64| -> Vec<u8> {
        let block = |index: u64| {
            let scale = half::f16::from_f32(1.0 / 64.0).to_le_bytes();
            scale
                .into_iter()
                .chain((0..32).map(move |at| (index * 7 + at * 5) as u8))
        };
        (0..numbers / 32).flat_map(block).collect()
    };
    let mut matrix = |name: &str, columns: u64, rows: u64| {
        made.tensor(name, &[columns, rows], 8, &blocks(columns * rows));
    };
    matrix("token_embd.weight", hidden, 8);
    for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
        matrix(&format!("blk.0.{name}.weight"), hidden, hidden);
    }
    for name in ["ffn_gate", "ffn_up"] {
        matrix(&format!("blk.0.{name}.weight"), hidden, inner);
    }
    matrix("blk.0.ffn_down.weight", inner, hidden);
    for name in [
        "blk.0.attn_norm.weight",
        "blk.0.ffn_norm.weight",
        "output_norm.weight",
    ] {
        made.tensor(name, &[hidden], 0, &[0; 128]);
    }
    for name in ["attn_q", "attn_k", "attn_v"] {
        made.tensor(&format!("blk.0.{name}.bias"), &[hidden], 0, &[0; 128]);
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("x.gguf"), folder.path().join("made"));
    fs::write(&path, made.bytes()).unwrap();
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let settings = QuantizeSettings {
        base: PackingConfig::new(PackingMode::Affine, None, None).unwrap(),
        recipe: Recipe::Default,
        embed: None,
        head: None,
        expert: None,
        overrides: Vec::new(),
        dtype: None,
        searched: BTreeMap::new(),
        keep_codes: true,
    };
    let plan = quantize::plan(&Checkpoint::open_gguf(&path).unwrap(), &settings).unwrap();
    assert_eq!(plan.base.to_string(), "affine8g32");
    let options = WriteOptions {
        target: target.clone(),
        memory: None,
        force: false,
    };
    quantize::write(&plan, &options, &Silent).unwrap();
    let files = ModelFiles::Folder(target);
    let verified = quantize::verify(&files, &Silent).unwrap();
    assert_eq!((verified.packed, verified.problems), (8, Vec::new()));
    let stored = Weights::open(&files).unwrap().stored();
    let find = |name: &str| stored.iter().find(|tensor| tensor.name == name).unwrap();
    let down = find("model.layers.0.mlp.down_proj.weight");
    let codes = &down.bytes[down.range.clone()];
    let wanted = blocks(hidden * inner);
    for (found, block) in codes.chunks(32).zip(wanted.chunks(34)) {
        let block: Vec<u8> = block[2..].iter().map(|code| code ^ 0x80).collect();
        assert_eq!(found, block);
    }
    assert_eq!(find("model.layers.0.self_attn.q_proj.bias").shape, [32]);
}

proptest! {
    #[test]
    fn damage_is_an_error_or_another_file_and_never_a_panic(
        damage in prop::collection::vec((0_usize..1200, any::<u8>()), 1..6),
        cut in 0_usize..1400,
    ) {
        let mut bytes = llama().bytes();
        for (at, byte) in damage {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        bytes.truncate(cut.max(8));
        if let Ok(header) = Header::parse(&bytes) {
            for tensor in &header.tensors {
                prop_assert!(tensor.range.end <= bytes.len());
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, &bytes).unwrap();
        drop(Gguf::open(&path));
    }

    #[test]
    fn any_bytes_behind_the_magic_are_no_panic(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(rest);
        drop(Header::parse(&bytes));
    }
}
