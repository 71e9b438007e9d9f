//! What is gone on from, over caches that go back anywhere, within a window, and nowhere.

use super::*;
use crate::error::Error;

const ALL: [Rewinds; 3] = [Rewinds::Anywhere, Rewinds::Window(6), Rewinds::Nowhere];

/// So many tokens that do not come again.
fn own(first: u32, count: u32) -> Vec<u32> {
    (0..count).map(|index| 1000 * first + index).collect()
}

fn short(tokens: &[u32]) -> Request {
    Request {
        limit: Some(3),
        ignore_eos: true,
        ..request(tokens)
    }
}

/// An answer, and the prompt with it.
fn turn(bench: &mut Bench, request: Request) -> (Outcome, Vec<u32>) {
    let mut tokens = request.tokens.clone();
    let outcome = bench.answer(request);
    tokens.extend(&outcome.ids);
    (outcome, tokens)
}

#[test]
fn a_conversation_evaluates_what_is_new() {
    for rewinds in ALL {
        let mut bench = Bench::that_rewinds(rewinds);
        let mut tokens = own(1, 50);
        for message in 2..12 {
            let (outcome, with_answer) = turn(&mut bench, short(&tokens));
            if message > 2 {
                // The last token of the answer before was never computed.
                assert_eq!(outcome.usage.evaluated, 41, "{rewinds:?}");
            }
            tokens = [with_answer, own(message, 40)].concat();
        }
    }
}

#[test]
fn the_same_prompt_again_evaluates_its_end() {
    for (rewinds, evaluated) in [
        (Rewinds::Anywhere, 1),
        (Rewinds::Window(6), 4),
        (Rewinds::Nowhere, 4),
    ] {
        let mut bench = Bench::that_rewinds(rewinds);
        bench.answer(short(&own(1, 500)));
        let again = bench.answer(short(&own(1, 500)));
        assert_eq!(again.usage.evaluated, evaluated, "{rewinds:?}");
    }
}

#[test]
fn a_turn_without_what_was_thought_goes_on_from_the_last_message() {
    for (rewinds, cached) in [
        (Rewinds::Anywhere, 290),
        (Rewinds::Window(6), 290),
        (Rewinds::Nowhere, 290),
    ] {
        let mut bench = Bench::that_rewinds(rewinds);
        let prompt = [own(1, 290), own(2, 5)].concat();
        let joints = vec![100, 200, 290];
        bench.answer(Request {
            joints: joints.clone(),
            ..short(&prompt)
        });
        let next = [own(1, 290), own(3, 40)].concat();
        let outcome = bench.answer(Request {
            joints: [joints, vec![330]].concat(),
            ..short(&next)
        });
        assert_eq!(outcome.usage.cached, cached, "{rewinds:?}");
    }
}

#[test]
fn a_fork_that_was_seen_is_gone_on_from_the_next_time() {
    for (rewinds, second) in [
        (Rewinds::Anywhere, 150),
        (Rewinds::Window(6), 0),
        (Rewinds::Nowhere, 0),
    ] {
        let mut bench = Bench::that_rewinds(rewinds);
        let branch = |own_part: u32| short(&[own(1, 150), own(own_part, 100)].concat());
        let cached = [2, 3, 4].map(|part| bench.answer(branch(part)).usage.cached);
        assert_eq!(cached, [0, second, 150], "{rewinds:?}");
    }
}

#[test]
fn branches_are_left_and_come_back_to() {
    for rewinds in ALL {
        let mut bench = Bench::that_rewinds(rewinds);
        let branches = [2, 3, 4, 5, 6, 7].map(|part| [own(1, 150), own(part, 100)].concat());
        for tokens in &branches {
            bench.answer(short(tokens));
        }
        for tokens in &branches {
            let outcome = bench.answer(short(tokens));
            assert!(
                outcome.usage.evaluated <= 4,
                "{rewinds:?} {:?}",
                outcome.usage
            );
        }
    }
}

#[test]
fn a_prompt_that_was_cut_off_goes_on_where_it_was() {
    for rewinds in ALL {
        let mut bench = Bench::that_rewinds(rewinds);
        let prompt = own(1, 470);
        let mut before = 0;
        for chunks in [3, 5] {
            let heard = bench.submit_until(short(&prompt), move |events| {
                let prefills = events.iter().filter(|e| matches!(e, Kept::Prefill { .. }));
                prefills.count() == chunks
            });
            bench.run();
            let usage = heard.outcome().usage;
            assert!(usage.cached >= before, "{rewinds:?} {usage:?}");
            before = usage.cached + usage.evaluated;
        }
        let usage = bench.answer(short(&prompt)).usage;
        assert!(
            usage.cached >= before && before >= 128,
            "{rewinds:?} {usage:?}"
        );
    }
}

