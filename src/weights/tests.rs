//! Files that lie, are cut short or point outside.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::mlx::{DeviceChoice, open, to_vec};

/// A safetensors file with this header and so many zero bytes of data.
fn safetensors(header: &Value, data: usize) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn folder(entries: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, ModelFiles) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in entries {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let files = ModelFiles::Folder(folder.path().to_path_buf());
    (folder, files)
}

fn refusal(entries: &[(&str, Vec<u8>)]) -> String {
    let (_folder, files) = folder(entries);
    Weights::open(&files)
        .expect_err("it must be refused")
        .to_string()
}

fn two_floats(name: &str) -> Value {
    json!({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
}

#[test]
fn a_single_file_gives_its_tensors_once_their_shape_is_right() {
    open(DeviceChoice::Cpu, None).unwrap();
    let (_folder, files) = folder(&[(SINGLE, safetensors(&two_floats("a"), 8))]);
    let weights = Weights::open(&files).unwrap();
    assert_eq!(
        to_vec(&weights.take("a", &[2], &[Dtype::Float32]).unwrap()).unwrap(),
        [0.0, 0.0]
    );
    let error = weights
        .take("a", &[1, 2], &[Dtype::Float32])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tensor a has shape [2], and config.json makes it [1, 2]"),
        "{error}"
    );
    weights.finish(|_| false).unwrap();
}

#[test]
fn more_missing_than_there_is_ends_the_search() {
    open(DeviceChoice::Cpu, None).unwrap();
    let (_folder, files) = folder(&[(SINGLE, safetensors(&two_floats("a"), 8))]);
    let weights = Weights::open(&files).unwrap();
    let take = |name| weights.take(name, &[2], &[Dtype::Float32]).map(drop);
    take("x").unwrap();
    take("x").unwrap();
    let error = take("y").unwrap_err().to_string();
    assert!(error.contains("2 missing tensors (x, y)"), "{error}");
}

#[test]
fn missing_and_unexpected_names_are_both_listed() {
    open(DeviceChoice::Cpu, None).unwrap();
    let (_folder, files) = folder(&[(SINGLE, safetensors(&two_floats("extra"), 8))]);
    let weights = Weights::open(&files).unwrap();
    weights.take("wanted", &[2], &[Dtype::Float32]).unwrap();
    let error = weights.finish(|_| false).unwrap_err().to_string();
    assert!(
        error.contains("1 missing tensors (wanted), 1 unexpected tensors (extra)"),
        "{error}"
    );
    let only_missing = weights
        .finish(|name| name == "extra")
        .unwrap_err()
        .to_string();
    assert!(!only_missing.contains("unexpected"), "{only_missing}");
}

#[test]
fn damaged_files_are_refused_in_their_own_terms() {
    let whole = safetensors(&two_floats("a"), 8);
    let lies = |header: Value| safetensors(&header, 8);
    let tensor = |dtype: &str, shape: Value, from: i64, to: i64| json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": [from, to]}});
    for (bytes, word) in [
        (Vec::new(), "has 0 bytes"),
        (vec![1, 2, 3], "has 3 bytes"),
        (
            whole[..whole.len() - 1].to_vec(),
            "do not end where the file ends",
        ),
        (
            [&whole[..], &[0]].concat(),
            "do not end where the file ends",
        ),
        (whole[..20].to_vec(), "header claims"),
        (u64::MAX.to_le_bytes().to_vec(), "header claims"),
        (
            [&8u64.to_le_bytes()[..], b"not json"].concat(),
            "header is not valid",
        ),
        (lies(tensor("F32", json!([3]), 0, 8)), "header is not valid"),
        (
            lies(tensor("F32", json!([u64::MAX, 4]), 0, 8)),
            "header is not valid",
        ),
        (lies(tensor("F99", json!([2]), 0, 8)), "header is not valid"),
        (
            lies(tensor("F32", json!([2]), 4, 12)),
            "header is not valid",
        ),
        (lies(json!([1, 2])), "header is not valid"),
    ] {
        let message = refusal(&[(SINGLE, bytes)]);
        assert!(
            message.contains(SINGLE) && message.contains(word),
            "{word}: {message}"
        );
    }
}

#[test]
fn a_type_that_mlx_has_not_is_named() {
    let header = json!({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}});
    let (_folder, files) = folder(&[(SINGLE, safetensors(&header, 8))]);
    let error = Weights::open(&files)
        .unwrap()
        .take("a", &[8], &[Dtype::Float32])
        .unwrap_err()
        .to_string();
    assert!(error.contains("F8_E4M3"), "{error}");
}

