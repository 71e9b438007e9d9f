//! Prompts that are read: how likely their tokens are, and the states that stand for them.

use super::*;
use crate::engine::fake::score;
use crate::engine::request::{Logprobs, Reading};

fn scored(prompt: &[u32]) -> Request {
    Request {
        reading: Some(Reading::Scores(2)),
        limit: Some(0),
        ..request(prompt)
    }
}

fn scores(outcome: &Outcome) -> Vec<Logprobs> {
    let scores = outcome.read.iter().flat_map(|read| match read {
        Read::Scores(scores) => scores.clone(),
        Read::State(_) => panic!("a state was not asked for"),
    });
    scores.collect()
}

#[test]
fn every_token_but_the_first_has_a_score() {
    // Chunks have 8 tokens: one that ends a chunk, one that begins it, one alone.
    for length in [1, 2, 8, 9, 10, 17, 30] {
        let prompt: Vec<u32> = (0..length).map(|at| 40 + at).collect();
        let mut bench = Bench::hashing();
        // What is cached of it is computed again.
        for _ in 0..2 {
            let outcome = bench.answer(scored(&prompt));
            let expected: Vec<Logprobs> = prompt.iter().skip(1).map(|&id| score(id)).collect();
            assert_eq!(scores(&outcome), expected, "{length}");
            assert_eq!(
                (outcome.usage.cached, outcome.finish),
                (0, Some(Finish::Length))
            );
        }
    }
}

#[test]
fn a_prompt_that_is_read_waits_for_no_other_and_may_be_answered() {
    let prompt: Vec<u32> = (0..60).collect();
    let mut bench = Bench::hashing();
    let first = bench.submit(request(&prompt));
    bench.0.turn();
    let second = bench.submit(Request {
        limit: Some(2),
        ..scored(&prompt)
    });
    while bench.0.has_work() {
        bench.0.turn();
    }
    assert!(first.outcome().read.is_empty());
    let outcome = second.outcome();
    assert_eq!(scores(&outcome).len(), 59);
    assert_eq!((outcome.ids.len(), outcome.usage.cached), (2, 0));
}

#[test]
fn a_state_is_that_after_the_last_token_and_uses_what_is_cached() {
    let prompt: Vec<u32> = (40..60).collect();
    let mut bench = Bench::hashing();
    for cached in [0, 19] {
        let outcome = bench.answer(Request {
            reading: Some(Reading::State),
            limit: Some(0),
            ..request(&prompt)
        });
        let state = prompt.iter().map(|&id| id as f32).collect();
        assert_eq!(outcome.read, [Read::State(state)]);
        assert_eq!(outcome.usage.cached, cached);
    }
}
