//! `mlxr quantize`: mixes, choices for roles, types, and what is measured of what was lost.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::made::Made;
use crate::support::{Sealed, ended};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn made(home: &Sealed) -> PathBuf {
    let folder = home.path("model");
    Made::new().write(&folder);
    folder
}

/// The same with four experts in each layer.
fn made_of_experts(home: &Sealed) -> PathBuf {
    let mut made = Made::new();
    made.config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
    for (field, value) in [
        ("num_experts", json!(4)),
        ("num_experts_per_tok", json!(2)),
        ("moe_intermediate_size", json!(32)),
        ("decoder_sparse_step", json!(1)),
        ("mlp_only_layers", json!([])),
        ("norm_topk_prob", json!(true)),
    ] {
        made.config[field] = value;
    }
    made.tensors.retain(|name, _| !name.contains(".mlp."));
    for layer in 0..2 {
        made.add(&format!("model.layers.{layer}.mlp.gate.weight"), &[4, 32]);
        for expert in 0..4 {
            for side in ["gate", "up", "down"] {
                let name = format!("model.layers.{layer}.mlp.experts.{expert}.{side}_proj.weight");
                made.add(&name, &[32, 32]);
            }
        }
    }
    let folder = home.path("experts");
    made.write(&folder);
    folder
}

/// Of a plan in JSON, how a tensor is stored, and why.
fn choices(
    home: &Sealed,
    source: &Path,
    more: &[&str],
) -> impl Fn(&str) -> (String, String) + use<> {
    let all = ["quantize", text(source), "--dry-run", "--explain", "--json"];
    let all = [&all[..], &["--group", "32"], more].concat();
    let plan = ended(&mut home.command(&all)).check(0, "");
    let plan: Value = serde_json::from_str(&plan).unwrap();
    move |name| {
        let tensors = plan["tensors"].as_array().unwrap().iter();
        let mut fitting = tensors.filter(|tensor| tensor["name"].as_str().unwrap().contains(name));
        let tensor = fitting.next().unwrap_or_else(|| panic!("{name}"));
        let field = |field: &str| tensor[field].as_str().unwrap().to_owned();
        (field("choice"), field("reason"))
    }
}

#[test]
fn every_recipe_does_what_its_name_says() {
    let home = Sealed::new();
    let source = made_of_experts(&home);
    let router = "layers.1.mlp.gate.";
    let value = "layers.1.self_attn.v_proj";
    let down = "layers.1.mlp.switch_mlp.down_proj";
    let up = "layers.1.mlp.switch_mlp.up_proj";
    for (recipe, wanted) in [
        (
            "default",
            [
                "f32",
                "affine4g32",
                "affine4g32",
                "affine4g32",
                "affine4g32",
            ],
        ),
        (
            "more-bits",
            [
                "f32",
                "affine6g32",
                "affine6g32",
                "affine4g32",
                "affine6g32",
            ],
        ),
        (
            "mlx-lm",
            [
                "f32",
                "affine4g32",
                "affine4g32",
                "affine4g32",
                "affine4g32",
            ],
        ),
        (
            "ollama",
            ["f32", "affine8g32", "affine8g32", "affine4g32", "f32"],
        ),
        (
            "mixed_2_6",
            [
                "affine2g32",
                "affine6g32",
                "affine6g32",
                "affine2g32",
                "affine2g32",
            ],
        ),
        (
            "mixed_3_4",
            [
                "affine3g32",
                "affine4g32",
                "affine4g32",
                "affine3g32",
                "affine3g32",
            ],
        ),
        (
            "mixed_3_6",
            [
                "affine3g32",
                "affine6g32",
                "affine6g32",
                "affine3g32",
                "affine3g32",
            ],
        ),
        (
            "mixed_4_6",
            [
                "affine4g32",
                "affine6g32",
                "affine6g32",
                "affine4g32",
                "affine4g32",
            ],
        ),
    ] {
        let choice = choices(&home, &source, &["--recipe", recipe]);
        let found = [router, value, down, up, "embed_tokens"].map(|name| choice(name).0);
        assert_eq!(found, wanted, "{recipe}");
    }
    let unknown = [
        "quantize",
        text(&source),
        "--dry-run",
        "--recipe",
        "mixed_9_9",
    ];
    let unknown = ended(&mut home.command(&unknown));
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("mixed_2_6"), "{unknown:?}");
}

#[test]
fn experts_get_what_is_said_of_them_and_the_rest_does_not() {
    let home = Sealed::new();
    let source = made_of_experts(&home);
    let choice = choices(&home, &source, &["--expert", "mxfp4"]);
    let expert = ("mxfp4".to_owned(), "--expert".to_owned());
    assert_eq!(choice("layers.0.mlp.switch_mlp.gate_proj"), expert);
    assert_eq!(choice("layers.1.self_attn.q_proj").0, "affine4g32");
    let plain = made(&home);
    for (flag, words) in [
        ("--expert", "no experts behind a router"),
        ("--head", "the embedding is the head"),
    ] {
        let arguments = [
            "quantize",
            text(&plain),
            "--dry-run",
            "--group",
            "32",
            flag,
            "8",
        ];
        ended(&mut home.command(&arguments)).refused(2, words);
    }
    let target = home.path("small");
    let all = [
        "quantize",
        text(&source),
        "-o",
        text(&target),
        "--group",
        "32",
    ];
    let all = [&all[..], &["--expert", "3", "-q"]].concat();
    assert_eq!(ended(&mut home.command(&all)).check(0, ""), "");
    let verified = ["quantize", "--verify", text(&target), "-q"];
    assert_eq!(ended(&mut home.command(&verified)).code, Some(0));
    let answer = [
        "run",
        "-m",
        text(&target),
        "--raw",
        "-n",
        "4",
        "-t",
        "0",
        "-q",
        "abc",
    ];
    let answer = ended(&mut home.command(&answer));
    assert!(matches!(answer.code, Some(0 | 3)), "{answer:?}");
}

