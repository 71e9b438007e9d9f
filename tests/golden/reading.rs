//! What is read of prompts on every path: how likely their tokens are, and the states that stand for them.

use std::ops::ControlFlow;
use std::sync::mpsc::channel;

use mlxr::cache::SequenceCache;
use mlxr::engine::Engine;
use mlxr::engine::request::{Event, Logprobs, Read, Reading, Request};
use mlxr::ops::batch::Batch;

use super::along::{engine, tokenizer};
use super::{Golden, TOLERANCE, distance, for_each};

/// All that is read of a prompt.
fn read(engine: &Engine, ids: &[i32], reading: Reading) -> Vec<Read> {
    let request = Request {
        tokens: ids.iter().map(|&id| id as u32).collect(),
        reading: Some(reading),
        limit: Some(0),
        ..Request::default()
    };
    let (sender, receiver) = channel();
    let mut all = Vec::new();
    let sink = Box::new(move |event: Event<'_>| {
        match event {
            Event::Read(read) => all.push(read.clone()),
            Event::Done { .. } => sender.send(std::mem::take(&mut all)).unwrap(),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    engine.submit(request, sink).unwrap();
    receiver.recv().unwrap()
}

fn scores(engine: &Engine, ids: &[i32], top: usize) -> Vec<Logprobs> {
    let read = read(engine, ids, Reading::Scores(top));
    let scores = read.into_iter().map(|read| match read {
        Read::Scores(scores) => scores,
        Read::State(_) => panic!("a state was not asked for"),
    });
    scores.flatten().collect()
}

/// The logarithms of the probabilities that a row of logits stands for.
fn logprobs(logits: &[f32]) -> Vec<f64> {
    let numbers = logits.iter().map(|&logit| f64::from(logit));
    let best = numbers.clone().fold(f64::NEG_INFINITY, f64::max);
    let total = best
        + numbers
            .clone()
            .map(|logit| (logit - best).exp())
            .sum::<f64>()
            .ln();
    numbers.map(|logit| logit - total).collect()
}

#[test]
fn tokens_of_a_prompt_are_as_likely_as_the_reference_says() {
    let tokenizer = tokenizer();
    for_each(|golden| {
        let engine = engine(golden, &tokenizer);
        let vocabulary = golden.loaded.model.vocabulary();
        for (ids, logits) in golden.input_ids.iter().zip(&golden.logits) {
            // Twice: what is cached of it then changes nothing.
            for _ in 0..2 {
                let scores = scores(&engine, ids, 3);
                assert_eq!(scores.len(), ids.len() - 1, "{}", golden.name);
                for (at, (score, row)) in scores.iter().zip(logits.chunks(vocabulary)).enumerate() {
                    let row = logprobs(row);
                    let off = (f64::from(score.chosen) - row[ids[at + 1] as usize]).abs();
                    assert!(off <= 2.0 * f64::from(TOLERANCE), "{}: {off}", golden.name);
                    let mut sorted = row.clone();
                    sorted.sort_by(|a, b| b.total_cmp(a));
                    for ((id, logprob), best) in score.top.iter().zip(&sorted) {
                        let off = (f64::from(*logprob) - row[*id as usize]).abs();
                        let off = off.max((f64::from(*logprob) - best).abs());
                        assert!(off <= 2.0 * f64::from(TOLERANCE), "{}: {off}", golden.name);
                    }
                    assert_eq!(score.top.len(), 3);
                }
            }
        }
    });
}

#[test]
fn the_state_after_a_prompt_is_that_which_logits_are_made_of() {
    let tokenizer = tokenizer();
    for_each(|golden| {
        let engine = engine(golden, &tokenizer);
        for ids in &golden.input_ids {
            // The second time all but the last token is cached.
            for _ in 0..2 {
                let read = read(&engine, ids, Reading::State);
                let [Read::State(state)] = &read[..] else {
                    panic!("{}: {read:?}", golden.name);
                };
                let off = distance(state, &state_of(golden, ids));
                assert!(off <= TOLERANCE, "{}: {off}", golden.name);
            }
        }
    });
}

/// The state after the last token, computed by itself.
fn state_of(golden: &Golden, ids: &[i32]) -> Vec<f32> {
    let batch = Batch::new(&[(0, 0, ids)]).unwrap();
    let mut cache: SequenceCache = golden.cache();
    let model = &golden.loaded.model;
    let hidden = model.forward(&batch, &mut [&mut cache]).unwrap();
    let last = hidden.take(&[ids.len() - 1]).unwrap();
    model.states(&last).unwrap().into_numbers().unwrap()
}
