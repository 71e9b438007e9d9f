//! What the instructions say, without a GPU; and with one, the kernel against the graph.

mod model;

use self::model::{
    HEADS, HIDDEN, INNER, KV_HEADS, Model, RAGGED, Storage, VOCABULARY, WIDE, WIDTH, WIDTHS,
    affine, dense, float4,
};
use super::instruction::{Instruction, SPLITS, Word, warps_of_a_tile};
use super::kernel::SHARED;
use super::program::splits;
use super::stored::stored;
use super::*;
use crate::cache::{Places, SequenceCache};
use crate::kernels::router::Scores;
use crate::mlx::opens_gpu;
use crate::mlx::{Array, DeviceChoice, Dtype, Mode, eval, open, synchronize, to_vec};
use crate::ops::experts::Experts;
use crate::ops::vector::Vector;

fn instructions(storage: Storage) -> (Builder, Vec<Instruction>) {
    let mut program = Builder::default();
    assert!(Model::new(storage, WIDTHS).describe(&mut program));
    let instructions = program.resolved(132);
    (program, instructions)
}

fn numbers<const N: usize>(instruction: &Instruction, words: [usize; N]) -> [i64; N] {
    words.map(|word| match instruction[word] {
        Word::Number(number) => number,
        other => panic!("word {word} is {other:?}"),
    })
}

#[test]
fn a_model_is_a_list_of_instructions() {
    open(DeviceChoice::Cpu, None).unwrap();
    let (program, all) = instructions(affine(4, 64));
    let (outside, all) = (&all[..1], &all[1..]);
    assert_eq!(numbers(&outside[0], [0, 1]), [0, 2]);
    let codes: Vec<i64> = all.iter().map(|words| numbers(words, [0])[0]).collect();
    let layer = [2, 3, 4, 2, 2, 2];
    let mut right = vec![5, 1];
    right.extend(layer.iter().chain(&layer));
    right.extend([2, 0, 0]);
    assert_eq!(codes, right);

    // Regions of sixteen rows, one after the other.
    let [hidden, heads, kv_heads, width, inner] =
        [HIDDEN, HEADS, KV_HEADS, WIDTH, INNER].map(i64::from);
    let projected = 16 * hidden;
    let attended = projected + 16 * (heads + 2 * kv_heads) * width;
    let gated = attended + 16 * heads * width;
    let partial = gated + 16 * inner;
    let rounded = partial + 16 * heads * i64::from(SPLITS) * (width + 4);
    let squares = rounded + 16 * hidden;
    let end = squares + hidden;
    assert_eq!(program.scratch.numbers(), end + 16 * width);

    let number = |number: f32| i64::from(number.to_bits());
    assert_eq!(
        numbers(&all[1], [1, 2, 3, 7, 8]),
        [hidden, 1, 64, 0, number(1.5)]
    );
    let inputs = numbers(&all[2], [1, 4, 7, 8, 10, 11, 14, 15, 20, 25, 30]);
    assert_eq!(
        inputs,
        [hidden, 0, 0, projected, 3, 768, 16, 2, 512, 128, 128]
    );
    assert_eq!(numbers(&all[0], [1, 3, 4]), [width, number(1.0), end]);
    let [first, second] = [&all[3], &all[9]].map(|words| {
        assert_eq!(
            numbers(words, [2, 3, 4, 5]),
            [heads, kv_heads, width, projected]
        );
        assert_eq!(
            numbers(words, [6, 7, 13, 16]),
            [attended, partial, width, 0]
        );
        numbers(words, [1, 17])
    });
    assert_eq!((first, second), ([0, 0], [1, 40]));
    assert_eq!(
        numbers(&all[3], [8, 9]),
        [0, 0],
        "the first layer has no norms of heads"
    );
    assert!(matches!(
        all[9][8..10],
        [Word::Address(_), Word::Address(_)]
    ));
    assert_eq!(numbers(&all[3], [12]), [end]);
    assert_eq!(numbers(&all[9], [12]), [end], "both turn alike");
    assert_eq!(
        numbers(&all[4], [2, 4, 6, 7]),
        numbers(&all[3], [2, 4, 6, 7])
    );
    assert_eq!(
        numbers(&all[5], [1, 4, 5, 7, 8, 11]),
        [512, attended, 0, 1, 0, hidden]
    );
    // What is read and written in bfloat16 where there are many rows.
    let of_many = [&all[2], &all[5], &all[7]].map(|words| numbers(words, [12])[0]);
    assert_eq!(of_many, [rounded, attended, gated]);
    // Who makes it is told in which order, and where squares are.
    let order = 1 | 4 | 8 << 3;
    for maker in [1, 3, 4, 5, 6, 7] {
        assert_eq!(numbers(&all[maker], [26]), [order]);
    }
    for maker in [&all[1], &all[5], &all[7]] {
        assert_eq!(numbers(maker, [13, 22]), [rounded, squares]);
        assert!(
            matches!(maker[21], Word::Address(_)),
            "the norm that follows"
        );
    }
    for taker in [2, 6] {
        assert_eq!(numbers(&all[taker], [3]), [squares]);
    }
    assert_eq!(
        numbers(&all[6], [7, 8, 9, 10, 11, 25]),
        [2, gated, 0, 2, inner, inner]
    );
    assert_eq!(numbers(&all[7], [1, 4, 7, 8]), [inner, gated, 1, 0]);
    assert_eq!(
        numbers(&all[14], [7, 11, 13]),
        [3, i64::from(VOCABULARY), number(30.0)]
    );
    assert_eq!(numbers(&all[14], [19]), [0], "the head has no bias");
    for words in all {
        for word in words {
            if let Word::Address(array) = word {
                assert!(*array < program.arrays.len());
            }
        }
    }
}

