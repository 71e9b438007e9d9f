//! State that is copied out, cut, joined and put back: what follows must be what it would have been.

use std::sync::Arc;

use mlxr::cache::store::Store;
use mlxr::cache::trie::Rows as _;
use mlxr::cache::{Checkpoint, Rows, SequenceCache};
use mlxr::models::{LoadedModel, Precision};
use mlxr::ops::batch::Batch;
use mlxr::progress::Silent;

use super::{Golden, REORDERED, distance, for_each, forward, load, on};

/// More positions than two steps by which caches grow.
const LONG: usize = 560;

/// Tokens that are computed after what was put back.
const AFTER: usize = 40;

/// A long prompt: those of the checkpoint, again and again.
fn long(golden: &Golden) -> Vec<i32> {
    let ids = golden.input_ids.iter().flatten().copied();
    ids.cycle().take(LONG).collect()
}

/// Runs a check over every checkpoint in every precision of the device.
fn for_each_precision(check: impl Fn(&Golden, &LoadedModel)) {
    for_each(|golden| {
        check(golden, &golden.loaded);
        if !on("gpu") && !on("graphs") {
            check(golden, &load(&golden.folder, Precision::Int8).unwrap());
        }
    });
}

/// A sequence of the first tokens of `ids`.
fn computed(loaded: &LoadedModel, ids: &[i32]) -> SequenceCache {
    let mut cache = loaded.model.new_cache();
    forward(loaded, &[(0, 0, ids)], &mut [&mut cache]);
    cache
}

/// Logits of what follows in `ids`.
fn after(loaded: &LoadedModel, cache: &mut SequenceCache, ids: &[i32]) -> Vec<f32> {
    let start = cache.length();
    let ids = &ids[start..(start + AFTER).min(ids.len())];
    forward(loaded, &[(0, start, ids)], &mut [cache])
}

fn restored(
    mut cache: SequenceCache,
    (kept, rows): (usize, &[&Rows]),
    checkpoint: &Checkpoint,
    length: usize,
) -> SequenceCache {
    assert!(cache.length() >= kept);
    cache.restore(kept, rows, Some(checkpoint), length).unwrap();
    assert_eq!(cache.length(), length);
    cache
}

#[test]
fn a_copied_state_goes_on_as_the_one_that_it_was_copied_from() {
    for_each_precision(|golden, loaded| {
        let ids = long(golden);
        for length in [1, 7, 250, 300, 512] {
            let mut cache = computed(loaded, &ids[..length]);
            let rows = cache.copy_rows(0..length).unwrap();
            let checkpoint = cache.checkpoint(length).unwrap();
            let right = after(loaded, &mut cache, &ids);
            let empty = loaded.model.new_cache();
            let mut warm = restored(empty, (0, &[&rows]), &checkpoint, length);
            let found = after(loaded, &mut warm, &ids);
            let off = distance(&found, &right);
            assert!(off == 0.0, "{} after {length}: {off}", golden.name);
        }
    });
}

#[test]
fn runs_are_cut_and_joined_and_put_behind_what_is_kept() {
    for_each(|golden| {
        let (loaded, ids) = (&golden.loaded, long(golden));
        let other: Vec<i32> = ids.iter().rev().copied().collect();
        let mut cache = computed(loaded, &ids[..500]);
        for (kept, cuts, length) in [
            (0, [3, 130, 256], 256),
            (2, [3, 9, 301], 301),
            (130, [131, 255, 257], 257),
            (250, [256, 300, 499], 499),
            (250, [200, 262, 270], 270),
        ] {
            let mut parts = Vec::new();
            let mut rest = cache.copy_rows(0..500).unwrap();
            for cut in cuts {
                let (part, left) = rest.split(cut).unwrap();
                parts.push(part);
                rest = left;
            }
            let joined = parts[1].clone().join(parts[2].clone()).unwrap();
            let mut alone = computed(loaded, &ids[..length]);
            let checkpoint = alone.checkpoint(length).unwrap();
            let right = after(loaded, &mut alone, &ids);
            for rows in [
                vec![&parts[0], &parts[1], &parts[2]],
                vec![&parts[0], &joined],
            ] {
                let begun = [&ids[..kept], &other[..200]].concat();
                let begun = computed(loaded, &begun);
                let mut warm = restored(begun, (kept, &rows), &checkpoint, length);
                let found = after(loaded, &mut warm, &ids);
                let off = distance(&found, &right);
                assert!(off <= REORDERED, "{} {kept} {cuts:?}: {off}", golden.name);
            }
        }
    });
}

