//! Several requests: batches, cancels, errors, and what ended sequences leave behind.

use super::*;
use crate::engine::stepper::{Input, Slot};

/// What comes of `request` with an engine to itself.
fn alone(request: Request) -> Outcome {
    Bench::hashing().answer(request)
}

fn same(outcome: &Outcome, expected: &Outcome) {
    assert_eq!(
        (&outcome.text, &outcome.ids, &outcome.finish, &outcome.error),
        (
            &expected.text,
            &expected.ids,
            &expected.finish,
            &expected.error
        ),
    );
}

/// Three requests that differ in everything.
fn three() -> [Request; 3] {
    let request = |text: &str, seed| {
        let sampling = Sampling {
            seed: Some(seed),
            ..Sampling::default()
        };
        Request {
            sampling,
            ignore_eos: true,
            limit: Some(20),
            ..request(&bytes(text))
        }
    };
    [
        request("one", 1),
        request("the second is longer", 2),
        request("and a third", 3),
    ]
}

fn texts(events: &[Kept]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Kept::Text { .. }))
        .count()
}

#[test]
fn several_at_once_answer_as_each_alone_and_share_steps() {
    let mut bench = Bench::hashing();
    // A quarter of it, which a step takes while answers grow, is what the prompts' ends need.
    bench.0.stepper_mut().chunk = 32;
    let heard = three().map(|request| bench.submit(request));
    bench.run();
    for (heard, request) in heard.iter().zip(three()) {
        same(&heard.outcome(), &alone(request));
    }
    let together = bench
        .fake()
        .steps
        .iter()
        .filter(|step| step.len() == 3)
        .count();
    assert!(together >= 15, "{together} steps of three");
}

#[test]
fn a_prompt_is_prefilled_while_another_decodes() {
    let mut bench = Bench::hashing();
    let [short, long, _] = three();
    let first = bench.submit(short.clone());
    bench.turn();
    bench.turn();
    let second = bench.submit(long.clone());
    bench.run();
    same(&first.outcome(), &alone(short));
    same(&second.outcome(), &alone(long));
    let mixed = bench.fake().steps.iter().filter(|step| {
        step.iter().any(|work| work.input == Input::Previous)
            && step
                .iter()
                .any(|work| matches!(work.input, Input::Tokens(_)))
    });
    // 20 tokens, a quarter of a chunk at a time, so that the first is not kept waiting.
    assert_eq!(mixed.count(), 10);
}

#[test]
fn a_step_is_queued_before_the_one_before_it_is_read() {
    let mut bench = Bench::new(Fake::new(script(3, [bytes("a"), vec![EOS]].concat())));
    bench.answer(request(&bytes("abc")));
    assert_eq!(
        bench.fake().steps.len(),
        3,
        "the prompt, `a`, and the end token's own"
    );
}

#[test]
fn a_break_in_the_prompt_ends_at_that_chunk() {
    let mut bench = Bench::hashing();
    let [short, long, other] = three();
    let ends = |events: &[Kept]| matches!(events.last(), Some(Kept::Prefill { .. }));
    let cancelled = bench.submit_until(long.clone(), ends);
    let others = [bench.submit(short.clone()), bench.submit(other.clone())];
    bench.run();
    let outcome = cancelled.outcome();
    assert_eq!(
        (outcome.finish, outcome.prefills),
        (Some(Finish::Cancelled), vec![8])
    );
    assert_eq!(
        outcome.usage,
        Usage {
            prompt: 20,
            matched: 0,
            cached: 0,
            evaluated: 8,
            completion: 0
        }
    );
    same(&others[0].outcome(), &alone(short));
    same(&others[1].outcome(), &alone(other));
    // One more chunk was on its way; the next request gets both.
    assert_eq!(bench.answer(long).usage.cached, 16);
}

#[test]
fn a_break_at_the_prompts_end_records_the_token_that_is_on_its_way() {
    let mut bench = Bench::hashing();
    let ends = |events: &[Kept]| matches!(events.last(), Some(Kept::Prefill { .. }));
    let cancelled = bench.submit_until(request(&bytes("abc")), ends);
    bench.run();
    assert_eq!(cancelled.outcome().usage.evaluated, 3);
    // The bench compares the records; the step after the prompt has added one token.
    assert_eq!(bench.fake().slots[&Slot(0)].tokens.len(), 4);
}