#[test]
fn experts_are_read_as_they_are_taken() {
    open(DeviceChoice::Cpu, None).unwrap();
    let mut program = Builder::default();
    assert!(Model::sparse(affine(4, 64), WIDTHS).describe(&mut program));
    let all = program.resolved(132);
    let [router, gates, back] = [13, 14, 15].map(|at| &all[at]);
    let [hidden, inner] = [HIDDEN, INNER / 4].map(i64::from);
    let of_router = numbers(router, [0, 1, 7, 11, 31]);
    assert_eq!(of_router, [2, hidden, 0, 16, 0]);
    let scores = numbers(router, [8])[0];
    let of_experts = [31, 27, 29, 30];
    assert_eq!(numbers(gates, of_experts), [3, scores, 16, 1]);
    assert_eq!(numbers(back, of_experts), [3, scores, 16, 1]);
    assert_eq!(numbers(gates, [1, 7, 11]), [hidden, 2, inner]);
    assert_eq!(numbers(back, [1, 7, 11]), [3 * inner, 1, hidden]);
    assert_eq!(numbers(back, [4]), numbers(gates, [8]));
    assert_eq!(numbers(&all[9], [31]), [0], "three matrices are no experts");
    let shared = |change: &dyn Fn(&mut Experts)| {
        let mut model = Model::sparse(affine(4, 64), WIDTHS);
        change(model.layers[1].experts.as_mut().unwrap());
        model.describe(&mut Builder::default())
    };
    assert!(!shared(&|experts| experts.router.factor = 2.5));
    assert!(!shared(&|experts| experts.router.scores = Scores::Sigmoid));
    assert!(!shared(&|experts| experts.router.taken = 17));
}

#[test]
fn formats_have_variants() {
    open(DeviceChoice::Cpu, None).unwrap();
    for (storage, right) in [
        (dense(Dtype::Bfloat16), (0, 6 << 3)),
        (affine(4, 32), (1, 4 | 8 << 3)),
        (affine(4, 128), (3, 2 | 4 | 8 << 3)),
        (affine(8, 32), (4, 7 << 3)),
        (affine(8, 64), (5, 1 | 7 << 3)),
        (dense(Dtype::Float32), (6, 5 << 3)),
        (float4(Mode::Mxfp4, 32), (7, 2 | 4 | 8 << 3)),
        (float4(Mode::Nvfp4, 16), (8, 2 | 4 | 8 << 3)),
    ] {
        let (_, all) = instructions(storage);
        let (embedded, projected) = (&all[2], &all[3]);
        let found = (numbers(projected, [15])[0], numbers(embedded, [26])[0]);
        assert_eq!(found, right, "the variant, and the order of its inputs");
    }
}

