//! Answers along a constraint on every path that samples: whatever a model would say, they are what was asked for.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use mlxr::constraint::Constraint;
use mlxr::engine::Engine;
use mlxr::engine::model_stepper::{self, Budget};
use mlxr::engine::request::{Event, Finish, Request};
use mlxr::files::ModelFiles;
use mlxr::mlx::{Device, synchronize};
use mlxr::models::{Precision, decode_program};
use mlxr::sample::Sampling;
use mlxr::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{Golden, for_each, load, on, ranks, say};

/// Some tokenizer: the checkpoints have none.
pub(super) fn tokenizer() -> Arc<Tokenizer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
    Arc::new(Tokenizer::load(&ModelFiles::Folder(folder)).unwrap())
}

/// An engine that computes with a checkpoint.
pub(super) fn engine(golden: &Golden, tokenizer: &Arc<Tokenizer>) -> Engine {
    let device = if on("gpu") || on("graphs") {
        Device::Gpu
    } else {
        Device::Cpu
    };
    let folder = golden.folder.clone();
    let engine = Engine::start(Arc::clone(tokenizer), move || {
        let loaded = load(&folder, Precision::Float32)?;
        let budget = Budget {
            memory: 64 << 30,
            weights: 0,
            rest: 0,
            work: loaded.work_bytes,
            offload: 0,
        };
        let program = decode_program(&*loaded.model, ranks::group().map(AsRef::as_ref))?;
        Ok(model_stepper::new(
            loaded.model,
            program,
            device,
            None,
            budget,
            None,
        ))
    });
    engine.unwrap()
}

/// The whole answer, and how it ended.
fn answer(engine: &Engine, request: Request) -> (String, Vec<u32>, Finish) {
    let (sender, receiver) = channel();
    let (mut whole, mut ids) = (String::new(), Vec::new());
    let sink = Box::new(move |event: Event<'_>| {
        match event {
            Event::Text { text, tokens } => {
                whole.push_str(text);
                ids.extend(tokens.iter().map(|token| token.id));
            }
            Event::Done { finish, .. } => {
                let (whole, ids) = (std::mem::take(&mut whole), std::mem::take(&mut ids));
                sender.send((whole, ids, finish)).unwrap();
            }
            Event::Failed(error) => panic!("{error}"),
            Event::Waiting | Event::Started { .. } | Event::Read(_) | Event::Prefill { .. } => {}
        }
        std::ops::ControlFlow::Continue(())
    });
    engine.submit(request, sink).unwrap();
    receiver.recv().unwrap()
}

#[test]
fn engines_write_what_the_reference_does() {
    let tokenizer = tokenizer();
    for_each(|golden| {
        let engine = engine(golden, &tokenizer);
        for (ids, expected) in golden.input_ids.iter().zip(&golden.greedy) {
            let request = Request {
                tokens: ids.iter().map(|&id| id as u32).collect(),
                limit: Some(expected.len()),
                sampling: Sampling {
                    temperature: 0.0,
                    ..Sampling::default()
                },
                ..Request::default()
            };
            let (_, found, _) = answer(&engine, request);
            let found: Vec<i32> = found.into_iter().map(|id| id as i32).collect();
            // The last tokens may be no text yet, and one may end it.
            assert!(
                found.len() + 4 >= expected.len(),
                "{}: {found:?}",
                golden.name
            );
            assert_eq!(found, expected[..found.len()], "{}", golden.name);
        }
    });
}

#[test]
fn the_kernel_that_decodes_knows_these() {
    if !on("gpu") {
        return say("skipped: the kernel that decodes is one of GPUs");
    }
    for_each(|golden| {
        let loaded = load(&golden.folder, Precision::Float32).unwrap();
        let group = ranks::group().map(AsRef::as_ref);
        let program = decode_program(&*loaded.model, group).unwrap();
        let is_known =
            ["gemma3", "gpt_oss", "llama31", "qwen3", "qwen3_moe"].contains(&&*golden.name);
        assert_eq!(program.is_some(), is_known, "{}", golden.name);
    });
    // Nothing has waited for the kernel, which may not outlive the driver.
    synchronize().unwrap();
}

#[test]
fn answers_are_what_is_asked_for() {
    let tokenizer = tokenizer();
    for_each(|golden| {
        let engine = engine(golden, &tokenizer);
        let request = |seed, temperature| Request {
            tokens: vec![40, 41, 42, 43],
            sampling: Sampling {
                temperature,
                seed: Some(seed),
                repeat_penalty: 1.2,
                ..Sampling::default()
            },
            ..Request::default()
        };
        let schema = json!({
            "type": "object", "required": ["a", "b"], "additionalProperties": false,
            "properties": {
                "a": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
                "b": {"type": "string", "maxLength": 5},
            },
        });
        for (seed, temperature) in [(1, 0.0), (2, 0.7), (3, 3.0)] {
            let (text, _, finish) = answer(
                &engine,
                Request {
                    constraint: Some(Constraint::JsonSchema(schema.clone())),
                    ..request(seed, temperature)
                },
            );
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(
                value["a"].is_array() && value["b"].is_string(),
                "{}: {text}",
                golden.name
            );
            assert_eq!(finish, Finish::Complete, "{}", golden.name);
        }
        // A constraint that allows all that comes changes nothing of it.
        let greedy = |constraint| {
            let request = Request {
                constraint,
                limit: Some(8),
                ..request(4, 0.0)
            };
            answer(&engine, request)
        };
        let (text, ids, finish) = greedy(None);
        let is_text = !text.contains('\u{fffd}') && ids.iter().all(|id| *id > 2);
        if finish == Finish::Length && is_text {
            let any = greedy(Some(Constraint::Regex("(?s:.){200}".to_owned())));
            assert_eq!((any.1, any.2), (ids, finish), "{}", golden.name);
        }
    });
}
