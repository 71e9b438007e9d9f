//! Checkpoints that `quantize` writes: laid out anew they compute the same, and packed ones what the numbers in them say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mlxr::config::{Config, PackingConfig, PackingMode};
use mlxr::files::ModelFiles;
use mlxr::models::{LoadedModel, Precision};
use mlxr::progress::Silent;
use mlxr::quantize::{
    Checkpoint, Choice, Override, QuantizeSettings, Recipe, WriteOptions, plan, write,
};
use mlxr::weights::{StoredTensor, Weights, header};

use super::{Golden, REORDERED, distance, for_each, forward, likeliest, load, say};

/// A checkpoint that is made of a golden one.
fn made(golden: &Golden, settings: &QuantizeSettings, folder: &Path) -> PathBuf {
    let target = folder.join("made");
    let files = ModelFiles::Folder(golden.folder.clone());
    let plan = plan(&Checkpoint::open(&files).unwrap(), settings).unwrap();
    let options = WriteOptions {
        target: target.clone(),
        memory: Some(1 << 20),
        force: false,
    };
    write(&plan, &options, &Silent).unwrap();
    target
}

pub(super) fn settings(bits: usize, overrides: Vec<Override>) -> QuantizeSettings {
    QuantizeSettings {
        base: PackingConfig::new(PackingMode::Affine, Some(bits), Some(32)).unwrap(),
        recipe: Recipe::Default,
        embed: None,
        head: None,
        expert: None,
        overrides,
        dtype: None,
        searched: BTreeMap::new(),
        keep_codes: false,
    }
}

/// Nothing is packed.
pub(super) fn keep_all() -> Override {
    Override {
        pattern: "*".to_owned(),
        choice: Choice::Keep,
    }
}

#[test]
fn what_is_only_laid_out_anew_computes_the_same() {
    let settings = settings(8, vec![keep_all()]);
    for_each(|golden| {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load(&made(golden, &settings, folder.path()), Precision::Float32).unwrap();
        for ids in &golden.input_ids {
            let wanted = golden.forward(&[(0, 0, ids)], &mut [&mut golden.cache()]);
            let off = distance(&whole(&loaded, ids), &wanted);
            say(&format!(
                "{}: laid out anew, logits within {off:.1e}",
                golden.name
            ));
            assert!(off <= REORDERED, "{}: {off}", golden.name);
        }
    });
}

#[test]
fn packed_weights_answer_as_the_numbers_that_they_stand_for() {
    for bits in [4, 8] {
        let settings = settings(bits, Vec::new());
        for_each(|golden| {
            let folder = tempfile::tempdir().unwrap();
            let target = made(golden, &settings, folder.path());
            let packed = load(&target, Precision::Float32).unwrap();
            let plain = folder.path().join("plain");
            unpack(&target, &plain);
            let plain = load(&plain, Precision::Float32).unwrap();
            let name = format!("{} in {bits} bits", golden.name);
            for (ids, greedy) in golden.input_ids.iter().zip(&golden.greedy) {
                let off = distance(&whole(&packed, ids), &whole(&plain, ids));
                say(&format!("{name}: logits within {off:.1e} of its numbers'"));
                assert!(off <= REORDERED, "{name}: {off}");
                greedy_alike(&name, &packed, &plain, ids, greedy.len());
            }
            let vocabulary = packed.model.vocabulary();
            let (mut same, mut all) = (0, 0);
            for (ids, wanted) in golden.input_ids.iter().zip(&golden.logits) {
                let found = whole(&packed, ids);
                for (found, wanted) in found.chunks(vocabulary).zip(wanted.chunks(vocabulary)) {
                    same += usize::from(likeliest(found) == likeliest(wanted));
                    all += 1;
                }
            }
            say(&format!(
                "{name}: the same token as the source's likeliest {same} times of {all}"
            ));
        });
    }
}