#[test]
fn rows_may_end_within_a_step() {
    open(DeviceChoice::Cpu, None).unwrap();
    for (storage, variant) in [(affine(4, 64), 16 + 2), (float4(Mode::Mxfp4, 32), 16 + 7)] {
        let mut program = Builder::default();
        assert!(Model::with_sinks(storage, RAGGED).describe(&mut program));
        let all = program.resolved(132);
        let [router, gates, back] = [7, 8, 9].map(|at| &all[at]);
        assert_eq!(
            numbers(router, [11, 20, 29]),
            [16, 16, 0],
            "zeros after twelve experts"
        );
        assert_eq!(numbers(gates, [1, 9, 15, 29]), [576, 2, variant, 16]);
        assert_eq!(numbers(gates, [13]), [i64::from(1.5_f32.to_bits())]);
        assert_eq!(numbers(back, [1, 15]), [3 * 320, variant]);
        assert!(matches!(back[19], Word::Address(_)), "experts have biases");
        for at in [4, 5] {
            assert!(
                matches!(all[at][14], Word::Address(_)),
                "attention has sinks"
            );
        }
        // Scales of whole steps, of affine weights.
        let Word::Address(scales) = all[3][17] else {
            panic!("{:?}", all[3][17]);
        };
        let groups = program.arrays[scales].shape()[1];
        assert_eq!(groups, if variant == 18 { 12 } else { 18 });
    }
}

#[test]
fn what_layers_make_may_be_normalized() {
    open(DeviceChoice::Cpu, None).unwrap();
    let mut program = Builder::default();
    assert!(Model::with_norms_after(affine(4, 64), WIDTHS).describe(&mut program));
    let all = program.resolved(132);
    let codes: Vec<i64> = all.iter().map(|words| numbers(words, [0])[0]).collect();
    assert_eq!(codes[2..11], [1, 2, 3, 4, 2, 7, 2, 2, 7]);
    for (product, added) in [(6, 7), (9, 10)] {
        let hidden = i64::from(HIDDEN);
        let [made] = numbers(&all[product], [8]);
        assert_eq!(numbers(&all[product], [7, 11]), [0, hidden]);
        assert_eq!(numbers(&all[added], [1, 4, 8]), [hidden, made, 0]);
        assert!(
            matches!(all[added][5], Word::Address(_)),
            "a norm has weights"
        );
    }
}

#[test]
fn what_the_kernel_does_not_know_has_no_program() {
    open(DeviceChoice::Cpu, None).unwrap();
    let is_known = |change: &dyn Fn(&mut Model)| {
        let mut model = Model::new(dense(Dtype::Bfloat16), WIDTHS);
        change(&mut model);
        model.describe(&mut Builder::default())
    };
    assert!(is_known(&|_| ()));
    let on_host = Vector::Host([0_f32; 8][..].into());
    assert!(!is_known(
        &|model| model.layers[1].attention.sinks = Some(on_host.clone())
    ));
    assert!(!is_known(&|model| model.layers[1]
        .attention
        .values_in_keys = true));
    assert!(!is_known(&|model| model.layers[1].attention.kv_heads = 4));
    assert!(!is_known(&|model| model.layers[0].attention.width = 96));
    assert!(!is_known(&|model| {
        // Matrices that are read together are stored alike.
        model.layers[0].mlp.up = Model::new(affine(8, 64), WIDTHS).layers[0].mlp.up.clone();
    }));
    assert!(!Model::new(dense(Dtype::Float16), WIDTHS).describe(&mut Builder::default()));
    assert!(!Model::new(affine(8, 128), WIDTHS).describe(&mut Builder::default()));
    assert!(!Model::new(affine(6, 64), WIDTHS).describe(&mut Builder::default()));
    let done = Builder::default().finish().unwrap();
    assert!(done.is_none(), "there is no GPU");
}

#[test]
fn warps_share_tiles_where_there_are_few() {
    // 8 tiles of 32 steps for 2112 warps, a matrix with many, and one with few steps.
    assert_eq!(warps_of_a_tile(8, 32, 132), 16);
    assert_eq!(warps_of_a_tile(16_000, 32, 132), 4);
    assert_eq!(warps_of_a_tile(8, 1, 132), 16);
    assert_eq!(warps_of_a_tile(264, 32, 132), 8);
}

