//! Holds a packed checkpoint against what it says of itself: shapes, scales, digests.

use std::collections::BTreeMap;

use serde_json::Value;

use super::MANIFEST;
use super::settings::DType;
use super::write::digest;
use crate::config::{Config, PackingConfig, PackingMode};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::progress::{Progress, Unit};
use crate::weights::{StoredTensor, Weights};

const VERIFYING: &str = "verifying";

/// Bytes of numbers that are looked at together.
const PIECE: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Tensors of the files.
    pub tensors: usize,
    /// Of these, matrices that are packed.
    pub packed: usize,
    /// Of these, tensors whose bytes were held against a digest.
    pub digests: usize,
    /// Bytes of all tensors.
    pub bytes: usize,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

/// Reads a whole checkpoint and holds it against its configuration and its manifest, if it has one.
///
/// # Errors
/// Whatever keeps it from being read.
pub fn verify(files: &ModelFiles, progress: &dyn Progress) -> Result<Verified> {
    let config = Config::read(files)?;
    let quantization = config.quantization()?;
    let stored = Weights::open(files)?.stored();
    let digests = digests(files)?;
    let all: BTreeMap<&str, &StoredTensor> = stored
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let mut found = Verified {
        tensors: stored.len(),
        packed: 0,
        digests: 0,
        bytes: stored.iter().map(|tensor| tensor.range.len()).sum(),
        problems: Vec::new(),
    };
    progress.start(VERIFYING, Some(found.bytes as u64), Unit::Bytes);
    for name in digests
        .keys()
        .filter(|name| !all.contains_key(name.as_str()))
    {
        found
            .problems
            .push(format!("tensor {name} of the manifest is missing"));
    }
    let mut done = 0;
    for tensor in &stored {
        let bytes = &tensor.bytes[tensor.range.clone()];
        if let Some(wanted) = digests.get(&tensor.name) {
            found.digests += 1;
            if *wanted != digest(bytes) {
                found.problems.push(format!(
                    "the bytes of {} are not those that were written",
                    tensor.name
                ));
            }
        }
        if let Some(prefix) = tensor.name.strip_suffix(".scales") {
            found.packed += 1;
            let packing = quantization
                .as_ref()
                .and_then(|quantization| quantization.of(prefix));
            let problem = match packing {
                Some(packing) => packed(prefix, tensor, &all, packing),
                None => Some(format!("config.json does not say how {prefix} is packed")),
            };
            found.problems.extend(problem);
        }
        if let Some(dtype) = DType::of(&tensor.dtype)
            && !is_finite(dtype, bytes)
        {
            found
                .problems
                .push(format!("{} holds NaN or infinite numbers", tensor.name));
        }
        tensor.bytes.release(tensor.range.clone());
        done += tensor.range.len();
        progress.advance(VERIFYING, done as u64);
    }
    progress.finish(VERIFYING);
    Ok(found)
}

fn is_finite(dtype: DType, bytes: &[u8]) -> bool {
    let mut pieces = bytes.chunks(PIECE);
    pieces.all(|piece| {
        dtype
            .0
            .floats(piece)
            .iter()
            .all(|number| number.is_finite())
    })
}

/// What is wrong with a packed matrix, whose scales these are.
fn packed(
    prefix: &str,
    scales: &StoredTensor,
    all: &BTreeMap<&str, &StoredTensor>,
    packing: &PackingConfig,
) -> Option<String> {
    let Some(weight) = all.get(format!("{prefix}.weight").as_str()) else {
        return Some(format!("{prefix} has scales and no weight"));
    };
    let affine = packing.mode == PackingMode::Affine;
    let biases = all.get(format!("{prefix}.biases").as_str());
    if affine != biases.is_some() {
        let word = if affine { "no biases" } else { "biases" };
        return Some(format!("{prefix} has {word} in mode {}", packing.mode));
    }
    if biases.is_some_and(|biases| biases.shape != scales.shape || biases.dtype != scales.dtype) {
        return Some(format!(
            "scales and biases of {prefix} differ in shape or type"
        ));
    }
    let types = if affine {
        DType::of(&scales.dtype).is_some()
    } else {
        scales.dtype == "U8"
    };
    if weight.dtype != "U32" || !types {
        return Some(format!(
            "{prefix} is of types {} and {}",
            weight.dtype, scales.dtype
        ));
    }
    let (Some((words, rows)), Some((groups, others))) =
        (weight.shape.split_last(), scales.shape.split_last())
    else {
        return Some(format!("{prefix} is no matrix"));
    };
    let columns = groups * packing.group_size;
    if rows != others || columns * packing.bits != words * 32 {
        return Some(format!(
            "{prefix} has shapes {:?} and {:?}, which {packing} has not",
            weight.shape, scales.shape
        ));
    }
    // 255 is not a number in E8M0; 127 and 255 are not in E4M3.
    let bytes = &scales.bytes[scales.range.clone()];
    let bad: &[u8] = if packing.mode == PackingMode::Nvfp4 {
        &[0x7f, 0xff]
    } else {
        &[0xff]
    };
    let is_bad = !affine && bytes.iter().any(|byte| bad.contains(byte));
    is_bad.then(|| format!("scales of {prefix} hold what is no number"))
}

/// The digests that the manifest holds; none where there is no manifest.
fn digests(files: &ModelFiles) -> Result<BTreeMap<String, String>> {
    let Some(bytes) = files.read(MANIFEST)? else {
        return Ok(BTreeMap::new());
    };
    let refuse = || Error::Config {
        path: files.path(MANIFEST),
        problem: "`digests` is missing or not an object of texts".to_owned(),
    };
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
    serde_json::from_value(manifest["digests"].clone()).map_err(|_| refuse())
}
