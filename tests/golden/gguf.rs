//! GGUF files of golden checkpoints: what is made of them computes the same, and codes that stay as they are what they
//! stand for. `tests/golden` has no file of llama.cpp's own; the names and the order of rows are those of its converter.

use std::fs;
use std::path::Path;

use mlxr::files::ModelFiles;
use mlxr::models::Precision;
use mlxr::progress::Silent;
use mlxr::quantize::{Checkpoint, DType, WriteOptions, plan, write};
use mlxr::weights::Weights;
use serde_json::Value;

use super::packed::{keep_all, settings, whole};
use super::{Golden, REORDERED, TOLERANCE, distance, for_each, load, say};

/// Golden checkpoints that GGUF has an architecture for here.
const KNOWN: [(&str, &str); 6] = [
    ("gemma3", "gemma3"),
    ("llama", "llama"),
    ("llama31", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("qwen3_moe", "qwen3moe"),
];

const NAMES: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
];

/// A tensor as transformers has it.
struct Dense {
    name: String,
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

#[test]
fn a_gguf_file_computes_what_its_checkpoint_does() {
    for_each(|golden| {
        let Some((_, architecture)) = KNOWN.iter().find(|(name, _)| *name == golden.name) else {
            return;
        };
        let tensors = dense(&golden.folder);
        let folder = tempfile::tempdir().unwrap();
        let made = from_gguf(golden, architecture, &tensors, false, folder.path());
        for (ids, wanted) in golden.input_ids.iter().zip(&golden.logits) {
            let off = distance(&whole(&made, ids), wanted);
            say(&format!("{} by GGUF: logits within {off:.1e}", golden.name));
            assert!(off <= TOLERANCE, "{}: {off}", golden.name);
        }
    });
}

#[test]
fn codes_of_a_gguf_file_stay_as_they_are() {
    for_each(|golden| {
        let Some((_, architecture)) = KNOWN.iter().find(|(name, _)| *name == golden.name) else {
            return;
        };
        let mut tensors = dense(&golden.folder);
        let folder = tempfile::tempdir().unwrap();
        let kept = from_gguf(
            golden,
            architecture,
            &tensors,
            true,
            &folder.path().join("a"),
        );
        for tensor in tensors.iter_mut().filter(|tensor| is_packed(tensor)) {
            for block in tensor.numbers.chunks_mut(32) {
                let (scale, codes) = eight(block);
                for (number, code) in block.iter_mut().zip(codes) {
                    *number = scale.to_f32() * f32::from(code);
                }
            }
        }
        let plain = from_gguf(
            golden,
            architecture,
            &tensors,
            false,
            &folder.path().join("b"),
        );
        for ids in &golden.input_ids {
            let off = distance(&whole(&kept, ids), &whole(&plain, ids));
            say(&format!("{} by Q8_0: logits within {off:.1e}", golden.name));
            assert!(off <= REORDERED, "{}: {off}", golden.name);
        }
    });
}

/// A model of the checkpoint that is made of a GGUF file: matrices as `Q8_0`, which is kept, or in float32.
fn from_gguf(
    golden: &Golden,
    architecture: &str,
    tensors: &[Dense],
    packed: bool,
    folder: &Path,
) -> mlxr::models::LoadedModel {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join("model.gguf");
    fs::write(&path, file(&golden.folder, architecture, tensors, packed)).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let mut settings = settings(4, if packed { Vec::new() } else { vec![keep_all()] });
    settings.keep_codes = packed;
    let plan = plan(&Checkpoint::open_gguf(&path).unwrap(), &settings).unwrap();
    let options = WriteOptions {
        target: folder.join("made"),
        memory: Some(1 << 20),
        force: false,
    };
    write(&plan, &options, &Silent).unwrap();
    load(&options.target, Precision::Float32).unwrap()
}

/// The tensors of a checkpoint, experts stacked.
fn dense(folder: &Path) -> Vec<Dense> {
    let stored = Weights::open(&ModelFiles::Folder(folder.to_path_buf()))
        .unwrap()
        .stored();
    let mut found: Vec<Dense> = Vec::new();
    for tensor in stored {
        let DType(number) = DType::of(&tensor.dtype).unwrap();
        let mut dense = Dense {
            numbers: number.floats(&tensor.bytes[tensor.range.clone()]),
            name: tensor.name,
            shape: tensor.shape,
        };
        if let Some((layer, end)) = dense.name.split_once(".experts.") {
            // Of fewer than ten the names are in order.
            let (expert, side) = end.split_once('.').unwrap();
            assert!(expert.len() == 1, "{}", dense.name);
            let side = side.strip_suffix("_proj.weight").unwrap();
            let name = format!("{layer}.ffn_{side}_exps.weight");
            if let Some(stack) = found.iter_mut().find(|other| other.name == name) {
                stack.shape[0] += 1;
                stack.numbers.extend(dense.numbers);
                continue;
            }
            dense.shape.insert(0, 1);
            dense.name = name;
        }
        found.push(dense);
    }
    found
}

/// Matrices, but what chooses experts.
fn is_packed(tensor: &Dense) -> bool {
    tensor.shape.len() >= 2 && !tensor.name.ends_with("mlp.gate.weight")
}

/// The scale and the codes of a block of `Q8_0`.
fn eight(block: &[f32]) -> (half::f16, Vec<i8>) {
    let most = block
        .iter()
        .fold(0_f32, |most, number| most.max(number.abs()));
    let scale = half::f16::from_f32(most / 127.0);
    let code = |number: &f32| (number / scale.to_f32()).round().clamp(-127.0, 127.0) as i8;
    (scale, block.iter().map(code).collect())
}

fn name_of(architecture: &str, name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let rest = name.strip_prefix("model.layers.").unwrap();
    let (layer, rest) = rest.split_once('.').unwrap();
    let (own, end) = rest.rsplit_once('.').unwrap();
    let gemma = architecture == "gemma3";
    let known = match own {
        "post_attention_layernorm" if gemma => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        own => match NAMES.iter().find(|(name, _)| *name == own) {
            Some((_, known)) => known,
            None => own.strip_prefix("mlp.").unwrap(),
        },
    };
    format!("blk.{layer}.{known}.{end}")
}

/// A text as GGUF has it.
fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u64).to_le_bytes();
    [&length, text.as_bytes()].concat()
}