#[test]
fn shared_memory_is_what_the_sources_take() {
    open(DeviceChoice::Cpu, None).unwrap();
    let matrix = Model::new(affine(4, 64), WIDTHS).layers[0]
        .mlp
        .down
        .matrix
        .clone();
    let form = stored(&matrix).unwrap().form;
    assert_eq!((form.steps(14_336), form.steps(14_400)), (56, 57));
    // Beside the ring, products and gaps, two parts of inputs and the sums of them.
    let left = SHARED - 16 * 4 * (2048 + 32 * 8) - 2 * 16 * 16 * 4 - 2 * 64;
    assert_eq!(form.room(1, form.slot()), left / (2 * 512 + 2 * 8 * 4));
    assert!(form.room(1, form.slot()) >= 56, "14336 inputs at once");
    assert_eq!(form.room(16, form.slot()), 16, "4096 inputs of 16 rows");
}

#[test]
fn positions_are_parted_where_heads_are_few() {
    assert_eq!(splits(132, 8, 1), 1);
    assert_eq!(splits(132, 8, 1000), 8);
    assert_eq!(splits(132, 8, 100_000), 16);
    assert_eq!(splits(132, 2, 100_000), SPLITS);
    assert_eq!(splits(132, 200, 100_000), 1);
}

/// `‖a - b‖ / ‖b‖`, infinite where a number is none.
fn distance(a: &Array, b: &Array) -> f32 {
    let (a, b) = (to_vec(a).unwrap(), to_vec(b).unwrap());
    assert_eq!(a.len(), b.len());
    let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>();
    let off = squares(&mut a.iter().zip(&b).map(|(a, b)| a - b));
    let distance = (off / squares(&mut b.iter().copied())).sqrt();
    if distance.is_nan() {
        f32::INFINITY
    } else {
        distance
    }
}

/// A sequence of each length goes through the prompt by the graph, and through some steps by the kernel too.
fn compare(name: &str, model: &Model, lengths: &[usize]) {
    let exact = model.exact();
    let mut program = Builder::default();
    assert!(model.describe(&mut program));
    let program = program.finish().unwrap().unwrap();
    assert!(lengths.len() <= program.rows());
    // Of float32 the graph computes what is right.
    let rounding = if name.starts_with("f32") { 1e-5 } else { 2e-3 };
    let token =
        |sequence: usize, position: usize| (sequence * 131 + position * 17) as i32 % VOCABULARY;
    let all_caches = |model: &Model| -> Vec<SequenceCache> {
        let mut caches: Vec<_> = lengths.iter().map(|_| model.new_cache()).collect();
        for (sequence, &length) in lengths.iter().enumerate() {
            let tokens: Vec<i32> = (0..length).map(|at| token(sequence, at)).collect();
            model.logits(&[(0, 0, &tokens)], &mut caches[sequence..=sequence]);
        }
        caches
    };
    let mut sets = [&exact, model, model].map(all_caches);
    let mut places = None;
    let mut after = Array::from_slice(&[0_i32], &[1]);
    for step in 0..5 {
        let tokens: Vec<i32> = (0..lengths.len())
            .map(|sequence| token(sequence, lengths[sequence] + step))
            .collect();
        let positions: Vec<i32> = lengths
            .iter()
            .map(|&length| (length + step) as i32)
            .collect();
        let pieces: Vec<(usize, usize, &[i32])> = (0..lengths.len())
            .map(|sequence| {
                (
                    sequence,
                    lengths[sequence] + step,
                    &tokens[sequence..=sequence],
                )
            })
            .collect();
        if step == 3 {
            compare_kept(name, &mut sets, lengths, step, rounding);
        }
        let right = exact.logits(&pieces, &mut sets[0]);
        let graph = model.logits(&pieces, &mut sets[1]);
        let caches = &mut sets[2];
        let kernel = if step == 3 {
            // The graph goes on with what the kernel has written, and the kernel with what the graph writes now.
            model.logits(&pieces, caches);
            continue;
        } else {
            let reserved = caches
                .iter_mut()
                .map(|cache| cache.reserve(program.kept()).unwrap().unwrap());
            let all = Places::new(reserved.collect(), places.take()).unwrap();
            let count = [lengths.len() as i32];
            let logits = program.step(&Step {
                tokens: &Array::from_slice(&tokens, &count),
                positions: &Array::from_slice(&positions, &count),
                longest: positions.iter().copied().max().unwrap(),
                caches: &all.addresses,
                places: &all.rows,
                after: &after,
            });
            let logits = logits.unwrap();
            eval([&logits]).unwrap();
            for cache in caches {
                cache.advance();
            }
            places = Some(all);
            after = Array::from_slice(&[step as i32], &[1]);
            logits
        };
        let off = [&graph, &kernel].map(|logits| distance(logits, &right));
        eprintln!(
            "{name}, {} rows, step {step}: graph {:.1e}, kernel {:.1e}",
            lengths.len(),
            off[0],
            off[1]
        );
        assert!(off[1] <= 1.1 * off[0] + rounding, "{name}: {off:?}");
    }
}

