//! `mlxr quantize`: what it writes, what it tells, what it refuses, and that it goes on where it was killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::made::Made;
use crate::support::{Sealed, ended, mlxr, spawn};

/// The digests of a folder's tensors.
fn digests(folder: &Path) -> BTreeMap<String, String> {
    let manifest = fs::read(folder.join("mlxr_quantize.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    serde_json::from_value(manifest["digests"].clone()).unwrap()
}

fn made(home: &Sealed) -> PathBuf {
    let folder = home.path("model");
    Made::new().write(&folder);
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_packed_model_answers_and_is_whole() {
    let home = Sealed::new();
    let (source, target) = (made(&home), home.path("small"));
    let run = |arguments: &[&str]| ended(&mut home.command(arguments));
    let all = [
        "quantize",
        text(&source),
        "-o",
        text(&target),
        "--group",
        "32",
        "--embed",
        "8",
        "-q",
    ];
    assert_eq!(run(&all).check(0, ""), "");
    let config: Value =
        serde_json::from_slice(&fs::read(target.join("config.json")).unwrap()).unwrap();
    assert_eq!(
        config["quantization"],
        json!({
            "group_size": 32, "bits": 4, "mode": "affine",
            "model.embed_tokens": {"group_size": 32, "bits": 8, "mode": "affine"},
        })
    );
    assert_eq!(config["quantization"], config["quantization_config"]);
    assert!(target.join("tokenizer.json").exists());
    assert!(!home.path(".small.partial").exists());
    let verified = run(&["quantize", "--verify", text(&target), "--json", "-q"]);
    let verified: Value = serde_json::from_str(&verified.check(0, "")).unwrap();
    assert_eq!(verified["problems"], json!([]));
    assert_eq!(verified["digests"], verified["tensors"]);
    // An embedding and seven matrices in each of two layers.
    assert_eq!(verified["packed"], 15);
    let answer = run(&[
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
    ]);
    assert!(matches!(answer.code, Some(0 | 3)), "{answer:?}");
}

#[test]
fn a_plan_is_told_and_nothing_is_written() {
    let home = Sealed::new();
    let (source, target) = (made(&home), home.path("small"));
    let all = [
        "quantize",
        text(&source),
        "-o",
        text(&target),
        "--dry-run",
        "--explain",
        "--json",
        "--group",
        "32",
        "--override",
        "layers.0.*=keep",
        "--override",
        "layers.0.mlp.down_proj=8",
    ];
    let plan: Value = serde_json::from_str(&ended(&mut home.command(&all)).check(0, "")).unwrap();
    assert!(!target.exists() && !home.path(".small.partial").exists());
    let tensors = plan["tensors"].as_array().unwrap();
    let of = |name: &str| {
        tensors
            .iter()
            .find(|tensor| tensor["name"] == name)
            .unwrap()
    };
    let down = of("model.layers.0.mlp.down_proj.weight");
    assert_eq!(
        [&down["role"], &down["choice"], &down["reason"]],
        [
            "mlp down",
            "affine8g32",
            "--override layers.0.mlp.down_proj"
        ]
    );
    assert_eq!(of("model.layers.0.mlp.up_proj.weight")["choice"], "f32");
    assert_eq!(
        of("model.layers.1.mlp.up_proj.weight")["choice"],
        "affine4g32"
    );
    assert_eq!(of("model.norm.weight")["role"], "norm");
    let bytes: u64 = tensors
        .iter()
        .map(|tensor| tensor["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(plan["bytes"], bytes);
    let bits = plan["bits_per_weight"].as_f64().unwrap();
    assert!((bits - 8.0 * bytes as f64 / plan["weights"].as_f64().unwrap()).abs() < 1e-9);
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let home = Sealed::new();
    let (source, target) = (made(&home), home.path("small"));
    let other = home.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "dear").unwrap();
    let (source, target, other) = (text(&source), text(&target), text(&other));
    let packed = ["quantize", source, "-o", target, "--group", "32", "-q"];
    assert_eq!(ended(&mut home.command(&packed)).code, Some(0));
    for (arguments, words) in [
        (
            &[source, "-o", other, "--group", "32"][..],
            "was not made by `mlxr quantize`",
        ),
        (&[source, "-o", source, "--group", "32"], "the model itself"),
        (&[target, "-o", other], "packed already"),
        (
            &[source, "-o", target],
            "no tensor of it can be packed as affine4g64",
        ),
        (
            &[
                source,
                "--dry-run",
                "--group",
                "32",
                "--embed",
                "affine4g128",
            ],
            "32 columns, which are no groups of 128",
        ),
        (
            &[
                source,
                "--dry-run",
                "--group",
                "32",
                "--override",
                "nothing=8",
            ],
            "no tensor has a name that fits",
        ),
        (
            &[
                source,
                "--dry-run",
                "--group",
                "32",
                "--override",
                "model.norm=8",
            ],
            "not a matrix",
        ),
        (
            &[source, "--dry-run", "--mode", "mxfp4", "--bits", "8"],
            "mxfp4 has no 8 bits",
        ),
        (
            &[source, "--dry-run", "--recipe", "mixed_2_6", "--bits", "8"],
            "the bits itself",
        ),
        (
            &[
                source,
                "--dry-run",
                "--recipe",
                "mixed_2_6",
                "--mode",
                "mxfp4",
            ],
            "the mode, affine",
        ),
    ] {
        let arguments = [&["quantize"], arguments].concat();
        ended(&mut home.command(&arguments)).refused(2, words);
    }
    assert_eq!(
        fs::read_to_string(home.path("other/letter.txt")).unwrap(),
        "dear"
    );
    let forced = [
        "quantize", source, "-o", other, "--group", "32", "--force", "-q",
    ];
    assert_eq!(ended(&mut home.command(&forced)).code, Some(0));
    assert!(!home.path("other/letter.txt").exists());
    assert_eq!(mlxr(&["quantize", source]).code, Some(2));
}

#[test]
fn a_packed_model_is_verified_and_nothing_else_is_asked_of_it() {
    mlxr(&["quantize", "--verify", "/absent"]).refused(6, "no model `/absent`");
    for option in [
        "--mode=affine",
        "--bits=4",
        "--group=32",
        "--recipe=default",
        "--embed=8",
        "--head=8",
        "--expert=8",
        "--override=a=8",
        "--dtype=bf16",
        "--memory=1GiB",
        "--explain",
    ] {
        let refused = mlxr(&["quantize", "--verify", "/absent", option]);
        refused.fails(2, option.split('=').next().unwrap());
        refused.fails(2, "cannot be used with");
    }
}

#[test]
fn numbers_that_are_none_and_damage_are_told_by_name() {
    let home = Sealed::new();
    let (source, target) = (home.path("model"), home.path("small"));
    let mut made = Made::new();
    let name = "model.layers.1.mlp.up_proj.weight";
    made.tensors.get_mut(name).unwrap().1[5] = f32::NAN;
    made.write(&source);
    let all = [
        "quantize",
        text(&source),
        "-o",
        text(&target),
        "--group",
        "32",
        "-q",
    ];
    ended(&mut home.command(&all)).fails(7, &format!("tensor {name} holds NaN"));
    assert!(!target.exists());
    fs::write(home.path("x.gguf"), "GIF89a").unwrap();
    let gguf = home.path("x.gguf");
    let arguments = ["quantize", text(&gguf), "--dry-run"];
    ended(&mut home.command(&arguments)).fails(7, "does not begin as a GGUF file does");
    Made::new().write(&source);
    assert_eq!(ended(&mut home.command(&all)).code, Some(0));
    let path = target.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = ended(&mut home.command(&["quantize", "--verify", text(&target)]));
    assert_eq!(found.code, Some(7));
    assert!(
        found.stderr.contains("are not those that were written"),
        "{found:?}"
    );
}

#[test]
fn a_killed_run_goes_on_and_writes_the_same() {
    let home = Sealed::new();
    let source = home.path("model");
    Made::new().write(&source);
    widen(&source);
    let (whole, killed) = (home.path("whole"), home.path("killed"));
    let run = |target: &Path| {
        home.command(&[
            "quantize",
            text(&source),
            "-o",
            text(target),
            "--threads",
            "1",
        ])
    };
    assert_eq!(ended(&mut run(&whole)).code, Some(0));
    let mut child = spawn(&mut run(&killed));
    let journal = home.path(".killed.partial/journal.jsonl");
    // Two tensors of three parts each are whole, and the rest is not.
    while fs::read_to_string(&journal).map_or(0, |text| text.lines().count()) < 7 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it was not killed in time"
        );
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.exists());
    let again = ended(&mut run(&killed));
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(
        again.stderr.contains("tensors were there already"),
        "{again:?}"
    );
    assert_eq!(digests(&killed), digests(&whole));
    for name in [
        "model.safetensors",
        "config.json",
        "model.safetensors.index.json",
    ] {
        assert!(
            fs::read(killed.join(name)).unwrap() == fs::read(whole.join(name)).unwrap(),
            "{name}"
        );
    }
}

/// Makes it 48 matrices of 2 MiB, so that writing takes a while.
fn widen(folder: &Path) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["num_hidden_layers"] = json!(48);
    fs::write(&path, config.to_string()).unwrap();
    let mut header = serde_json::Map::new();
    let bytes = 2 << 20;
    for layer in 0..48 {
        let offsets = [layer * bytes, (layer + 1) * bytes];
        let tensor = json!({"dtype": "F32", "shape": [512, 1024], "data_offsets": offsets});
        header.insert(format!("model.layers.{layer}.mlp.up_proj.weight"), tensor);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    let numbers =
        (0..24_u32 << 19).map(|n| (n.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5);
    file.extend(numbers.flat_map(f32::to_le_bytes));
    file.resize(8 + header.len() + 48 * bytes, 0);
    fs::write(folder.join("model.safetensors"), file).unwrap();
}
