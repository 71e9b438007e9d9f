//! Checkpoints that are damaged, lie, or do not fit their configuration.

use serde_json::{Value, json};

use crate::made::{Made, refused, refused_config, refused_file, run, safetensors, with_header};

#[test]
fn tensors_that_do_not_fit_are_named() {
    refused(
        |made| made.tensors.clear(),
        7,
        "missing tensors (model.embed_tokens.weight",
    );
    refused(
        |made| made.add("model.extra", &[1]),
        7,
        "1 unexpected tensors (model.extra)",
    );
    refused(
        |made| made.add("lm\x1b[31m", &[1]),
        7,
        "1 unexpected tensors (lm [31m)",
    );
}

#[test]
fn damaged_safetensors_files_are_refused() {
    let file = "model.safetensors";
    let whole = Made::new().weights();
    let entry = |entry: &str| with_header(&format!("{{\"a\":{entry}}}"), &[0; 8]);
    refused_file(file, "", 7, "the file has 0 bytes");
    refused_file(file, "PK\x03\x04", 7, "the file has 4 bytes");
    refused_file(file, &whole[..100], 7, "cut short");
    refused_file(file, &whole[..whole.len() - 1], 7, "cut short");
    refused_file(
        file,
        [&whole[..], b"x"].concat(),
        7,
        "do not end where the file ends",
    );
    refused_file(
        file,
        u64::MAX.to_le_bytes(),
        7,
        "its header claims 18446744073709551615 bytes",
    );
    refused_file(file, with_header("null", &[]), 7, "its header is not valid");
    refused_file(
        file,
        with_header("{\"a\":", &[]),
        7,
        "its header is not valid",
    );
    let overflowing = r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}"#;
    refused_file(file, entry(overflowing), 7, "its header is not valid");
    let backwards = r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#;
    refused_file(file, entry(backwards), 7, "its header is not valid");
    let outside = r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#;
    refused_file(file, entry(outside), 7, "do not end where the file ends");
    let short = r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#;
    refused_file(file, entry(short), 7, "its header is not valid");
    let strange = r#"{"dtype":"F99","shape":[2],"data_offsets":[0,8]}"#;
    refused_file(file, entry(strange), 7, "its header is not valid");
}

#[test]
fn an_index_that_lies_is_refused() {
    let index = |map: Value, sentence: &str| {
        let damage = |made: &mut Made| {
            let index = json!({ "weight_map": map }).to_string().into_bytes();
            made.files.insert("model.safetensors", None);
            made.files
                .insert("model.safetensors.index.json", Some(index));
            made.files.insert("part.safetensors", Some(made.weights()));
        };
        refused(damage, 7, sentence);
    };
    index(
        json!({"a": "absent.safetensors"}),
        "it names absent.safetensors, which is not there",
    );
    for shard in [
        "../part.safetensors",
        "/part.safetensors",
        "a/part.safetensors",
        "config.json",
    ] {
        let sentence = format!("is `{shard}`, not the name of a safetensors file");
        index(json!({ "a": shard }), &sentence);
    }
    index(
        json!({"a": "part.safetensors"}),
        "holds a, which it does not",
    );
    index(json!({"a": 1}), "the shard of a is not a text");
    index(json!([]), "`weight_map` is missing or not an object");
    index(json!({}), "missing tensors");
}

#[test]
fn one_tensor_in_two_shards_is_refused() {
    let damage = |made: &mut Made| {
        let norm = safetensors(
            made.tensors
                .iter()
                .filter(|(name, _)| *name == "model.norm.weight"),
        );
        let map = json!({"model.norm.weight": "a.safetensors", "b": "b.safetensors"});
        let index = json!({ "weight_map": map }).to_string().into_bytes();
        made.files.insert("model.safetensors", None);
        made.files
            .insert("model.safetensors.index.json", Some(index));
        made.files.insert("a.safetensors", Some(norm));
        made.files.insert("b.safetensors", Some(made.weights()));
    };
    refused(
        damage,
        7,
        "tensor model.norm.weight is also in a.safetensors",
    );
}