/// Both choose the same tokens one after the other, up to one that both find as likely as another.
fn greedy_alike(name: &str, a: &LoadedModel, b: &LoadedModel, ids: &[i32], count: usize) {
    let (mut first, mut second) = (a.model.new_cache(), b.model.new_cache());
    let mut next = ids.to_vec();
    for step in 0..count {
        let found = forward(a, &[(0, first.length(), &next)], &mut [&mut first]);
        let wanted = forward(b, &[(0, second.length(), &next)], &mut [&mut second]);
        let last = found.len() - a.model.vocabulary()..;
        let (found, wanted) = (&found[last.clone()], &wanted[last]);
        let (token, other) = (likeliest(found), likeliest(wanted));
        if token != other {
            let tie = wanted[other as usize] - wanted[token as usize];
            say(&format!("{name}: a tie within {tie:.1e} at token {step}"));
            assert!(tie <= REORDERED, "{name}: {tie} at token {step}");
            return;
        }
        next = vec![token];
    }
}

pub(super) fn whole(loaded: &LoadedModel, ids: &[i32]) -> Vec<f32> {
    forward(loaded, &[(0, 0, ids)], &mut [&mut loaded.model.new_cache()])
}

/// Writes a packed checkpoint's numbers as float32: `scale · code + bias`, one after the other.
fn unpack(source: &Path, target: &Path) {
    fs::create_dir(target).unwrap();
    let files = ModelFiles::Folder(source.to_path_buf());
    let quantization = Config::read(&files).unwrap().quantization().unwrap();
    let mut config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&fs::read(source.join("config.json")).unwrap()).unwrap();
    config.retain(|field, _| !field.starts_with("quantization"));
    let config = serde_json::to_string(&config).unwrap();
    fs::write(target.join("config.json"), config).unwrap();
    let stored = Weights::open(&files).unwrap().stored();
    let all: BTreeMap<&str, &StoredTensor> = stored
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let bytes = |tensor: &StoredTensor| tensor.bytes[tensor.range.clone()].to_vec();
    let mut plain: Vec<(&str, String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (&name, tensor) in &all {
        let prefix = name.strip_suffix(".weight").unwrap_or(name);
        let Some(scales) = all.get(format!("{prefix}.scales").as_str()) else {
            if !name.ends_with(".scales") && !name.ends_with(".biases") {
                plain.push((
                    name,
                    tensor.dtype.clone(),
                    tensor.shape.clone(),
                    bytes(tensor),
                ));
            }
            continue;
        };
        let biases = all[format!("{prefix}.biases").as_str()];
        let packing = quantization.as_ref().unwrap().of(prefix).unwrap();
        assert_eq!(scales.dtype, "BF16");
        let halves = |tensor: &StoredTensor| -> Vec<f32> {
            let bytes = bytes(tensor);
            let pairs = bytes.chunks_exact(2);
            pairs
                .map(|pair| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32())
                .collect()
        };
        let (scales, biases) = (halves(scales), halves(biases));
        let codes = bytes(tensor);
        let per_byte = 8 / packing.bits;
        let numbers = (0..codes.len() * per_byte).map(|at| {
            let shift = at % per_byte * packing.bits;
            let code = codes[at / per_byte] >> shift & (0xff >> (8 - packing.bits));
            let group = at / packing.group_size;
            scales[group] * f32::from(code) + biases[group]
        });
        let mut shape = tensor.shape.clone();
        *shape.last_mut().unwrap() *= 32 / packing.bits;
        let numbers = numbers.flat_map(f32::to_le_bytes).collect();
        plain.push((name, "F32".to_owned(), shape, numbers));
    }
    let tensors = plain
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, dtype.as_str(), shape.as_slice(), bytes.len()));
    let mut file = header(tensors);
    file.extend(plain.iter().flat_map(|(.., bytes)| bytes));
    fs::write(target.join("model.safetensors"), file).unwrap();
}
