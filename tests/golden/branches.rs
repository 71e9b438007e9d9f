//! Prompts that begin as earlier ones did, in any order, some cut off: whatever an engine goes on from, its
//! answers are those of a sequence that computes everything. `MLXR_TEST_BRANCHES` says how many for each
//! checkpoint.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use mlxr::cache::store::Store;
use mlxr::engine::Engine;
use mlxr::engine::model_stepper::{self, Budget, ModelStepper};
use mlxr::engine::request::{Event, Finish, Request, Token, Usage};
use mlxr::engine::stepper::{Input, Work};
use mlxr::files::ModelFiles;
use mlxr::mlx::Device;
use mlxr::models::{LoadedModel, Precision};
use mlxr::progress::Silent;
use mlxr::sample::Sampling;
use mlxr::tokenizer::Tokenizer;

use super::{for_each, forward, load, on, say};

/// How far logarithms of probabilities may be from those computed in another order.
const REORDERED: f32 = 1e-3;

const LONGEST: usize = 400;

/// Which of what was computed must leave the memory of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// What was used longest ago, on the CPU; nothing on a GPU, whose memory other tests use too.
    Some,
    /// Most of it, to the memory of the host.
    ToTheHost,
    /// Most of it, and everything is stored.
    ToTheDisk,
}

/// For a model that has just been loaded in a process that has all others already.
fn budget(device: Device, leaves: Leaves, loaded: &LoadedModel) -> Budget {
    // MLX takes memory for weights when they are first used.
    let mut cache = loaded.model.new_cache();
    forward(loaded, &[(0, 0, &[40])], &mut [&mut cache]);
    let weights = mlxr::mlx::memory::usage().unwrap().active;
    let sequence = cache.expected_bytes(LONGEST, LONGEST);
    let whole = Budget {
        memory: 64 << 30,
        weights: 0,
        rest: 0,
        work: loaded.work_bytes,
        offload: 0,
    };
    match (device, leaves) {
        (Device::Cpu, _) => Budget {
            memory: 50 << 20,
            ..whole
        },
        (Device::Gpu, Leaves::Some) => whole,
        (Device::Gpu, Leaves::ToTheHost | Leaves::ToTheDisk) => Budget {
            memory: weights + 2 * sequence,
            weights,
            work: 0,
            offload: if leaves == Leaves::ToTheHost {
                8 * sequence
            } else {
                0
            },
            ..whole
        },
    }
}

/// Numbers without a pattern (`SplitMix64`: Steele et al. 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % limit.max(1) as u64) as usize
    }
}

/// A prompt that goes on from a part of an earlier one.
fn branch(random: &mut Random, known: &[Vec<u32>]) -> Request {
    let from = &known[random.below(known.len())];
    let mut tokens = from[..random.below(from.len() + 1)].to_vec();
    let own = if random.below(4) == 0 { 150 } else { 12 };
    for _ in 0..=random.below(own) {
        // Few, so that prompts meet by chance too.
        tokens.push(random.below(5) as u32 + 40);
    }
    tokens.truncate(LONGEST);
    let mut joints: Vec<usize> = (0..random.below(4))
        .map(|_| random.below(tokens.len() + 1))
        .collect();
    joints.sort_unstable();
    Request {
        tokens,
        joints,
        sampling: Sampling {
            logprobs: Some(2),
            ..Sampling::greedy()
        },
        limit: Some(1 + random.below(5)),
        ignore_eos: true,
        ..Request::default()
    }
}

