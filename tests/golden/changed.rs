//! Checkpoints that are changed: with tensors under other names, and as the text half of a model that sees.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mlxr::models::{ARCHITECTURES, Precision};
use serde_json::{Map, Value, json};

use super::{Golden, distance, for_each, load};

/// A copy of a checkpoint whose tensors and configuration are changed.
fn change(
    golden: &Golden,
    rename: impl Fn(&str) -> String,
    configure: impl Fn(Map<String, Value>) -> Map<String, Value>,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::read(golden.folder.join("model.safetensors")).unwrap();
    let (length, rest) = file.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let (header, data) = rest.split_at(length);
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let mut renamed = Map::new();
    for (name, tensor) in header {
        renamed.insert(rename(&name), tensor);
    }
    // Of no bytes: nobody may look at it.
    let empty = json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
    renamed.insert("vision_tower.patches.weight".to_owned(), empty);
    let header = serde_json::to_vec(&renamed).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    let changed = [&length, header.as_slice(), data].concat();
    fs::write(folder.path().join("model.safetensors"), changed).unwrap();
    let config = fs::read(golden.folder.join("config.json")).unwrap();
    let config = configure(serde_json::from_slice(&config).unwrap());
    let config = serde_json::to_vec(&config).unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    folder
}

/// One tensor of each kind: those of later layers are left out.
fn kinds_of_tensors(golden: &Golden) -> Vec<String> {
    let file = fs::read(golden.folder.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let names = header.into_iter().map(|(name, _)| name);
    let kind = |name: &str| {
        let parts = name.split('.');
        let parts = parts.filter(|part| part.parse::<usize>().is_err());
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut kinds = BTreeSet::new();
    let names = names.filter(|name| name != "__metadata__" && kinds.insert(kind(name)));
    names.collect()
}

fn problem(folder: &Path) -> String {
    match load(folder, Precision::Float32) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn tensors_that_are_missing_or_not_known_are_named() {
    for_each(|golden| {
        let rename = |name: &str| name.replace("model.norm.", "model.gnome.");
        let folder = change(golden, rename, |config| config);
        let problem = problem(folder.path());
        for name in ["model.norm.weight", "model.gnome.weight"] {
            assert!(problem.contains(name), "{}: {problem}", golden.name);
        }
    });
}

/// Every tensor in turn, one of each kind: no layout may trip over what stands in for it.
#[test]
fn whichever_tensor_is_missing_is_named() {
    for_each(|golden| {
        for name in kinds_of_tensors(golden) {
            let rename = |other: &str| {
                let renamed = if other == name { "elsewhere" } else { other };
                renamed.to_owned()
            };
            let folder = change(golden, rename, |config| config);
            let problem = problem(folder.path());
            // What a layout is known by may be what is missing.
            let part = name
                .rsplit_once('.')
                .map_or(name.as_str(), |(part, _)| part);
            let layer = part.rsplit_once('.').map_or(part, |(layer, _)| layer);
            assert!(
                problem.contains(layer) || problem.contains("elsewhere"),
                "{} {name}: {problem}",
                golden.name
            );
        }
    });
}

#[test]
fn the_text_half_of_a_model_that_sees_is_found() {
    for_each(|golden| {
        for prefix in ["language_model.model.", "model.language_model."] {
            let rename = |name: &str| match name.strip_prefix("model.") {
                Some(rest) => format!("{prefix}{rest}"),
                None => name.to_owned(),
            };
            let nest = |mut config: Map<String, Value>| {
                for field in ["quantization", "quantization_config"] {
                    if let Some(Value::Object(packed)) = config.get_mut(field) {
                        let layers = std::mem::take(packed).into_iter();
                        packed.extend(layers.map(|(name, how)| (rename(&name), how)));
                    }
                }
                let names = config.remove("architectures").unwrap();
                let outer = json!({
                    "architectures": names,
                    "text_config": config,
                    "vision_config": {"hidden_size": 3},
                });
                outer.as_object().unwrap().clone()
            };
            let folder = change(golden, rename, nest);
            let loaded = load(folder.path(), Precision::Float32).unwrap();
            let ids = &golden.input_ids[0];
            let found = super::forward(
                &loaded,
                &[(0, 0, ids)],
                &mut [&mut loaded.model.new_cache()],
            );
            let right = golden.forward(&[(0, 0, ids)], &mut [&mut golden.cache()]);
            assert!(distance(&found, &right) == 0.0, "{} {prefix}", golden.name);
        }
    });
}

#[test]
fn each_name_stands_for_one_architecture() {
    let mut names = BTreeSet::new();
    for spec in ARCHITECTURES {
        for name in spec.names {
            assert!(names.insert(name), "{name}");
        }
    }
    assert!(names.len() >= ARCHITECTURES.len());
}