#[test]
fn a_type_that_does_not_serve_is_named() {
    let (_folder, files) = folder(&[(SINGLE, safetensors(&two_floats("a"), 8))]);
    let weights = Weights::open(&files).unwrap();
    let error = weights.take("a", &[2], &[Dtype::Uint32]).unwrap_err();
    let wanted = "tensor a has type F32 where [Uint32] is needed";
    assert!(error.to_string().ends_with(wanted), "{error}");
}

#[test]
fn shards_are_read_through_the_index() {
    open(DeviceChoice::Cpu, None).unwrap();
    let index = json!({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}).to_string();
    let (_folder, files) = folder(&[
        (INDEX, index.into_bytes()),
        ("1.safetensors", safetensors(&two_floats("a"), 8)),
        ("2.safetensors", safetensors(&two_floats("b"), 8)),
    ]);
    let weights = Weights::open(&files).unwrap();
    weights.take("a", &[2], &[Dtype::Float32]).unwrap();
    weights.take("b", &[2], &[Dtype::Float32]).unwrap();
    weights.finish(|_| false).unwrap();
}

#[test]
fn an_index_that_lies_is_refused() {
    let index = |map: Value| (INDEX, json!({"weight_map": map}).to_string().into_bytes());
    let shard = |name| ("1.safetensors", safetensors(&two_floats(name), 8));
    for (entries, word) in [
        (vec![], "no model.safetensors.index.json"),
        (vec![(INDEX, b"{".to_vec())], "EOF"),
        (vec![(INDEX, b"{}".to_vec())], "`weight_map`"),
        (
            vec![index(json!({"a": "1.safetensors"}))],
            "names 1.safetensors, which is not there",
        ),
        (
            vec![index(json!({"a": "../1.safetensors"}))],
            "not the name of a safetensors file",
        ),
        (
            vec![index(json!({"a": "/etc/1.safetensors"}))],
            "not the name of a safetensors file",
        ),
        (
            vec![index(json!({"a": "config.json"}))],
            "not the name of a safetensors file",
        ),
        (vec![index(json!({"a": 7}))], "not a text"),
        (
            vec![index(json!({"a": "1.safetensors"})), shard("b")],
            "holds a, which it does not",
        ),
    ] {
        let message = refusal(&entries);
        assert!(message.contains(word), "{word}: {message}");
    }
    let twice = index(json!({"a": "1.safetensors", "b": "2.safetensors"}));
    let message = refusal(&[
        twice,
        shard("a"),
        ("2.safetensors", safetensors(&two_floats("a"), 8)),
    ]);
    assert!(message.contains("tensor a is also in"), "{message}");
}

#[test]
fn made_up_tensors_are_the_same_every_time_and_differ_by_name() {
    open(DeviceChoice::Cpu, None).unwrap();
    let weights = Weights::random(None);
    let take = |name| {
        let floats = [Dtype::Float32, Dtype::Bfloat16];
        to_vec(&weights.take(name, &[7, 5], &floats).unwrap()).unwrap()
    };
    assert!(weights.has("a.weight"));
    assert_eq!(take("a.weight"), take("a.weight"));
    assert_ne!(take("a.weight"), take("b.weight"));
    let norm = weights.take("norm.weight", &[3], &[Dtype::Bfloat16]);
    assert_eq!(to_vec(&norm.unwrap()).unwrap(), [1.0; 3]);
    assert_eq!(weights.bytes(), 2 * (2 * 7 * 5 + 3));
    assert_eq!(weights.taken_bytes(|name| name.starts_with("norm")), 2 * 3);
    weights.finish(|_| false).unwrap();
}