#[test]
fn a_running_sequence_lends_what_it_has_computed() {
    for rewinds in ALL {
        let mut bench = Bench::that_rewinds(rewinds);
        let branch = |own_part: u32| Request {
            joints: vec![160],
            limit: Some(50),
            ..short(&[own(1, 160), own(own_part, 40)].concat())
        };
        let first = bench.submit(branch(2));
        while !matches!(first.events().last(), Some(Kept::Text { .. })) {
            bench.turn();
        }
        let second = bench.submit(branch(3));
        bench.run();
        assert_eq!(second.outcome().usage.cached, 160, "{rewinds:?}");
        assert_eq!(first.outcome().usage.completion, 50);
    }
}

#[test]
fn memory_is_bounded_and_what_was_used_last_stays() {
    for rewinds in ALL {
        let mut bench = Bench::new(Fake {
            context: 4000,
            chunk: 16,
            rewinds,
            room: 1000,
            ..Fake::new(Box::new(any_token))
        });
        let prompts = [2, 3, 4, 5, 6, 7, 8].map(|part| [own(1, 150), own(part, 100)].concat());
        for tokens in &prompts {
            // Every turn asserts that memory is within its bound.
            bench.answer(short(tokens));
        }
        let last = bench.answer(short(&prompts[6]));
        assert!(last.usage.evaluated <= 4, "{rewinds:?} {:?}", last.usage);
    }
}

#[test]
fn what_leaves_for_want_of_memory_comes_back() {
    for (offload_room, stores) in [(2000, false), (0, true)] {
        for rewinds in ALL {
            let mut bench = Bench::new(Fake {
                context: 4000,
                chunk: 16,
                rewinds,
                room: 700,
                offload_room,
                stores,
                ..Fake::new(Box::new(any_token))
            });
            let prompts = [2, 3, 4, 5].map(|part| [own(1, 150), own(part, 100)].concat());
            for tokens in prompts.iter().chain(&prompts) {
                bench.answer(short(tokens));
            }
            for tokens in &prompts {
                let again = bench.answer(short(tokens));
                assert!(again.usage.evaluated <= 4, "{rewinds:?} {:?}", again.usage);
            }
        }
    }
}

#[test]
fn what_comes_at_once_and_begins_alike_is_computed_once() {
    for rewinds in ALL {
        let mut bench = Bench::that_rewinds(rewinds);
        let heard: Vec<Heard> = (2..8)
            .map(|part| bench.submit(short(&[own(1, 200), own(part, 30)].concat())))
            .collect();
        let other = bench.submit(short(&own(9, 40)));
        bench.turn();
        assert_eq!(bench.live().len(), 1, "one has the whole step");
        bench.run();
        let evaluated: Vec<usize> = heard
            .iter()
            .map(|heard| heard.outcome().usage.evaluated)
            .collect();
        assert_eq!(evaluated, [230, 30, 30, 30, 30, 30], "{rewinds:?}");
        assert_eq!(other.outcome().usage.evaluated, 40);
    }
}

#[test]
fn who_waits_for_what_never_comes_computes_it() {
    let mut bench = Bench::that_rewinds(Rewinds::Anywhere);
    let prompts = [2, 3].map(|part| [own(1, 200), own(part, 30)].concat());
    let first = bench.submit_until(short(&prompts[0]), |events| events.len() > 2);
    let second = bench.submit(short(&prompts[1]));
    bench.run();
    assert_eq!(first.outcome().finish, Some(Finish::Cancelled));
    let usage = second.outcome().usage;
    // What the first one computed before that was seen.
    assert_eq!((usage.cached, usage.evaluated), (48, 182));
}

