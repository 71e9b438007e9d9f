//! Checkpoints with the reference's logits: `MLXR_GOLDEN_DIR` (default: ../shared/golden-models)
//! holds folders with a model and `golden.safetensors`: `input_ids` [2, T], `logits` [2, T, V],
//! `greedy` [2, n] (what the reference goes on with after each row of `input_ids`).
//!
//! `MLXR_TEST_DEVICE=gpu` runs on the GPU; an NVIDIA GPU rounds float32 products to TF32 unless
//! `MLX_ENABLE_TF32=0` is set. `MLXR_TEST_DEVICE=graphs` runs what GPUs run on the CPU. Architectures
//! that are not known yet are named and left out.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it says what it skips, and is told where the checkpoints are"
)]

mod along;
mod branches;
mod changed;
mod gguf;
mod int8;
mod packed;
mod ranks;
mod reading;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mlxr::cache::SequenceCache;
use mlxr::files::ModelFiles;
use mlxr::mlx::{Array, Bytes, DeviceChoice, Dtype, MappedFile, array_over, ops, slice, to_vec};
use mlxr::models::{self, LoadedModel, Precision, Source};
use mlxr::ops::batch::Batch;
use mlxr::progress::Silent;

/// How far logits may be from the reference's, in float32.
const TOLERANCE: f32 = 2e-3;

/// How far logits may be from our own, computed in another order.
const REORDERED: f32 = 2e-4;

struct Golden {
    name: String,
    folder: PathBuf,
    loaded: LoadedModel,
    /// [2][T]
    input_ids: Vec<Vec<i32>>,
    /// [2][T·V]
    logits: Vec<Vec<f32>>,
    /// [2][n]
    greedy: Vec<Vec<i32>>,
}

#[test]
fn whole_prompts_match_the_reference() {
    for_each(|golden| {
        let mut worst = 0f32;
        for (ids, expected) in golden.input_ids.iter().zip(&golden.logits) {
            let found = golden.forward(&[(0, 0, ids)], &mut [&mut golden.cache()]);
            worst = worst.max(distance(&found, expected));
        }
        say(&format!(
            "{}: logits within {worst:.1e} of the reference",
            golden.name
        ));
        assert!(worst <= TOLERANCE, "{}: {worst}", golden.name);
    });
}

#[test]
fn greedy_continuations_are_the_reference_s() {
    for_each(|golden| {
        for (ids, expected) in golden.input_ids.iter().zip(&golden.greedy) {
            let found = generate(&golden.loaded, ids, expected.len());
            assert_eq!(&found, expected, "{}", golden.name);
        }
    });
}

#[test]
fn steps_and_chunks_equal_the_whole() {
    for_each(|golden| {
        let ids = &golden.input_ids[0];
        let whole = golden.forward(&[(0, 0, ids)], &mut [&mut golden.cache()]);
        for chunk in [1, 3, 7] {
            let mut cache = golden.cache();
            let mut pieces = Vec::new();
            for part in ids.chunks(chunk) {
                pieces.extend(golden.forward(&[(0, cache.length(), part)], &mut [&mut cache]));
            }
            let off = distance(&pieces, &whole);
            assert!(
                off <= REORDERED,
                "{} in chunks of {chunk}: {off}",
                golden.name
            );
        }
    });
}

#[test]
fn segments_in_one_batch_equal_each_alone() {
    for_each(|golden| {
        let vocabulary = golden.loaded.model.vocabulary();
        let (first, second) = (&golden.input_ids[0], &golden.input_ids[1]);
        let alone = [
            golden.forward(&[(0, 0, first)], &mut [&mut golden.cache()]),
            golden.forward(&[(0, 0, second)], &mut [&mut golden.cache()]),
        ];
        // A decode step of one sequence beside a prefill chunk of the other, then the other way.
        let (mut a, mut b) = (golden.cache(), golden.cache());
        let cut = first.len() - 1;
        golden.forward(&[(0, 0, &first[..cut])], &mut [&mut a]);
        let half = second.len() / 2;
        let mixed = golden.forward(
            &[(0, cut, &first[cut..]), (1, 0, &second[..half])],
            &mut [&mut a, &mut b],
        );
        let expected = [
            &alone[0][cut * vocabulary..],
            &alone[1][..half * vocabulary],
        ]
        .concat();
        let off = distance(&mixed, &expected);
        assert!(off <= REORDERED, "{}: {off}", golden.name);
        let rest = golden.forward(&[(0, half, &second[half..])], &mut [&mut b]);
        let off = distance(&rest, &alone[1][half * vocabulary..]);
        assert!(off <= REORDERED, "{}: {off}", golden.name);
    });
}