#[test]
fn a_type_is_that_of_what_is_not_packed_and_of_scales() {
    let home = Sealed::new();
    let source = made(&home);
    for (flag, dtype) in [("bf16", "BF16"), ("f16", "F16"), ("f32", "F32")] {
        let target = home.path(flag);
        let all = [
            "quantize",
            text(&source),
            "-o",
            text(&target),
            "--group",
            "32",
        ];
        let all = [&all[..], &["--dtype", flag, "-q"]].concat();
        assert_eq!(ended(&mut home.command(&all)).check(0, ""), "");
        let file = fs::read(target.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
        for name in ["model.norm.weight", "model.layers.0.mlp.up_proj.scales"] {
            assert_eq!(header[name]["dtype"], dtype, "{name}");
        }
    }
}

#[test]
fn what_was_lost_is_measured_kept_and_held_against_a_bound() {
    let home = Sealed::new();
    let (source, target) = (made(&home), home.path("small"));
    let words = home.path("words.txt");
    fs::write(
        &words,
        "The quick brown fox jumps over the lazy dog. ".repeat(4),
    )
    .unwrap();
    let report = format!("--report={}", text(&words));
    let run = |more: &[&str]| {
        let all = [
            "quantize",
            text(&source),
            "-o",
            text(&target),
            "--json",
            "-q",
        ];
        ended(&mut home.command(&[&all[..], &["--group", "32"], more].concat()))
    };
    let found: Value = serde_json::from_str(&run(&[&report, "--bits", "2"]).check(0, "")).unwrap();
    let kept = fs::read(target.join("quant_report.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(found["report"], kept);
    let divergence = kept["kl_divergence"]["mean"].as_f64().unwrap();
    assert!(divergence > 0.0, "{kept}");
    // Stretches begin anew, and their first tokens are not foretold.
    assert_eq!(kept["tokens"], 180 - 3);
    assert_eq!(kept["tensors"].as_array().unwrap().len(), 15);
    let bound = |bound: f64| run(&[&report, "--bits", "2", "--max-kld", &bound.to_string()]);
    assert_eq!(bound(divergence * 1.01).code, Some(0));
    let too_far = bound(divergence * 0.99);
    assert_eq!(too_far.code, Some(1), "{too_far:?}");
    let sentence = format!("mlxr: the mean divergence is {divergence}, ");
    assert!(too_far.stderr.starts_with(&sentence), "{too_far:?}");
    let memory = run(&[&report, "--force", "--memory", "16KiB"]);
    memory.refused(2, "--report: it loads the source and the packed model");
}

#[test]
fn the_text_of_a_report_is_opened_before_anything_is_written() {
    let home = Sealed::new();
    let (source, target) = (made(&home), home.path("small"));
    let run = |report: &str| {
        let all = ["quantize", text(&source), "-o", text(&target), report];
        let ended = ended(&mut home.command(&[&all[..], &["--group", "32"]].concat()));
        assert!(!target.exists(), "{ended:?}");
        ended
    };
    run("--report=absent").refused(6, "could not read absent");
    fs::write(home.path("bytes"), b"ab\xff").unwrap();
    run("--report=bytes").refused(2, "bytes is not valid UTF-8 at byte 2");
    fs::write(home.path("short"), "a").unwrap();
    run("--report=short").refused(2, "--report=short: the text has fewer than two tokens");
    fs::remove_file(source.join("tokenizer.json")).unwrap();
    run("--report").refused(6, "has no tokenizer.json");
}

#[test]
fn a_search_keeps_to_its_bytes_and_finds_the_same_again() {
    let home = Sealed::new();
    let (source, target) = (made(&home), home.path("small"));
    let run = |bits: &str| {
        let all = [
            "quantize",
            text(&source),
            "-o",
            text(&target),
            "--group",
            "32",
        ];
        let more = ["--target-bpw", bits, "--explain", "--json", "--dry-run"];
        ended(&mut home.command(&[&all[..], &more].concat()))
    };
    let found = run("5.5").check(0, "");
    let plan: Value = serde_json::from_str(&found).unwrap();
    let bits = plan["bits_per_weight"].as_f64().unwrap();
    assert!((4.0..=5.5).contains(&bits), "{bits}");
    let tensors = plan["tensors"].as_array().unwrap();
    let reasons = tensors
        .iter()
        .map(|tensor| tensor["reason"].as_str().unwrap());
    assert_eq!(
        reasons
            .filter(|reason| reason.starts_with("searched: "))
            .count(),
        15
    );
    assert_eq!(run("5.5").check(0, ""), found);
    assert!(!target.exists() && !home.path(".small.search").exists());
    run("2").refused(2, "--target-bpw 2: with all that is searched in 2 bits");
    // Experts are laid out anew before they are laid over.
    let experts = made_of_experts(&home);
    let all = [
        "quantize",
        text(&experts),
        "-o",
        text(&target),
        "--group",
        "32",
    ];
    let more = ["--target-bpw", "5.5", "--json", "-q"];
    let found = ended(&mut home.command(&[&all[..], &more].concat())).check(0, "");
    let found: Value = serde_json::from_str(&found).unwrap();
    assert!(found["bits_per_weight"].as_f64().unwrap() <= 5.5, "{found}");
    assert!(!home.path(".small.base").exists());
    let mode = [
        "quantize",
        text(&source),
        "-o",
        text(&target),
        "--mode",
        "mxfp4",
    ];
    let mode = [&mode[..], &["--target-bpw", "5"]].concat();
    ended(&mut home.command(&mode)).refused(2, "among the bits of affine mode");
}
