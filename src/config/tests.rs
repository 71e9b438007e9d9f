//! Both forms of the fields, and what is refused.

use serde_json::json;

use super::*;

fn config(value: &Value) -> Config {
    Config::parse(PathBuf::from("config.json"), value.to_string().as_bytes()).unwrap()
}

fn llama3() -> RopeConfig {
    RopeConfig {
        theta: 500_000.0,
        partial: 1.0,
        scaling: RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 8192.0,
        },
    }
}

#[test]
fn both_forms_of_rope_are_read() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = json!(500_000.0);
    let old = config(&json!({"rope_theta": 500_000.0, "rope_scaling": scaling}));
    assert_eq!(old.rope(1e4).unwrap(), llama3());
    let new = config(&json!({"rope_parameters": parameters}));
    assert_eq!(new.rope(1e4).unwrap(), llama3());
    let none = config(&json!({"rope_scaling": null}));
    assert_eq!(
        none.rope(1e4).unwrap(),
        RopeConfig {
            theta: 1e4,
            partial: 1.0,
            scaling: RopeScaling::None
        }
    );
}

#[test]
fn fields_inside_text_config_go_first() {
    let config =
        config(&json!({"hidden_size": 1, "vocab_size": 9, "text_config": {"hidden_size": 2}}));
    assert_eq!(config.size("hidden_size").unwrap(), 2);
    assert_eq!(config.size("vocab_size").unwrap(), 9);
}

#[test]
fn what_means_nothing_is_refused_by_name() {
    let message = |result: Result<usize>| result.unwrap_err().to_string();
    let config = config(
        &json!({"a": 0, "b": -1, "c": 1e99, "d": "x", "e": 4_000_000_000u64,
        "rope_scaling": {"type": "longrope"}, "hidden_act": "relu"}),
    );
    for field in ["a", "b", "c", "d", "e", "absent"] {
        let message = message(config.size(field));
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
    let rope = config.rope(1e4).unwrap_err().to_string();
    assert!(
        rope.contains("`rope_scaling.rope_type` is `longrope`"),
        "{rope}"
    );
    let activation = config
        .expect_one_of("hidden_act", &["silu"])
        .unwrap_err()
        .to_string();
    assert!(
        activation.contains("relu") && activation.contains("silu"),
        "{activation}"
    );
    assert!(config.architecture().is_err());
}

#[test]
fn widths_and_epsilons_that_cannot_be_are_refused() {
    for width in [1, 7, 2_000_000_000] {
        let error = config(&json!({"head_dim": width}))
            .head_width(64)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("{width} wide")), "{error}");
    }
    assert_eq!(config(&json!({})).head_width(64).unwrap(), 64);
    let config = config(&json!({"rms_norm_eps": -1e-5}));
    let error = config
        .epsilon("rms_norm_eps", 1e-6)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`rms_norm_eps`") && error.contains("negative"),
        "{error}"
    );
}

#[test]
fn quantization_has_a_default_and_overrides() {
    let config = config(&json!({"quantization": {"group_size": 64, "bits": 4,
        "model.embed_tokens": {"group_size": 32, "bits": 8}, "lm_head": false}}));
    let quantization = config.quantization().unwrap().unwrap();
    let packing = |group_size, bits| PackingConfig {
        mode: PackingMode::Affine,
        group_size,
        bits,
    };
    assert_eq!(
        quantization.of("model.layers.0.mlp.up_proj"),
        Some(&packing(64, 4))
    );
    assert_eq!(quantization.of("model.embed_tokens"), Some(&packing(32, 8)));
    assert_eq!(quantization.of("lm_head"), None);
}

#[test]
fn quantization_that_mlx_has_not_is_refused() {
    for (value, word) in [
        (
            json!({"quantization": {"group_size": 64, "bits": 7}}),
            "7 bits",
        ),
        (
            json!({"quantization": {"group_size": 64, "bits": 4, "mode": "mxfp4"}}),
            "mxfp4",
        ),
        (
            json!({"quantization": {"group_size": 64, "bits": 4, "mode": "q4_k"}}),
            "q4_k",
        ),
        (json!({"quantization": {"bits": 4}}), "group_size"),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "gptq",
        ),
    ] {
        let message = config(&value).quantization().unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn the_makers_sampling_goes_over_the_default() {
    let files = |text: &'static str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("generation_config.json"), text).unwrap();
        (ModelFiles::Folder(folder.path().to_path_buf()), folder)
    };
    let (model, _folder) =
        files(r#"{"temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": null}"#);
    let sampling = default_sampling(&model).unwrap();
    assert_eq!(
        (sampling.temperature, sampling.top_k, sampling.top_p),
        (0.6, 20, 0.95)
    );
    assert!((sampling.repeat_penalty - 1.0).abs() < f32::EPSILON);
    let (model, _folder) = files(r#"{"do_sample": false, "temperature": 0.6}"#);
    assert!(default_sampling(&model).unwrap().temperature < f32::MIN_POSITIVE);
    let (model, _folder) = files(r#"{"top_k": -1}"#);
    assert_eq!(default_sampling(&model).unwrap().top_k, 0);
    for (text, problem) in [
        (r#"{"top_p": 7}"#, "top_p: 7"),
        (r#"{"top_k": "50"}"#, "`top_k` is \"50\", not a size"),
        (r#"{"top_k": -2}"#, "`top_k` is -2, not a size"),
    ] {
        let (model, _folder) = files(text);
        let error = default_sampling(&model).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