#[test]
fn a_prompt_beside_four_answers_equals_each_alone() {
    for_each(|golden| {
        let vocabulary = golden.loaded.model.vocabulary();
        let (first, second) = (&golden.input_ids[0], &golden.input_ids[1]);
        let whole = golden.forward(&[(0, 0, first)], &mut [&mut golden.cache()]);
        let prompt = &second[..second.len() / 2];
        let mut expected = Vec::new();
        let mut caches: Vec<SequenceCache> = (0..5).map(|_| golden.cache()).collect();
        let mut pieces = Vec::new();
        for (index, cache) in caches.iter_mut().enumerate().take(4) {
            let cut = 3 + 7 * index;
            golden.forward(&[(0, 0, &first[..cut])], &mut [cache]);
            pieces.push((index, cut, &first[cut..=cut]));
            expected.extend(&whole[cut * vocabulary..(cut + 1) * vocabulary]);
        }
        pieces.push((4, 0, prompt));
        expected.extend(golden.forward(&[(0, 0, prompt)], &mut [&mut golden.cache()]));
        let mixed = golden.forward(&pieces, &mut caches.iter_mut().collect::<Vec<_>>());
        let off = distance(&mixed, &expected);
        assert!(off <= REORDERED, "{}: {off}", golden.name);
    });
}

#[test]
fn a_rewound_sequence_equals_a_fresh_one() {
    for_each(|golden| {
        let (first, second) = (&golden.input_ids[0], &golden.input_ids[1]);
        let fresh = golden.forward(&[(0, 0, second)], &mut [&mut golden.cache()]);
        let vocabulary = golden.loaded.model.vocabulary();
        let kept = second.len() / 2;
        let mut cache = golden.cache();
        golden.forward(&[(0, 0, &second[..kept])], &mut [&mut cache]);
        golden.forward(&[(0, kept, first)], &mut [&mut cache]);
        let kept = cache.rewind(kept);
        let again = golden.forward(&[(0, kept, &second[kept..])], &mut [&mut cache]);
        let off = distance(&again, &fresh[kept * vocabulary..]);
        assert!(off <= REORDERED, "{}: {off}", golden.name);
    });
}

impl Golden {
    fn cache(&self) -> SequenceCache {
        self.loaded.model.new_cache()
    }

    /// Logits of every row, laid end to end.
    fn forward(
        &self,
        pieces: &[(usize, usize, &[i32])],
        caches: &mut [&mut SequenceCache],
    ) -> Vec<f32> {
        forward(&self.loaded, pieces, caches)
    }
}

/// Logits of every row, laid end to end.
fn forward(
    loaded: &LoadedModel,
    pieces: &[(usize, usize, &[i32])],
    caches: &mut [&mut SequenceCache],
) -> Vec<f32> {
    let batch = Batch::new(pieces).unwrap();
    let hidden = loaded.model.forward(&batch, caches).unwrap();
    loaded
        .model
        .logits(&hidden)
        .unwrap()
        .into_numbers()
        .unwrap()
}

/// The likeliest tokens after `ids`, one after the other.
fn generate(loaded: &LoadedModel, ids: &[i32], count: usize) -> Vec<i32> {
    let mut cache = loaded.model.new_cache();
    let mut found = Vec::new();
    let mut next = ids.to_vec();
    while found.len() < count {
        let logits = forward(loaded, &[(0, cache.length(), &next)], &mut [&mut cache]);
        let best = likeliest(&logits[logits.len() - loaded.model.vocabulary()..]);
        next = vec![best];
        found.push(best);
    }
    found
}

