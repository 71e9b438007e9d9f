//! The traces of the specification (reference, appendix C), with its prompts. Where the numbers differ, it is
//! said why.

use super::*;

/// Tokens `from..=to` of a name.
fn tokens(name: u32, from: u32, to: u32) -> Vec<u32> {
    (from..=to).map(|index| 1000 * name + index).collect()
}

const T: u32 = 1;
const U: u32 = 2;
const X: u32 = 3;
const Y: u32 = 4;

fn budget_of_three(tokens: &[u32]) -> Request {
    Request {
        limit: Some(3),
        ignore_eos: true,
        ..request(tokens)
    }
}

/// Tokens matched, restored and evaluated.
fn usage(outcome: &Outcome) -> (usize, usize, usize) {
    let usage = &outcome.usage;
    (usage.matched, usage.cached, usage.evaluated)
}

/// C1: every layer can go back.
#[test]
fn a_follow_up_and_a_divergent_prompt_where_layers_go_back() {
    let mut bench = Bench::that_rewinds(Rewinds::Anywhere);
    let prompt = tokens(T, 1, 10);
    let first = bench.answer(budget_of_three(&prompt));
    assert_eq!(usage(&first), (0, 0, 10));
    // The reference computes the third token of the answer too, in flight when the budget ends; here nothing is
    // queued that nobody will read. So 12 of the 13 that match there.
    let follow_up = [prompt, first.ids, tokens(U, 1, 6)].concat();
    let second = bench.answer(budget_of_three(&follow_up));
    assert_eq!(usage(&second), (12, 12, 7));
    let divergent = [tokens(T, 1, 8), tokens(X, 1, 4)].concat();
    let third = bench.answer(budget_of_three(&divergent));
    assert_eq!(usage(&third), (8, 8, 4));
    // Both branches are there.
    assert_eq!(
        usage(&bench.answer(budget_of_three(&follow_up))),
        (18, 18, 1)
    );
    assert_eq!(
        usage(&bench.answer(budget_of_three(&divergent))),
        (11, 11, 1)
    );
}

/// C2: the same prompts where layers keep a state.
#[test]
fn a_divergent_prompt_where_layers_keep_a_state() {
    let mut bench = Bench::that_rewinds(Rewinds::Nowhere);
    let prompt = tokens(T, 1, 10);
    bench.answer(budget_of_three(&prompt));
    // The state is known after 6 tokens, 4 before the end; on the way to 12 another is made after the 8 that
    // match.
    let divergent = [tokens(T, 1, 8), tokens(X, 1, 4)].concat();
    assert_eq!(usage(&bench.answer(budget_of_three(&divergent))), (8, 6, 6));
    let third = [tokens(T, 1, 8), tokens(Y, 1, 9)].concat();
    assert_eq!(usage(&bench.answer(budget_of_three(&third))), (8, 8, 9));
}

/// C3: layers keep a window of 4. A sequence of 11 does not go back to 9, so that what is known after 5 is
/// gone on from.
#[test]
fn a_sequence_does_not_go_back_behind_its_window() {
    let mut bench = Bench::that_rewinds(Rewinds::Window(4));
    let prompt = tokens(T, 1, 9);
    let first = bench.answer(budget_of_three(&prompt));
    let again = [prompt.clone(), first.ids[..1].to_vec(), tokens(U, 1, 3)].concat();
    assert_eq!(usage(&bench.answer(budget_of_three(&again))), (10, 5, 8));
    // What was computed to there was captured where the first one parted.
    let third = [prompt, first.ids[..1].to_vec(), tokens(X, 1, 3)].concat();
    assert_eq!(usage(&bench.answer(budget_of_three(&third))), (10, 10, 3));
}
