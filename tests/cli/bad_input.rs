//! Models, prompts and machines that are not as they should be: one sentence, a hint, an exit code.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::made::{Made, VOCABULARY, safetensors, with_header};
use crate::support::{Ended, Sealed, ended};

/// Runs with the model that `damage` leaves.
fn run(damage: impl FnOnce(&mut Made), arguments: &[&str]) -> Ended {
    let home = Sealed::new();
    let mut made = Made::new();
    damage(&mut made);
    made.write(&home.path("made"));
    let arguments = [&["run", "-m", "./made", "-t", "0", "-n", "3"], arguments].concat();
    ended(&mut home.command(&arguments))
}

/// Asserts that a run with the model that `damage` leaves is refused, in a second at most of work.
#[track_caller]
fn refused(damage: impl FnOnce(&mut Made), code: i32, sentence: &str) {
    run(damage, &["a"]).refused(code, sentence);
}

/// As [`refused`], after setting one field of `config.json`.
#[track_caller]
fn refused_config(field: &str, value: Value, code: i32, sentence: &str) {
    refused(|made| made.config[field] = value, code, sentence);
}

/// As [`refused`], after giving one file another content.
#[track_caller]
fn refused_file(file: &'static str, content: impl Into<Vec<u8>>, code: i32, sentence: &str) {
    let content = content.into();
    let damage = |made: &mut Made| drop(made.files.insert(file, Some(content)));
    refused(damage, code, sentence);
}

#[test]
fn the_model_is_sound_until_it_is_damaged() {
    let ended = run(|_| (), &["-q", "a"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), ""));
}

#[test]
fn files_that_are_missing_are_named() {
    let without = |file: &'static str, sentence: &str| {
        refused(|made| drop(made.files.insert(file, None)), 6, sentence);
    };
    without("config.json", "./made has no config.json");
    without("tokenizer.json", "./made has no tokenizer.json");
    without("model.safetensors", "./made has no model.safetensors");
    let home = Sealed::new();
    Made::new().write(&home.path("made"));
    let mut command = home.command(&["run", "-m", "made/config.json", "a"]);
    ended(&mut command).refused(6, "it is a file, and a model is a folder");
}

#[test]
fn a_broken_config_is_refused() {
    refused_file("config.json", "", 7, "config.json: not a JSON object");
    refused_file("config.json", "[]", 7, "config.json: not a JSON object");
    refused_file("config.json", b"\xff{}", 7, "config.json: ");
    refused_file("config.json", "{}", 7, "`architectures` names no");
    refused_file(
        "config.json",
        "{\"a\":".repeat(100_000),
        7,
        "recursion limit",
    );
    refused_file("generation_config.json", "1", 7, "generation_config.json");
    refused_file("generation_config.json", "{\"top_p\": 7}", 7, "top_p: 7");
}

#[test]
fn an_unknown_architecture_lists_what_is_known() {
    let ended = run(
        |made| made.config["architectures"] = json!(["Mamba"]),
        &["a"],
    );
    ended.refused(7, "unknown architecture `Mamba`");
    assert!(
        ended.stderr.contains("LlamaForCausalLM, Qwen3ForCausalLM"),
        "{ended:?}"
    );
}

#[test]
fn sizes_that_are_no_sizes_are_refused() {
    for value in [
        json!(0),
        json!(-1),
        json!(4e9),
        json!(4_000_000_000_u64),
        json!("32"),
    ] {
        let sentence = format!("`hidden_size` is {value}, not a size");
        refused_config("hidden_size", value, 7, &sentence);
    }
    refused_config("hidden_size", Value::Null, 7, "`hidden_size` is missing");
    refused_config("num_key_value_heads", json!(3), 7, "does not divide");
    refused_config("hidden_act", json!("relu"), 7, "`hidden_act` is \"relu\"");
    refused_config("rope_theta", json!(0), 7, "`rope_theta` is 0");
    refused_config("rope_theta", json!(1e39), 7, "`rope_theta` is 1e+39");
    refused_config("rope_scaling", json!({"type": "yarn"}), 7, "`yarn`");
}