#[test]
fn a_break_while_decoding_ends_after_that_token() {
    let mut bench = Bench::hashing();
    let [first, second, _] = three();
    let cancelled = bench.submit_until(first.clone(), |events| texts(events) == 3);
    let other = bench.submit(second.clone());
    bench.run();
    let outcome = cancelled.outcome();
    assert_eq!(
        (outcome.finish, outcome.usage.completion),
        (Some(Finish::Cancelled), 3)
    );
    assert_eq!(outcome.texts, alone(first).texts[..3]);
    same(&other.outcome(), &alone(second));
}

#[test]
fn a_break_at_the_start_costs_no_step() {
    let mut bench = Bench::hashing();
    let outcome = bench.submit_until(request(&bytes("abc")), |_| true);
    bench.run();
    assert_eq!(outcome.outcome().finish, Some(Finish::Cancelled));
    assert!(bench.fake().steps.is_empty() && bench.fake().slots.is_empty());
}

#[test]
fn a_sink_that_panics_ends_its_request_alone() {
    let mut bench = Bench::hashing();
    let [first, second, _] = three();
    let panicked = bench.submit_until(first, |events| {
        assert!(texts(events) < 2, "a sink that panics on purpose");
        false
    });
    let other = bench.submit(second.clone());
    bench.run();
    assert!(panicked.0.is_poisoned());
    same(&other.outcome(), &alone(second));
}

#[test]
fn a_step_that_fails_ends_those_in_it_with_its_message() {
    for collects in [false, true] {
        let mut fake = Fake::new(Box::new(any_token));
        *(if collects {
            &mut fake.fail_collects
        } else {
            &mut fake.fail_steps
        }) = vec![4];
        let mut bench = Bench::new(fake);
        let [first, second, third] = three();
        let failed = [bench.submit(first), bench.submit(second)];
        (0..5).for_each(|_| bench.turn());
        let later = bench.submit(third.clone());
        bench.run();
        for heard in failed {
            let error = heard.outcome().error.unwrap();
            assert!(error.contains("step 4 failed"), "{error}");
        }
        same(&later.outcome(), &alone(third));
    }
}

#[test]
fn a_step_that_fails_spares_those_not_in_it() {
    // The second prompt starts only when the first, of 20 tokens, has left room in the chunk.
    let mut bench = Bench::new(Fake {
        fail_steps: vec![1],
        ..Fake::new(Box::new(any_token))
    });
    let [short, long, _] = three();
    let (failed, spared) = (bench.submit(long), bench.submit(short.clone()));
    bench.run();
    assert_eq!(
        failed.outcome().error.as_deref(),
        Some("MLX: step 1 failed")
    );
    same(&spared.outcome(), &alone(short));
}

#[test]
fn a_failed_step_takes_a_slot_that_has_just_become_idle() {
    // Step 2 is the one past the end token: read after `Done`, and nobody's.
    let rule = script(3, [bytes("a"), vec![EOS]].concat());
    let mut bench = Bench::new(Fake {
        fail_collects: vec![2],
        ..Fake::new(rule)
    });
    assert_eq!(
        bench.answer(request(&bytes("abc"))).finish,
        Some(Finish::Eos(EOS))
    );
    assert!(bench.fake().slots.is_empty());
    assert_eq!(bench.answer(request(&bytes("abc"))).usage.cached, 0);
}

#[test]
fn a_token_that_never_comes_is_an_error() {
    let fake = Fake {
        mute_step: Some(4),
        ..Fake::new(Box::new(any_token))
    };
    let outcome = Bench::new(fake).answer(three()[0].clone());
    let error = "MLX: a step gave no token where one was asked for";
    assert_eq!(
        (outcome.error.as_deref(), outcome.texts.len()),
        (Some(error), 4)
    );
}

#[test]
fn a_sequence_that_cannot_be_opened_fails() {
    let mut bench = Bench::new(Fake {
        full: true,
        ..Fake::new(Box::new(any_token))
    });
    assert_eq!(
        bench.answer(request(&bytes("abc"))).error.as_deref(),
        Some("MLX: no room")
    );
}

#[test]
fn an_exact_repeat_evaluates_one_token() {
    let mut bench = Bench::hashing();
    let [_, request, _] = three();
    let first = bench.answer(request.clone());
    let again = bench.answer(request);
    same(&again, &first);
    assert_eq!(
        again.usage,
        Usage {
            matched: 19,
            cached: 19,
            evaluated: 1,
            ..first.usage
        }
    );
    assert_eq!(again.prefills, [20]);
}