/// Keys and values of the steps so far: of float32, of the graph, of the kernel.
fn compare_kept(
    name: &str,
    sets: &mut [Vec<SequenceCache>; 3],
    lengths: &[usize],
    steps: usize,
    rounding: f32,
) {
    let [right, graph, kernel] = sets.each_mut().map(|caches| -> Vec<Array> {
        let of_sequence = |(cache, &length): (&mut SequenceCache, &usize)| {
            let rows = cache.copy_rows(length..length + steps).unwrap();
            rows.on_device()
        };
        let all = caches.iter_mut().zip(lengths).flat_map(of_sequence);
        all.map(|array| array.as_dtype(Dtype::Float32).unwrap())
            .collect()
    });
    assert!(!right.is_empty());
    for ((right, graph), kernel) in right.iter().zip(&graph).zip(&kernel) {
        let off = [graph, kernel].map(|kept| distance(kept, right));
        eprintln!("{name}, kept: graph {:.1e}, kernel {:.1e}", off[0], off[1]);
        assert!(off[1] <= 1.1 * off[0] + rounding, "{name}, kept: {off:?}");
    }
}

/// MLX would round what is compared with.
#[expect(clippy::disallowed_methods, reason = "MLX reads it too")]
fn assert_rounds_nothing() {
    let is_off = std::env::var("MLX_ENABLE_TF32").is_ok_and(|value| value == "0");
    assert!(
        is_off,
        "set MLX_ENABLE_TF32=0: products of float32 are rounded to TF32 otherwise"
    );
}

/// A format of weights, with one sequence, some and as many as the kernel takes at once, and with experts; rows end with a
/// step or within one.
fn compare_all(name: &str, storage: Storage, most: usize) {
    if !opens_gpu() {
        return;
    }
    assert_rounds_nothing();
    // One of them grows out of its buffers, some are longer than a window.
    let lengths: Vec<usize> = (0..16).map(|i| (254 + 97 * i) % 331).collect();
    for rows in [1, 3, most] {
        compare(name, &Model::new(storage, WIDTHS), &lengths[..rows]);
    }
    let sparse = format!("{name} with experts");
    compare(&sparse, &Model::sparse(storage, WIDTHS), &lengths[..1]);
    for rows in [1, most] {
        let ragged = format!("{name}, ragged");
        compare(&ragged, &Model::new(storage, RAGGED), &lengths[..rows]);
    }
    let after = format!("{name}, wide heads, with norms after");
    for rows in [1, most] {
        compare(
            &after,
            &Model::with_norms_after(storage, WIDE),
            &lengths[..rows],
        );
    }
    let sinks = format!("{name}, ragged, with sinks");
    compare(&sinks, &Model::with_sinks(storage, RAGGED), &lengths[..1]);
    synchronize().unwrap();
}

/// The kernel against the graph, one test for each format: what MLX compiles for each takes a while.
mod against_the_graph {
    use super::*;

    #[test]
    fn bfloat16() {
        compare_all("bf16", dense(Dtype::Bfloat16), 16);
    }

    #[test]
    fn float32() {
        compare_all("f32", dense(Dtype::Float32), 4);
    }

    #[test]
    fn four_bits_in_groups_of_64() {
        compare_all("affine4g64", affine(4, 64), 16);
    }

    #[test]
    fn four_bits_in_groups_of_32() {
        compare_all("affine4g32", affine(4, 32), 16);
    }

    #[test]
    fn eight_bits_in_groups_of_64() {
        compare_all("affine8g64", affine(8, 64), 16);
    }

    #[test]
    fn eight_bits_in_groups_of_32() {
        compare_all("affine8g32", affine(8, 32), 16);
    }

    #[test]
    fn mxfp4() {
        compare_all("mxfp4", float4(Mode::Mxfp4, 32), 16);
    }

    #[test]
    fn nvfp4() {
        compare_all("nvfp4", float4(Mode::Nvfp4, 16), 16);
    }
}