#[test]
fn weights_that_are_no_numbers_end_with_an_error() {
    let fill = |number: f32| {
        move |made: &mut Made| {
            for (_, numbers) in made.tensors.values_mut() {
                numbers.fill(number);
            }
        }
    };
    let sentence = "the model produced logits that are not finite numbers";
    refused(fill(f32::NAN), 7, sentence);
    refused(fill(f32::INFINITY), 7, sentence);
    let ended = run(fill(f32::NAN), &["--json", "a"]);
    ended.refused(7, sentence);
}

/// A checkpoint's tensor with other bytes under another type.
fn retyped(dtype: &str, name: &str, shape: &[usize], bytes: usize) -> impl FnOnce(&mut Made) {
    let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [0, bytes]});
    let name = name.to_owned();
    move |made| {
        let mut tensors = made.tensors.clone();
        tensors.remove(&name);
        let rest = safetensors(tensors.iter());
        let (length, rest) = rest.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (header, data) = rest.split_at(length);
        let mut header: Value = serde_json::from_slice(header).unwrap();
        for tensor in header.as_object_mut().unwrap().values_mut() {
            for offset in tensor["data_offsets"].as_array_mut().unwrap() {
                *offset = json!(offset.as_u64().unwrap() + bytes as u64);
            }
        }
        header[name] = entry;
        let file = with_header(&header.to_string(), &[&vec![1; bytes], data].concat());
        made.files.insert("model.safetensors", Some(file));
    }
}

#[test]
fn tensors_of_other_types_are_refused() {
    let norm = "model.norm.weight";
    refused(
        retyped("F64", norm, &[32], 256),
        7,
        "tensor model.norm.weight has type F64 where",
    );
    refused(
        retyped("I32", norm, &[32], 128),
        7,
        "tensor model.norm.weight has type I32",
    );
    refused(
        retyped("BOOL", norm, &[32], 32),
        7,
        "tensor model.norm.weight has type BOOL",
    );
    let embedding = "model.embed_tokens.weight";
    refused(
        retyped("U32", embedding, &[257, 32], 257 * 32 * 4),
        7,
        "has type U32",
    );
}

#[test]
fn quantization_that_lies_is_refused() {
    let packing = |quantization: Value, sentence: &str| {
        refused_config("quantization", quantization, 7, sentence);
    };
    packing(json!(4), "`quantization` is not an object");
    packing(
        json!({}),
        "`quantization.group_size` is missing or not a size",
    );
    packing(
        json!({"group_size": 64, "bits": 7}),
        "affine has no 7 bits in groups of 64",
    );
    packing(
        json!({"group_size": 1e9, "bits": 4}),
        "`quantization.group_size`",
    );
    packing(
        json!({"group_size": 64, "bits": 4, "mode": "q4_k"}),
        "mode `q4_k` is not supported",
    );
    refused_config(
        "quantization_config",
        json!({"quant_method": "awq"}),
        7,
        "\"awq\" is not supported",
    );

    // Tensors that are not packed as the field says.
    let scaled = |quantization: Value, shape: &'static [usize]| {
        move |made: &mut Made| {
            made.config["quantization"] = quantization;
            made.add("model.layers.0.mlp.up_proj.scales", shape);
            made.add("model.layers.0.mlp.up_proj.biases", shape);
        }
    };
    let four = json!({"group_size": 32, "bits": 4});
    refused(
        scaled(four.clone(), &[32, 1]),
        7,
        "up_proj.weight has shape [32, 32], and config.json makes it [32, 4]",
    );
    refused(
        scaled(four.clone(), &[32, 2]),
        7,
        "up_proj.biases has shape [32, 2]",
    );
    refused(
        scaled(json!({"group_size": 64, "bits": 4}), &[32, 1]),
        7,
        "32 inputs cannot be packed",
    );
    refused(scaled(Value::Null, &[32, 1]), 7, "2 unexpected tensors");
    let floats = |made: &mut Made| {
        scaled(four, &[32, 1])(made);
        made.add("model.layers.0.mlp.up_proj.weight", &[32, 4]);
    };
    refused(floats, 7, "up_proj.weight has type F32");
    let mode = |made: &mut Made| {
        made.config["quantization"] = json!({"group_size": 32, "bits": 4, "mode": "mxfp4"});
        made.add("model.layers.0.mlp.up_proj.scales", &[32, 1]);
        retyped("U32", "model.layers.0.mlp.up_proj.weight", &[32, 4], 512)(made);
    };
    refused(mode, 7, "up_proj.scales has type F32");
}