#[test]
fn states_that_are_captured_on_the_way_are_those_after_their_tokens() {
    for_each(|golden| {
        let (loaded, ids) = (&golden.loaded, long(golden));
        let whole = forward(
            loaded,
            &[(0, 0, &ids)],
            &mut [&mut loaded.model.new_cache()],
        );
        let vocabulary = loaded.model.vocabulary();
        let mut cache = loaded.model.new_cache();
        for (start, end, captures) in [(0, 300, vec![5, 6, 255, 299]), (300, 400, vec![301, 400])] {
            let mut batch = Batch::new(&[(0, start, &ids[start..end])]).unwrap();
            batch.segments[0].captures.clone_from(&captures);
            loaded.model.forward(&batch, &mut [&mut cache]).unwrap();
            let captured = captures
                .iter()
                .map(|&at| (at, cache.checkpoint(at).unwrap()));
            let captured: Vec<_> = captured.collect();
            cache.drop_captured();
            for (at, checkpoint) in captured {
                let rows = cache.copy_rows(0..at).unwrap();
                let empty = loaded.model.new_cache();
                let mut warm = restored(empty, (0, &[&rows]), &checkpoint, at);
                let found = after(loaded, &mut warm, &ids);
                let right = &whole[at * vocabulary..][..found.len()];
                let off = distance(&found, right);
                assert!(off <= REORDERED, "{} at {at}: {off}", golden.name);
            }
        }
    });
}

#[test]
fn a_stored_state_goes_on_as_the_one_that_was_stored() {
    for_each_precision(|golden, loaded| {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(
            folder.path(),
            ("key", folder.path()),
            1 << 30,
            Arc::new(Silent),
        )
        .unwrap();
        let ids = long(golden);
        let tokens: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let mut cache = loaded.model.new_cache();
        let mut right = Vec::new();
        for (start, end) in [(0, 10), (10, 300), (300, 301)] {
            forward(loaded, &[(0, start, &ids[start..end])], &mut [&mut cache]);
            let rows = cache.copy_rows(start..end).unwrap();
            let checkpoint = cache.checkpoint(end).unwrap();
            store.keep(&tokens[..end], &rows, Some(&checkpoint));
            // On a copy, so that the sequence goes on in the same pieces.
            let all = cache.copy_rows(0..end).unwrap();
            let empty = loaded.model.new_cache();
            let mut copy = restored(empty, (0, &[&all]), &checkpoint, end);
            right.push(after(loaded, &mut copy, &ids));
        }
        let stored = store.load().unwrap();
        assert_eq!(stored.len(), 3);
        for (index, right) in right.iter().enumerate() {
            let rows: Vec<&Rows> = stored[..=index].iter().map(|prefix| &prefix.rows).collect();
            let last = &stored[index];
            assert_eq!(last.tokens, tokens[..last.tokens.len()]);
            let checkpoint = last.checkpoint.as_ref();
            let mut warm = loaded.model.new_cache();
            warm.restore(0, &rows, checkpoint, last.tokens.len())
                .unwrap();
            let off = distance(&after(loaded, &mut warm, &ids), right);
            assert!(off == 0.0, "{} part {index}: {off}", golden.name);
        }
    });
}