/// All bytes of a GGUF file.
fn file(folder: &Path, architecture: &str, tensors: &[Dense], packed: bool) -> Vec<u8> {
    let config: Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let size = |field: &str| config[field].as_u64().unwrap();
    let heads = size("num_attention_heads");
    let width = config["head_dim"]
        .as_u64()
        .unwrap_or_else(|| size("hidden_size") / heads);
    let rope = &config["rope_parameters"];
    let theta = rope["rope_theta"]
        .as_f64()
        .or_else(|| rope["full_attention"]["rope_theta"].as_f64())
        .unwrap();
    let (mut metadata, mut count) = (Vec::new(), 0_u64);
    let mut put = |name: &str, kind: u32, bytes: &[u8]| {
        metadata.extend(text(name));
        metadata.extend(kind.to_le_bytes());
        metadata.extend(bytes);
        count += 1;
    };
    put("general.architecture", 8, &text(architecture));
    for (name, value) in [
        ("embedding_length", size("hidden_size")),
        ("block_count", size("num_hidden_layers")),
        ("feed_forward_length", size("intermediate_size")),
        ("context_length", size("max_position_embeddings")),
        ("attention.head_count", heads),
        ("attention.head_count_kv", size("num_key_value_heads")),
        ("attention.key_length", width),
    ] {
        put(&format!("{architecture}.{name}"), 10, &value.to_le_bytes());
    }
    for (name, field) in [
        ("expert_count", "num_local_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("attention.sliding_window", "sliding_window"),
    ] {
        if let Some(value) = config[field].as_u64() {
            put(&format!("{architecture}.{name}"), 10, &value.to_le_bytes());
        }
    }
    if let Some(layers) = config["layer_types"]
        .as_array()
        .filter(|_| architecture == "gemma3")
    {
        let mut bytes = 7_u32.to_le_bytes().to_vec();
        bytes.extend((layers.len() as u64).to_le_bytes());
        bytes.extend(
            layers
                .iter()
                .map(|layer| u8::from(*layer == "sliding_attention")),
        );
        put("gemma3.attention.sliding_window_pattern", 9, &bytes);
    }
    let epsilon = config["rms_norm_eps"].as_f64().unwrap() as f32;
    let name = format!("{architecture}.attention.layer_norm_rms_epsilon");
    put(&name, 6, &epsilon.to_le_bytes());
    let name = format!("{architecture}.rope.freq_base");
    put(&name, 6, &(theta as f32).to_le_bytes());

    let all = stored(
        architecture,
        tensors,
        packed,
        width as usize,
        &factors(rope, theta, width),
    );
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((all.len() as u64).to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(metadata);
    let mut data = Vec::new();
    for (name, shape, kind, bytes) in all {
        file.extend(text(&name));
        file.extend((shape.len() as u32).to_le_bytes());
        let sizes = shape.iter().rev();
        file.extend(sizes.flat_map(|size| (*size as u64).to_le_bytes()));
        file.extend(kind.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0_u8);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

/// What Llama 3's scaling multiplies periods by; nothing for others.
fn factors(rope: &Value, theta: f64, width: u64) -> Vec<u8> {
    if rope["rope_type"] != "llama3" {
        return Vec::new();
    }
    let number = |field: &str| rope[field].as_f64().unwrap();
    let factors = (0..width / 2).map(|pair| {
        let period = std::f64::consts::TAU * theta.powf(2.0 * pair as f64 / width as f64);
        let turns = number("original_max_position_embeddings") / period;
        let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
        let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - share) / number("factor") + share)) as f32
    });
    factors.flat_map(f32::to_le_bytes).collect()
}

/// The rows of each head, those of its two halves in turn.
fn interleaved(numbers: &[f32], columns: usize, width: usize) -> Vec<f32> {
    let rows = 0..numbers.len() / columns;
    let turned = rows.flat_map(|row| {
        let (head, at) = (row / width, row % width);
        let from = head * width + at % 2 * (width / 2) + at / 2;
        &numbers[from * columns..(from + 1) * columns]
    });
    turned.copied().collect()
}

/// Tensors as GGUF has them: name, shape, number of the type and bytes.
type Stored = (String, Vec<usize>, u32, Vec<u8>);

fn stored(
    architecture: &str,
    tensors: &[Dense],
    packed: bool,
    width: usize,
    factors: &[u8],
) -> Vec<Stored> {
    let mut all: Vec<Stored> = Vec::new();
    if !factors.is_empty() {
        let name = "rope_freqs.weight".to_owned();
        all.push((name, vec![width / 2], 0, factors.to_vec()));
    }
    for tensor in tensors {
        let name = name_of(architecture, &tensor.name);
        let mut numbers = tensor.numbers.clone();
        if architecture == "gemma3" && name.ends_with("norm.weight") {
            for number in &mut numbers {
                *number += 1.0;
            }
        }
        let turns = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
        if architecture == "llama" && turns {
            numbers = interleaved(&numbers, tensor.shape[1], width);
        }
        if packed && is_packed(tensor) {
            let mut bytes = Vec::new();
            for block in numbers.chunks(32) {
                let (scale, codes) = eight(block);
                bytes.extend(scale.to_le_bytes());
                bytes.extend(codes.iter().map(|code| code.cast_unsigned()));
            }
            all.push((name, tensor.shape.clone(), 8, bytes));
        } else {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            all.push((name, tensor.shape.clone(), 0, bytes.collect()));
        }
    }
    all
}