#[test]
fn where_one_sequence_fills_the_memory_the_last_one_is_gone_on_from() {
    let mut bench = Bench::new(Fake {
        room: 23,
        ..Fake::new(Box::new(any_token))
    });
    for (first, cached) in [(1, 0), (2, 0), (2, 19), (1, 0)] {
        assert_eq!(bench.answer(short(&own(first, 20))).usage.cached, cached);
        assert_eq!(bench.fake().slots.len(), 1);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_computed() {
    let mut bench = Bench::new(Fake {
        room: 100,
        context: 4000,
        ..Fake::new(Box::new(any_token))
    });
    bench.answer(short(&own(1, 40)));
    let steps = bench.fake().steps.len();
    let outcome = bench.answer(short(&own(2, 100)));
    let error = Error::Memory {
        needs: 103,
        room: 100,
        kept: 42,
    };
    assert_eq!(outcome.error, Some(error.to_string()));
    assert_eq!(bench.fake().steps.len(), steps);
    // What was kept still is.
    assert_eq!(bench.answer(short(&own(1, 40))).usage.cached, 39);
}

#[test]
fn who_fits_only_alone_waits_for_the_others() {
    let mut bench = Bench::new(Fake {
        room: 100,
        context: 4000,
        ..Fake::new(Box::new(any_token))
    });
    let heard = [1, 2, 3].map(|first| bench.submit(short(&own(first, 60))));
    bench.turn();
    assert_eq!(bench.live().len(), 1);
    bench.run();
    for heard in heard {
        assert_eq!(heard.outcome().usage.completion, 3);
    }
}

#[test]
fn an_answer_without_a_limit_ends_where_memory_does() {
    let mut bench = Bench::new(Fake {
        room: 700,
        context: 4000,
        chunk: 32,
        ..Fake::new(Box::new(any_token))
    });
    let endless = |first: u32| Request {
        limit: None,
        ignore_eos: true,
        ..request(&own(first, 20))
    };
    let heard = [1, 2].map(|first| bench.submit(endless(first)));
    bench.run();
    let outcomes = heard.map(|heard| heard.outcome());
    for outcome in &outcomes {
        assert_eq!(outcome.finish, Some(Finish::Memory));
        // What was promised is used.
        assert!(outcome.usage.completion >= 255, "{:?}", outcome.usage);
    }
    let all: usize = outcomes
        .iter()
        .map(|outcome| outcome.usage.completion)
        .sum();
    assert!(all + 2 * 20 <= 702, "{all}");
}

#[test]
fn what_is_stored_is_gone_on_from_by_the_next_engine() {
    for rewinds in ALL {
        let fake = || Fake {
            context: 4000,
            chunk: 16,
            rewinds,
            stores: true,
            ..Fake::new(Box::new(any_token))
        };
        let prompts = [2, 3, 4].map(|part| [own(1, 150), own(part, 100)].concat());
        let with_joint = |tokens: &[u32]| Request {
            joints: vec![150],
            ..short(tokens)
        };
        let mut first = Bench::new(fake());
        let answers = prompts
            .each_ref()
            .map(|tokens| turn(&mut first, with_joint(tokens)));
        let (stored, _, _) = first.0.parts();
        // Where states are captured, the beginning is a run of its own, and so is each prompt's end.
        let runs = if rewinds == Rewinds::Anywhere { 3 } else { 7 };
        assert_eq!(stored.stored.len(), runs);
        let stored = stored.stored.clone();
        let mut second = Bench::new(Fake { stored, ..fake() });
        for ((outcome, with_answer), prompt) in answers.iter().zip(&prompts) {
            let again = second.answer(with_joint(prompt));
            assert_eq!(again.ids, outcome.ids);
            assert!(again.usage.evaluated <= 4, "{rewinds:?} {:?}", again.usage);
            let next = second.answer(with_joint(&[with_answer, &own(9, 20)[..]].concat()));
            assert_eq!(next.usage.evaluated, 21, "{rewinds:?}");
        }
        let new = second.answer(with_joint(&[own(1, 150), own(8, 30)].concat()));
        assert_eq!(new.usage.cached, 150, "{rewinds:?}");
    }
}

#[test]
fn where_nothing_can_be_copied_everything_is_computed() {
    let mut bench = Bench::that_rewinds(Rewinds::Anywhere);
    let branch = |part: u32| Request {
        limit: Some(50),
        ..short(&[own(1, 160), own(part, 40)].concat())
    };
    let first = bench.submit(branch(2));
    while !matches!(first.events().last(), Some(Kept::Text { .. })) {
        bench.turn();
    }
    // The running sequence cannot lend what it has, however often it is asked.
    bench.0.stepper_mut().fail_copies = true;
    let second = bench.submit(branch(3));
    bench.run();
    assert_eq!(second.outcome().usage.cached, 0);
    assert_eq!(first.outcome().usage.completion, 50);
}