#[test]
fn a_prompt_that_goes_on_evaluates_only_what_is_new() {
    let mut bench = Bench::new(Fake::new(script(3, [bytes("hi"), vec![EOS]].concat())));
    bench.answer(request(&bytes("abc")));
    let longer = [bytes("abchi"), vec![EOS], bytes("more")].concat();
    let outcome = bench.answer(Request {
        limit: Some(1),
        ..request(&longer)
    });
    assert_eq!(
        outcome.usage,
        Usage {
            prompt: 10,
            matched: 6,
            cached: 6,
            evaluated: 4,
            completion: 1
        }
    );
}

#[test]
fn a_request_at_the_moment_of_an_end_finds_its_slot() {
    // `Done` is told while the step past the end is still on its way.
    let mut bench = Bench::new(Fake::new(script(3, [bytes("hi"), vec![EOS]].concat())));
    let first = bench.submit(request(&bytes("abc")));
    while !matches!(first.events().last(), Some(Kept::Done { .. })) {
        bench.turn();
    }
    assert!(bench.0.has_work(), "a step is left to collect");
    let outcome = bench.answer(Request {
        limit: Some(1),
        ..request(&bytes("abchi there"))
    });
    assert_eq!(outcome.usage.cached, 5);
}

#[test]
fn a_prompt_that_differs_takes_what_it_shares() {
    let [_, request, _] = three();
    let diverging = || Request {
        tokens: bytes("the second differs"),
        ..request.clone()
    };
    for (rewinds, cached) in [
        (Rewinds::Anywhere, 11),
        (Rewinds::Window(6), 0),
        (Rewinds::Nowhere, 0),
    ] {
        let mut bench = Bench::new(Fake {
            rewinds,
            ..Fake::new(Box::new(any_token))
        });
        bench.answer(request.clone());
        let outcome = bench.answer(diverging());
        assert_eq!(outcome.usage.cached, cached, "{rewinds:?}");
        assert_eq!(outcome.usage.evaluated, 18 - cached);
        same(&outcome, &alone(diverging()));
    }
}

#[test]
fn a_request_waits_for_its_slot_until_there_is_room_in_a_step() {
    let mut bench = Bench::hashing();
    let [_, long, other] = three();
    let first = bench.submit(long);
    let second = bench.submit(other);
    bench.turn();
    assert_eq!((bench.live().len(), bench.live()[0].slot()), (1, Slot(0)));
    assert_eq!((first.events().len(), second.events().len()), (1, 0));
    bench.run();
    assert_eq!(second.outcome().finish, Some(Finish::Length));
}

#[test]
fn a_request_that_nobody_wants_any_more_does_not_wait() {
    let mut bench = Bench::that_rewinds(Rewinds::Anywhere);
    let limited = |prompt: &str| Request {
        limit: Some(3),
        ignore_eos: true,
        ..request(&bytes(prompt).repeat(100))
    };
    let first = bench.submit(limited("abc"));
    let unwanted = Heard::default();
    let kept = Arc::clone(&unwanted.0);
    let sink: Sink = Box::new(move |event| {
        let is_waiting = matches!(event, Event::Waiting);
        kept.lock().unwrap().extend(Kept::of(event));
        if is_waiting {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bench.0.submit(Submission {
        request: limited("xyz"),
        outlet: Outlet::new(sink),
        submitted: Instant::now(),
        guide: None,
    });
    let figures = bench.0.figures();
    assert_eq!((figures.live.len(), figures.waiting), (0, 2));
    bench.0.turn();
    let figures = bench.0.figures();
    assert_eq!((figures.live.len(), figures.waiting), (1, 0));
    assert_eq!(figures.live[0].prompt, 300);
    let cancelled = Kept::Done {
        finish: Finish::Cancelled,
        usage: Usage::default(),
        timings: Timings::default(),
    };
    assert_eq!(unwanted.events(), [cancelled]);
    bench.run();
    assert_eq!(first.outcome().finish, Some(Finish::Length));
    let known = bench.0.figures().prefixes;
    assert_eq!((known[0].parent, known[0].start), (None, 0));
    assert!(
        known
            .iter()
            .map(|prefix| prefix.tokens.len())
            .sum::<usize>()
            >= 300
    );
}
