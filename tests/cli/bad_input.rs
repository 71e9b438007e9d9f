//! Configurations, tokenizers, prompts and machines that are not as they should be.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::made::{Made, VOCABULARY, refused, refused_config, refused_file, run};
use crate::support::{Sealed, ended};

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
    for name in ["LlamaForCausalLM", "Qwen3NextForCausalLM"] {
        assert!(ended.stderr.contains(name), "{ended:?}");
    }
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
    refused_config("head_dim", json!(15), 7, "heads are 15 wide");
    let llama = |made: &mut Made| {
        made.config["architectures"] = json!(["LlamaForCausalLM"]);
        made.config["head_dim"] = Value::Null;
        made.config["num_attention_heads"] = json!(40);
        made.config["num_key_value_heads"] = json!(40);
    };
    refused(llama, 7, "heads are 0 wide");
    refused_config("num_key_value_heads", json!(3), 7, "does not divide");
    refused_config("hidden_act", json!("relu"), 7, "`hidden_act` is \"relu\"");
    refused_config("rope_theta", json!(0), 7, "`rope_theta` is 0");
    refused_config("rope_theta", json!(1e39), 7, "`rope_theta` is 1e+39");
    refused_config("rope_scaling", json!({"type": "dynamic"}), 7, "`dynamic`");
    refused_config(
        "rope_scaling",
        json!({"type": "yarn"}),
        7,
        "scaling.factor` is missing",
    );
}

#[test]
fn sizes_that_the_tensors_have_not_are_refused() {
    let shape = "has shape [257, 32], and config.json makes it";
    refused_config("hidden_size", json!(2_000_000_000), 7, shape);
    refused_config("vocab_size", json!(VOCABULARY + 1), 7, shape);
    refused_config("vocab_size", json!(VOCABULARY - 1), 7, shape);
    refused_config("head_dim", json!(8), 7, "self_attn.q_norm.weight has shape");
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
    // The library panics on these two.
    tokenizer(
        |it| it["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "tokenizer.json: ",
    );
    let endless = |made: &mut Made| {
        made.tokenizer["pre_tokenizer"] = json!({
            "type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": false,
        });
    };
    let prompt = format!("{}b", "a".repeat(40));
    run(endless, &[&prompt]).refused(7, "retry-limit-in-match over");
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
    run(|_| (), &["--template-arg", "messages=1", "a"]).refused(2, "`messages` is filled by");
    let none = |made: &mut Made| made.tokenizer_config = json!({});
    refused(none, 7, "chat template: the model has none");
    let damage = |made: &mut Made| {
        let bytes = Some(b"ab\xff".into());
        made.files.insert("chat_template.jinja", bytes);
    };
    let sentence = "chat_template.jinja is not valid UTF-8 at byte 2";
    refused(damage, 7, sentence);
    assert_eq!(run(damage, &["-q", "--raw", "a"]).code, Some(3));
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
        // Past the capture that hides what passing tests print.
        std::io::stderr()
            .write_all(b"skipped: this machine has a GPU\n")
            .unwrap();
        return;
    }
    run(|_| (), &["--device", "gpu", "a"]).refused(6, "no GPU: ");
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