fn likeliest(logits: &[f32]) -> i32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as i32
}

/// Says a line once in a run, past the capture that hides what passing tests print.
fn say(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(line.to_owned()) {
        let line = format!("{line}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, off| {
            // A NaN must not pass for "no difference".
            if off.is_nan() {
                f32::INFINITY
            } else {
                worst.max(off)
            }
        })
}

/// Whether `MLXR_TEST_DEVICE` says so.
fn on(device: &str) -> bool {
    std::env::var("MLXR_TEST_DEVICE").is_ok_and(|chosen| chosen == device)
}

/// Runs a check over every checkpoint whose architecture is known.
fn for_each(check: impl Fn(&Golden)) {
    let folder = std::env::var_os("MLXR_GOLDEN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden-models"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(&folder) else {
        say(&format!(
            "skipped: there is no {} (set MLXR_GOLDEN_DIR)",
            folder.display()
        ));
        return;
    };
    let device = if on("gpu") {
        DeviceChoice::Gpu
    } else {
        DeviceChoice::Cpu
    };
    mlxr::mlx::open(device, None).unwrap();
    if on("graphs") {
        mlxr::mlx::compute_by_graphs();
    }
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("golden.safetensors").exists());
    folders.sort();
    assert!(
        !folders.is_empty(),
        "{} holds no checkpoint",
        folder.display()
    );
    let mut checked = 0;
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        match load(&folder, Precision::Float32) {
            Ok(loaded) => {
                check(&read_golden(&folder, name, loaded));
                checked += 1;
            }
            Err(mlxr::Error::UnknownArchitecture {
                name: architecture, ..
            }) => {
                say(&format!(
                    "left out: {name} ({architecture} is not known yet)"
                ));
            }
            Err(error @ mlxr::Error::Ranks(_)) => say(&format!("left out: {name} ({error})")),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(
        checked > 0,
        "no checkpoint in {} is of a known architecture",
        folder.display()
    );
}

fn load(folder: &Path, precision: Precision) -> mlxr::Result<LoadedModel> {
    let files = ModelFiles::Folder(folder.to_path_buf());
    models::load(
        &Source::Files(files),
        precision,
        usize::MAX,
        ranks::group(),
        &Silent,
    )
}

fn read_golden(folder: &Path, name: String, loaded: LoadedModel) -> Golden {
    let file = Arc::new(MappedFile::open(&folder.join("golden.safetensors")).unwrap());
    let bytes = Bytes::Mapped(file);
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let tensors: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
    let rows = |name: &str| -> Vec<Array> {
        let info = &tensors[name];
        let dtype = match info.dtype {
            safetensors::Dtype::F32 => Dtype::Float32,
            safetensors::Dtype::I32 => Dtype::Int32,
            safetensors::Dtype::I64 => Dtype::Int64,
            other => panic!("{name} is {other:?}"),
        };
        let start = header + 8;
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        let array = array_over(&bytes, range, &info.shape, dtype).unwrap();
        (0..2)
            .map(|row| slice(&array, 0, row..=row).unwrap())
            .collect()
    };
    let integers = |name: &str| -> Vec<Vec<i32>> {
        let convert = |row: &Array| {
            let row = row.as_dtype(Dtype::Int32).unwrap();
            let row = ops::flatten(&row, None, None).unwrap();
            row.contiguous().unwrap().to_vec_exact::<i32>().unwrap()
        };
        rows(name).iter().map(convert).collect()
    };
    Golden {
        name,
        folder: folder.to_path_buf(),
        loaded,
        input_ids: integers("input_ids"),
        logits: rows("logits")
            .iter()
            .map(|row| to_vec(row).unwrap())
            .collect(),
        greedy: integers("greedy"),
    }
}