#[test]
fn sizes_that_the_tensors_have_not_are_refused() {
    let shape = "has shape [257, 32], and config.json makes it";
    refused_config("hidden_size", json!(2_000_000_000), 7, shape);
    refused_config("vocab_size", json!(VOCABULARY + 1), 7, shape);
    refused_config("vocab_size", json!(VOCABULARY - 1), 7, shape);
    refused_config("head_dim", json!(8), 7, "self_attn.q_proj.weight has shape");
    refused_config("num_attention_heads", json!(2_000_000_000), 7, "q_proj");
    refused_config(
        "tie_word_embeddings",
        json!(false),
        7,
        "1 missing tensors (lm_head.weight)",
    );
    refused_config("num_hidden_layers", json!(1), 7, "11 unexpected tensors");
    refused_config("num_hidden_layers", json!(3), 7, "11 missing tensors");
    refused_config(
        "num_hidden_layers",
        json!(1_000_000_000),
        7,
        "missing tensors",
    );
}

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
        "asks for 7 bits in groups of 64",
    );
    packing(
        json!({"group_size": 1e9, "bits": 4}),
        "`quantization.group_size`",
    );
    packing(
        json!({"group_size": 64, "bits": 4, "mode": "q4_k"}),
        "`q4_k`, which is not supported",
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

#[test]
fn tokenizers_that_cannot_be_used_are_refused() {
    let tokenizer = |damage: fn(&mut Value), sentence: &str| {
        refused(|made| damage(&mut made.tokenizer), 7, sentence);
    };
    tokenizer(
        |it| *it = json!({}),
        "there is no vocabulary at `model.vocab`",
    );
    tokenizer(
        |it| it["model"]["vocab"] = Value::Null,
        "there is no vocabulary at `model.vocab`",
    );
    tokenizer(
        |it| it["model"]["vocab"] = json!({}),
        "the vocabulary is empty",
    );
    tokenizer(
        |it| it["model"]["merges"] = json!([["x", "yz"]]),
        "tokenizer.json: ",
    );
    tokenizer(
        |it| it["model"]["vocab"]["a"] = json!(-1),
        "tokenizer.json: ",
    );
    refused_file("tokenizer.json", "{", 7, "tokenizer.json: not valid JSON");
    refused_file("tokenizer.json", "", 7, "tokenizer.json: not valid JSON");
    refused_file(
        "tokenizer_config.json",
        "[]",
        7,
        "tokenizer_config.json: not a JSON object",
    );
    refused_config("eos_token_id", json!("end"), 7, "`eos_token_id` is neither");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let damage = |made: &mut Made| {
        let vocabulary = made.tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.insert("a".to_owned(), json!(5000));
    };
    refused(damage, 7, "token 5000 is not among the model's 257");
}

#[test]
fn templates_that_fail_say_why_and_raw_does_without() {
    let check = |template: &str, sentence: &str| {
        let damage = |made: &mut Made| made.tokenizer_config["chat_template"] = json!(template);
        run(damage, &["a"]).refused(7, sentence);
        assert_eq!(run(damage, &["-q", "--raw", "a"]).code, Some(3));
    };
    check(
        "{{ raise_exception('Roles must\n\x1b[2Jalternate') }}",
        "chat template: Roles must  [2Jalternate",
    );
    check("{% for %}", "chat template: ");
    check("{{ messages[0].absent.deeper }}", "chat template: ");
    check(
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
        "chat template: it takes too many steps or too much memory",
    );
    check(
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "chat template: ",
    );
    check("{{ 'a' * 10000000000 }}", "chat template: ");
    check("{{ 'a'.ljust(10000000000) }}", "chat template: ");
    check("{{ 'a' | indent(10000000000) }}", "chat template: ");
    check("{{ '%10000000000d' | format(1) }}", "chat template: ");
    let none = |made: &mut Made| made.tokenizer_config = json!({});
    refused(none, 7, "chat template: the model has none");
    let damage = |made: &mut Made| {
        drop(
            made.files
                .insert("chat_template.jinja", Some(b"ab\xff".into())),
        )
    };
    refused(
        damage,
        2,
        "chat_template.jinja is not valid UTF-8 at byte 2",
    );
}

#[test]
fn a_prompt_that_is_too_long_is_counted() {
    let prompt = "a".repeat(64);
    let sentence = "the prompt has 64 tokens and the context holds 64";
    run(|_| (), &[&prompt]).refused(4, sentence);
    run(|_| (), &["--json", &prompt]).refused(4, sentence);
    run(|_| (), &["--ctx", "9", "a".repeat(9).as_str()])
        .refused(4, "has 9 tokens and the context holds 9");
    run(|_| (), &["--ctx", "65", "a"]).refused(2, "65 tokens are more than the model's 64");
    assert_eq!(run(|_| (), &["-q", &prompt[1..]]).code, Some(3));
}

#[cfg(target_os = "linux")]
#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        println!("skipped: this machine has a GPU");
        return;
    }
    run(|_| (), &["--device", "gpu", "a"]).refused(6, "no GPU device: ");
}

#[test]
fn a_library_that_is_not_there_is_told_with_what_was_tried() {
    let check = |library: &str, why: &str| {
        let home = Sealed::new();
        Made::new().write(&home.path("made"));
        std::fs::write(home.path("made/libmlxc.so"), "not a library").unwrap();
        std::fs::write(home.path("made/libmlxc.dylib"), "not a library").unwrap();
        let mut command = home.command(&["run", "-m", "./made", "a"]);
        let ended = ended(command.env("MLXR_MLX_DIR", library));
        ended.refused(6, "could not load the MLX library");
        assert!(
            ended.stderr.contains(&format!("tried {library}")),
            "{ended:?}"
        );
        assert!(ended.stderr.contains(why), "{ended:?}");
        assert!(
            ended.stderr.contains("MLXR_MLX_DIR names another one"),
            "{ended:?}"
        );
    };
    check("/nowhere", "o such file");
    check("./made", "libmlxc.");
}

#[test]
fn what_does_not_compute_needs_no_library() {
    let home = Sealed::new();
    let with = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        ended(command.env("MLXR_MLX_DIR", "/nowhere").stdin(Stdio::null()))
    };
    assert!(with(&["--help"]).check(0, "").contains("Usage: mlxr"));
    assert!(with(&["run", "--help"]).check(0, "").contains("--device"));
    assert!(with(&["--version"]).check(0, "").starts_with("mlxr "));
    with(&["run", "--device", "tpu", "a"]).fails(2, "invalid value 'tpu'");
    with(&["run", "-t", "-1", "a"]).refused(2, "temperature: -1");
    with(&["run", ""]).refused(2, "the prompt is empty");
    with(&["run", "-m", "./absent", "a"]).refused(6, "no model `./absent`");
    with(&["run", "-m", "org/absent", "a"]).refused(6, "org/absent: offline");
}
