//! The files beside the weights, and the names of folders.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::MANIFEST;
use super::super::layout::Layout;
use super::super::plan::Plan;
use super::remove;
use crate::config::PackingConfig;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::weights::INDEX;

/// A file that says how the source was packed, and one that says how this was: these are not carried over.
const PACKING: [&str; 2] = ["hf_quant_config.json", MANIFEST];

/// Endings of files that hold weights in whatever form: neither are these.
const WEIGHTS: [&str; 7] = ["safetensors", "bin", "gguf", "pth", "pt", "h5", "msgpack"];

/// Whether the target may be written.
///
/// # Errors
/// [`Error::Quantize`] where it is something that was not written by this, and nobody insists.
pub(super) fn check(plan: &Plan, target: &Path, force: bool) -> Result<()> {
    let refuse = |problem: &str| {
        Err(Error::Quantize {
            what: target.display().to_string(),
            problem: problem.to_owned(),
        })
    };
    if let (ModelFiles::Folder(source), Ok(target)) = (&plan.files, target.canonicalize())
        && source.canonicalize().is_ok_and(|source| source == target)
    {
        return refuse("this is the model itself: name another folder");
    }
    if target.is_file() {
        return refuse("it is a file, not a folder");
    }
    let is_empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    if target.exists() && !force && !target.join(MANIFEST).exists() && !is_empty() {
        return refuse(
            "it exists and was not made by `mlxr quantize`: name another folder, or replace it with --force",
        );
    }
    Ok(())
}

/// Whether the target is what this plan leads to.
pub(super) fn is_complete(plan: &Plan, target: &Path) -> bool {
    let manifest = fs::read(target.join(MANIFEST)).ok();
    let manifest = manifest.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    manifest.is_some_and(|manifest| manifest["plan"] == plan.digest)
}

/// The folder that is written before it gets the target's name, beside it.
pub(super) fn partial(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| Error::Quantize {
        what: target.display().to_string(),
        problem: "it is not the name of a folder".to_owned(),
    })?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(target.with_file_name(partial))
}

/// Gives the complete folder the target's name. What was there goes when the new one is.
pub(super) fn rename(folder: &Path, target: &Path) -> Result<()> {
    let renamed = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::io("rename", from));
    if !target.exists() {
        return renamed(folder, target);
    }
    let old = folder.with_extension("old");
    if old.exists() {
        remove(&old)?;
    }
    renamed(target, &old)?;
    renamed(folder, target)?;
    remove(&old)
}

/// Writes the configuration, the index, the manifest, and what else the source has but weights.
pub(super) fn companions(
    plan: &Plan,
    layout: &Layout,
    digests: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<()> {
    carry_over(&plan.files, folder)?;
    put_json(&folder.join("config.json"), &config(plan)?)?;
    put_json(&folder.join(INDEX), &layout.index(plan))?;
    put_json(&folder.join(MANIFEST), &manifest(plan, digests))
}

fn put_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    put(path, text.as_bytes())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.map_err(Error::io("write", path))
}

fn carry_over(files: &ModelFiles, folder: &Path) -> Result<()> {
    let source = match files {
        ModelFiles::Folder(source) => source,
        ModelFiles::Derived(_, files) => {
            for (name, bytes) in files.iter() {
                put(&folder.join(name), bytes)?;
            }
            return Ok(());
        }
        ModelFiles::Embedded(_, files) => {
            for (name, bytes) in files
                .iter()
                .filter(|(name, _)| !is_weights(Path::new(name)))
            {
                put(&folder.join(name), bytes)?;
            }
            return Ok(());
        }
    };
    let entries = fs::read_dir(source).map_err(Error::io("list", source))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name() else {
            continue;
        };
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if !path.is_file()
            || is_hidden
            || is_weights(&path)
            || PACKING.iter().any(|own| name == *own)
        {
            continue;
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        put(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// Whether a file holds weights, or says where they are.
fn is_weights(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is_index = path.to_string_lossy().ends_with(".index.json");
    is_index || ending.is_some_and(|ending| WEIGHTS.contains(&ending))
}

/// The source's configuration with what mlx-lm says of packed matrices.
fn config(plan: &Plan) -> Result<Value> {
    let name = "config.json";
    let bytes = plan.files.require(name)?;
    let mut config: BTreeMap<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| Error::Config {
            path: plan.files.path(name),
            problem: error.to_string(),
        })?;
    config.remove("_name_or_path");
    let mut packing = fields(&plan.base);
    for tensor in &plan.tensors {
        if let Some(own) = tensor.packing.as_ref().filter(|own| **own != plan.base) {
            packing.insert(tensor.prefix().to_owned(), Value::Object(fields(own)));
        }
    }
    config.remove("quantization_config");
    let is_packed = plan.tensors.iter().any(|tensor| tensor.packing.is_some());
    let fields = ["quantization", "quantization_config"];
    for field in fields.into_iter().filter(|_| is_packed) {
        config.insert(field.to_owned(), Value::Object(packing.clone()));
    }
    Ok(config.into_iter().collect::<Map<_, _>>().into())
}

fn fields(packing: &PackingConfig) -> Map<String, Value> {
    let PackingConfig {
        mode,
        group_size,
        bits,
    } = packing;
    let fields = [
        ("group_size", json!(group_size)),
        ("bits", json!(bits)),
        ("mode", json!(mode.name())),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// How the weights were made, and the digest of each tensor of the files.
fn manifest(plan: &Plan, digests: &BTreeMap<String, String>) -> Value {
    let choices = plan.tensors.iter().map(|tensor| {
        let packing = tensor.packing.as_ref().map(PackingConfig::to_string);
        json!({
            "name": tensor.name,
            "role": tensor.role.to_string(),
            "packing": packing,
            "dtype": tensor.dtype,
            "reason": tensor.reason,
        })
    });
    json!({
        "version": 1,
        "program": concat!("mlxr ", env!("CARGO_PKG_VERSION")),
        "plan": plan.digest,
        "bits_per_weight": plan.bits_per_weight(),
        "tensors": choices.collect::<Vec<_>>(),
        "digest": "xxh3-128",
        "digests": digests,
    })
}
