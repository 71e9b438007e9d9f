//! Checkpoints that `quantize` writes: laid out anew they compute the same, packed nearly so.

use mlxr::config::PackingConfig;
use mlxr::files::ModelFiles;
use mlxr::models::Precision;
use mlxr::progress::Silent;
use mlxr::quantize::{Choice, Override, QuantizeSettings, Recipe, WriteOptions, plan, write};

use super::{Golden, REORDERED, distance, for_each, forward, likeliest, load, say};

/// Of positions, the share at which eight bits must find the same token likeliest.
const AGREEMENT: f64 = 0.8;

/// Norms of these hold how far they are from 1; mlx-lm's layout holds the sums, rounded to bfloat16, which moves
/// logits and may choose other experts.
const RAISED: [&str; 3] = ["qwen3_5", "qwen3_5_moe", "qwen3_next"];

/// The logits of both prompts by a checkpoint that was made of a golden one.
fn logits(golden: &Golden, settings: &QuantizeSettings) -> Vec<Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("made");
    let plan = plan(&ModelFiles::Folder(golden.folder.clone()), settings).unwrap();
    let options = WriteOptions {
        target: target.clone(),
        memory: Some(1 << 20),
        force: false,
    };
    write(&plan, &options, &Silent).unwrap();
    let loaded = load(&target, Precision::Float32).unwrap();
    let prompts = golden.input_ids.iter();
    prompts
        .map(|ids| {
            forward(
                &loaded,
                &[(0, 0, ids)],
                &mut [&mut loaded.model.new_cache()],
            )
        })
        .collect()
}

fn settings(overrides: Vec<Override>) -> QuantizeSettings {
    QuantizeSettings {
        base: PackingConfig::new("affine", Some(8), Some(32)).unwrap(),
        recipe: Recipe::Default,
        embed: None,
        head: None,
        expert: None,
        overrides,
        dtype: None,
    }
}

#[test]
fn what_is_only_laid_out_anew_computes_the_same() {
    let all = Override {
        pattern: "*".to_owned(),
        choice: Choice::Keep,
    };
    let settings = settings(vec![all]);
    for_each(|golden| {
        let found = logits(golden, &settings);
        for (ids, found) in golden.input_ids.iter().zip(&found) {
            let wanted = golden.forward(&[(0, 0, ids)], &mut [&mut golden.cache()]);
            let off = distance(found, &wanted);
            say(&format!(
                "{}: laid out anew, logits within {off:.1e}",
                golden.name
            ));
            let raised = RAISED.contains(&golden.name.as_str());
            assert!(raised || off <= REORDERED, "{}: {off}", golden.name);
        }
    });
}

#[test]
fn eight_bits_find_the_same_tokens_likeliest() {
    let settings = settings(Vec::new());
    for_each(|golden| {
        let vocabulary = golden.loaded.model.vocabulary();
        let (mut same, mut all) = (0, 0);
        for (found, wanted) in logits(golden, &settings).iter().zip(&golden.logits) {
            for (found, wanted) in found.chunks(vocabulary).zip(wanted.chunks(vocabulary)) {
                same += usize::from(likeliest(found) == likeliest(wanted));
                all += 1;
            }
        }
        let share = f64::from(same as u32) / f64::from(all);
        say(&format!(
            "{}: packed in 8 bits, {share:.3} of {all} tokens the same",
            golden.name
        ));
        assert!(share >= AGREEMENT, "{}: {share}", golden.name);
    });
}
