//! The engine over a real model: the built-in one, whose files are always there.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use mlxr::engine::Engine;
use mlxr::engine::request::{Event, Finish, Logprobs, Request, Usage};
use mlxr::files::ModelFiles;
use mlxr::mlx::DeviceChoice;
use mlxr::progress::Silent;
use mlxr::sample::Sampling;
use mlxr::tokenizer::{Bos, Tokenizer};
use mlxr::{Error, LoadOptions};

/// What became of one request.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    logprobs: Vec<Logprobs>,
    finish: Finish,
    usage: Usage,
}

struct Model {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
}

impl Model {
    fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
        // With int8, the order of sums may turn a near tie, and a batch has another order.
        let options = LoadOptions {
            device: DeviceChoice::Cpu,
            exact: true,
            ..LoadOptions::default()
        };
        let loaded = mlxr::open(&ModelFiles::Folder(folder), &options, Arc::new(Silent)).unwrap();
        Self {
            engine: loaded.engine,
            tokenizer: loaded.tokenizer,
        }
    }

    fn request(&self, text: &str, sampling: Sampling, limit: usize) -> Request {
        let prompt = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
        Request {
            tokens: self.tokenizer.encode(&prompt, Bos::Never).unwrap(),
            sampling,
            limit: Some(limit),
            ..Request::default()
        }
    }

    fn submit(&self, request: Request) -> Receiver<Result<Answer, Error>> {
        let (sender, receiver) = channel();
        let mut ids = Vec::new();
        let mut text = String::new();
        let mut logprobs = Vec::new();
        let sink = Box::new(move |event: Event<'_>| {
            match event {
                Event::Text {
                    text: piece,
                    tokens,
                } => {
                    text.push_str(piece);
                    ids.extend(tokens.iter().map(|token| token.id));
                    logprobs.extend(tokens.iter().filter_map(|token| token.logprobs.clone()));
                }
                Event::Done { finish, usage, .. } => {
                    let (ids, text, logprobs) = (
                        std::mem::take(&mut ids),
                        std::mem::take(&mut text),
                        std::mem::take(&mut logprobs),
                    );
                    sender
                        .send(Ok(Answer {
                            ids,
                            text,
                            logprobs,
                            finish,
                            usage,
                        }))
                        .unwrap();
                }
                Event::Failed(error) => sender.send(Err(error)).unwrap(),
                Event::Waiting | Event::Started { .. } | Event::Read(_) | Event::Prefill { .. } => {
                }
            }
            ControlFlow::Continue(())
        });
        self.engine.submit(request, sink).unwrap();
        receiver
    }

    fn answer(&self, request: Request) -> Answer {
        self.submit(request).recv().unwrap().unwrap()
    }
}

fn seeded(seed: u64) -> Sampling {
    Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 0.95,
        seed: Some(seed),
        ..Sampling::default()
    }
}

const PROMPTS: [&str; 4] = [
    "Tell me a story about a whale",
    "Is this happy or sad? The soup was cold.",
    "Write as JSON: Olga is 41 years old and lives by the river.",
    "Once upon a time",
];

#[test]
fn the_same_seed_gives_the_same_text_alone_or_in_a_batch_warm_or_cold() {
    let model = Model::open();
    let request = |index: usize| model.request(PROMPTS[index], seeded(index as u64), 48);
    let cold: Vec<Answer> = (0..4).map(|index| model.answer(request(index))).collect();
    let warm: Vec<Answer> = (0..4).map(|index| model.answer(request(index))).collect();
    let together: Vec<_> = (0..4).map(|index| model.submit(request(index))).collect();
    for (index, receiver) in together.into_iter().enumerate() {
        let batched = receiver.recv().unwrap().unwrap();
        assert_eq!(
            batched.ids, cold[index].ids,
            "in a batch: {}",
            PROMPTS[index]
        );
        assert_eq!(batched.text, cold[index].text);
        assert_eq!(warm[index].ids, cold[index].ids, "warm: {}", PROMPTS[index]);
        assert!(warm[index].usage.cached > 0, "{:?}", warm[index].usage);
    }
    let fresh = Model::open();
    assert_eq!(
        fresh.answer(request(0)).ids,
        cold[0].ids,
        "another process would say the same"
    );
}

#[test]
fn no_seed_gives_different_texts() {
    let model = Model::open();
    let sampling = Sampling {
        seed: None,
        ..seeded(0)
    };
    let texts: Vec<String> = (0..4)
        .map(|_| {
            model
                .answer(model.request(PROMPTS[0], sampling.clone(), 40))
                .text
        })
        .collect();
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
}

#[test]
fn an_exact_repeat_evaluates_one_token() {
    let model = Model::open();
    let request = model.request(PROMPTS[0], Sampling::greedy(), 8);
    let first = model.answer(request.clone());
    let prompt = request.tokens.len();
    let usage = Usage {
        prompt,
        matched: 0,
        cached: 0,
        evaluated: prompt,
        completion: 8,
    };
    assert_eq!((first.usage, first.finish.clone()), (usage, Finish::Length));
    let second = model.answer(request);
    let usage = Usage {
        prompt,
        matched: prompt - 1,
        cached: prompt - 1,
        evaluated: 1,
        completion: 8,
    };
    assert_eq!(second.usage, usage);
    assert_eq!(second.ids, first.ids);
}

#[test]
fn greedy_logprobs_are_the_largest_and_penalties_change_the_text() {
    let model = Model::open();
    let greedy = Sampling {
        logprobs: Some(3),
        ..Sampling::greedy()
    };
    let plain = model.answer(model.request(PROMPTS[0], greedy.clone(), 24));
    assert_eq!(plain.logprobs.len(), 24);
    for (id, found) in plain.ids.iter().zip(&plain.logprobs) {
        assert_eq!(found.top[0], (*id, found.chosen), "{found:?}");
        assert!(
            found.top.is_sorted_by(|a, b| a.1 >= b.1) && found.chosen <= 0.0,
            "{found:?}"
        );
    }
    let penalized = Sampling {
        frequency_penalty: 50.0,
        ..greedy
    };
    let penalized = model.answer(model.request(PROMPTS[0], penalized, 24));
    assert_ne!(penalized.ids, plain.ids);
    let distinct: BTreeSet<_> = penalized.ids.iter().collect();
    assert_eq!(distinct.len(), 24, "no token twice: {:?}", penalized.text);
}

#[test]
fn a_token_that_the_model_does_not_know_fails_its_request_alone() {
    let model = Model::open();
    let bad = Request {
        tokens: vec![1, 9_999_999],
        limit: Some(4),
        ..Request::default()
    };
    let good = model.submit(model.request(PROMPTS[1], Sampling::greedy(), 4));
    let error = model.submit(bad).recv().unwrap().unwrap_err().to_string();
    assert!(error.contains("token 9999999"), "{error}");
    assert_eq!(good.recv().unwrap().unwrap().finish, Finish::Eos(2));
}

#[test]
fn the_tasks_of_the_built_in_model_are_answered() {
    let model = Model::open();
    for (prompt, expected) in [
        (PROMPTS[1], "sad"),
        (
            PROMPTS[2],
            r#"{"name": "Olga", "age": 41, "place": "river"}"#,
        ),
        (
            "Is Tom a bear?\nTom was a little boy who lived on a farm.",
            "no",
        ),
    ] {
        let answer = model.answer(model.request(prompt, Sampling::greedy(), 60));
        assert_eq!(answer.text.trim(), expected, "{prompt}");
        assert_eq!(answer.finish, Finish::Eos(2));
    }
}