/// What an engine answers; cut off after so many events, if at all.
fn ask(engine: &Engine, request: Request, patience: usize) -> (Vec<Token>, Usage, Finish) {
    let (sender, receiver) = channel();
    let (mut heard, mut events) = (Vec::new(), 0);
    let sink = Box::new(move |event: Event<'_>| {
        events += 1;
        match event {
            Event::Text { tokens, .. } => heard.extend_from_slice(tokens),
            Event::Done { usage, finish, .. } => {
                sender
                    .send((std::mem::take(&mut heard), usage, finish))
                    .unwrap();
            }
            Event::Failed(error) => panic!("{error}"),
            Event::Waiting | Event::Started { .. } | Event::Read(_) | Event::Prefill { .. } => {}
        }
        if events >= patience {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    engine.submit(request, sink).unwrap();
    receiver.recv().unwrap()
}

/// What a new sequence answers that computes all of the prompt.
fn alone(stepper: &mut ModelStepper, request: &Request) -> Vec<Token> {
    let slot = stepper.open().unwrap();
    let prompt = &request.tokens;
    stepper
        .sampling(slot, &request.sampling, 0, prompt)
        .unwrap();
    let mut found = Vec::new();
    let chunks = prompt.chunks(stepper.prefill_chunk()).map(<[u32]>::to_vec);
    let mut inputs: Vec<Input> = chunks.map(Input::Tokens).collect();
    let count = inputs.len();
    let answer = request.limit.unwrap() - 1;
    inputs.extend((0..answer).map(|_| Input::Previous));
    for (index, input) in inputs.into_iter().enumerate() {
        let work = Work {
            slot,
            input,
            sample: index + 1 >= count,
            mask: None,
            reading: None,
            captures: Vec::new(),
        };
        stepper.step(&[work]).unwrap();
        let sampled = stepper.collect().unwrap();
        found.extend(sampled.into_iter().map(|sampled| sampled.token.unwrap()));
    }
    stepper.close(slot);
    found
}

/// Whether two answers are the same, up to where it is all but a tie.
fn is_same(found: &[Token], right: &[Token]) -> bool {
    for (found, right) in found.iter().zip(right) {
        let [ours, theirs] = [found, right].map(|token| token.logprobs.as_ref().unwrap());
        if (ours.chosen - theirs.chosen).abs() > REORDERED {
            return false;
        }
        if found.id != right.id {
            return (theirs.top[0].1 - theirs.top[1].1).abs() <= 2.0 * REORDERED;
        }
    }
    true
}

/// Answers many prompts in an engine, and holds every answer against that of a sequence that computes all.
fn check(leaves: Leaves) {
    // Graphs take their time on a CPU.
    let few = if on("graphs") { 12 } else { 60 };
    let count = std::env::var("MLXR_TEST_BRANCHES").map_or(few, |count| count.parse().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
    let tokenizer = Arc::new(Tokenizer::load(&ModelFiles::Folder(folder)).unwrap());
    for_each(|golden| {
        let device = if on("gpu") || on("graphs") {
            Device::Gpu
        } else {
            Device::Cpu
        };
        let kept = tempfile::tempdir().unwrap();
        let store = (leaves == Leaves::ToTheDisk).then(|| {
            let key = ("key", kept.path());
            Store::open(kept.path(), key, 1 << 30, Arc::new(Silent)).unwrap()
        });
        let loaded = load(&golden.folder, Precision::Float32).unwrap();
        let whole = budget(device, Leaves::Some, &loaded);
        let folder = golden.folder.clone();
        let engine = Engine::start(Arc::clone(&tokenizer), move || {
            let loaded = load(&folder, Precision::Float32)?;
            let budget = budget(device, leaves, &loaded);
            let program = loaded.model.decode_program()?;
            Ok(model_stepper::new(
                loaded.model,
                program,
                device,
                store,
                budget,
                None,
            ))
        });
        let engine = engine.unwrap();
        let program = loaded.model.decode_program().unwrap();
        let mut cold = model_stepper::new(loaded.model, program, device, None, whole, None);
        let mut random = Random(7);
        let mut known = vec![vec![40, 41, 42]];
        let (mut cached, mut prompts) = (0, 0);
        for round in 0..count {
            let request = branch(&mut random, &known);
            let patience = if random.below(5) == 0 {
                1 + random.below(4)
            } else {
                usize::MAX
            };
            let (tokens, usage, finish) = ask(&engine, request.clone(), patience);
            cached += usage.cached;
            prompts += usage.prompt;
            let right = alone(&mut *cold, &request);
            assert!(
                is_same(&tokens, &right),
                "{} in round {round}, {} of {} cached: {tokens:?} and not {right:?}",
                golden.name,
                usage.cached,
                usage.prompt
            );
            assert!(finish == Finish::Cancelled || tokens.len() == right.len());
            let answer = tokens.iter().map(|token| token.id);
            known.push(request.tokens.into_iter().chain(answer).collect());
        }
        let share = 100 * cached / prompts;
        say(&format!(
            "{} {leaves:?}: {share} % of {count} prompts' tokens were there",
            golden.name
        ));
        // All of it can be a quarter, of so few prompts.
        assert!(share > 15, "{}: {share} % cached", golden.name);
    });
}

#[test]
fn whatever_is_gone_on_from_answers_are_those_of_a_cold_start() {
    check(Leaves::Some);
}

/// In a process of its own, since MLX counts the memory of a process.
#[test]
fn what_leaves_the_memory_of_a_device_comes_back_as_it_was() {
    if !on("gpu") && !on("graphs") {
        say("skipped: no device has a memory of its own (set MLXR_TEST_DEVICE)");
        return;
    }
    if std::env::var_os("MLXR_TEST_ALONE").is_some() {
        check(Leaves::ToTheHost);
        check(Leaves::ToTheDisk);
        return;
    }
    let name = "branches::what_leaves_the_memory_of_a_device_comes_back_as_it_was";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env("MLXR_TEST_ALONE", "1")
        .status();
    assert!(status.unwrap().success());
}
