//! One request at a time: text, stop strings, ends, counts.

use super::*;
use crate::error::Error;

/// What comes of `answer`, said token by token to a prompt of three tokens.
fn say(answer: Vec<u32>, change: impl FnOnce(&mut Request)) -> Outcome {
    let mut bench = Bench::new(Fake::new(script(3, answer)));
    let mut request = request(&bytes("abc"));
    change(&mut request);
    bench.answer(request)
}

#[test]
fn events_come_in_order_with_the_seed_and_the_counts() {
    let mut bench = Bench::new(Fake {
        chunk: 2,
        ..Fake::new(script(3, bytes("hey")))
    });
    let heard = bench.submit(Request {
        limit: Some(3),
        ..request(&bytes("abc"))
    });
    bench.run();
    let text = |text: &str| Kept::Text {
        text: text.to_owned(),
        ids: bytes(text),
    };
    let mut events = heard.events();
    let Some(Kept::Done {
        finish: Finish::Length,
        usage,
        timings,
    }) = events.pop()
    else {
        panic!("{events:?}");
    };
    let expected = [
        Kept::Started {
            prompt: 3,
            cached: 0,
            seed: 7,
        },
        Kept::Prefill { done: 2, total: 3 },
        Kept::Prefill { done: 3, total: 3 },
        text("h"),
        text("e"),
        text("y"),
    ];
    assert_eq!(events, expected);
    assert_eq!(
        usage,
        Usage {
            prompt: 3,
            matched: 0,
            cached: 0,
            evaluated: 3,
            completion: 3
        }
    );
    assert!(timings.first_token >= timings.queued + timings.prompt);
    assert!(timings.decode > std::time::Duration::ZERO);
}

#[test]
fn an_end_token_ends_and_is_no_part_of_the_answer() {
    let outcome = say([bytes("hi"), vec![EOS]].concat(), |_| ());
    assert_eq!((outcome.text.as_str(), outcome.ids), ("hi", bytes("hi")));
    assert_eq!(
        (outcome.finish, outcome.usage.completion),
        (Some(Finish::Eos(EOS)), 2)
    );
}

#[test]
fn an_end_token_at_once_gives_an_empty_answer() {
    let outcome = say(vec![EOS], |_| ());
    assert_eq!(
        (outcome.texts, outcome.finish),
        (Vec::new(), Some(Finish::Eos(EOS)))
    );
    assert_eq!((outcome.usage.evaluated, outcome.usage.completion), (3, 0));
}

#[test]
fn an_ignored_end_token_is_part_of_the_answer() {
    let answer = [bytes("a"), vec![EOS], bytes("b")].concat();
    let outcome = say(answer.clone(), |request| {
        request.ignore_eos = true;
        request.limit = Some(3);
    });
    assert_eq!(
        (outcome.ids, outcome.finish),
        (answer, Some(Finish::Length))
    );
}

#[test]
fn a_character_of_several_tokens_comes_whole_with_its_tokens() {
    let mut bench = Bench::new(Fake::new(script(3, bytes("é!"))));
    let heard = bench.submit(Request {
        limit: Some(3),
        ..request(&bytes("abc"))
    });
    bench.run();
    let text = |text: &str, ids: &str| Kept::Text {
        text: text.to_owned(),
        ids: bytes(ids),
    };
    assert_eq!(
        heard.events()[2..5],
        [text("", ""), text("é", "é"), text("!", "!")]
    );
}

/// As [`say`], with the stop string `END`.
fn say_until_end(answer: Vec<u32>, limit: Option<usize>) -> Outcome {
    say(answer, |request| {
        request.stop.push("END".to_owned());
        request.limit = limit;
    })
}

#[test]
fn a_stop_string_may_span_tokens_and_is_not_shown() {
    let outcome = say_until_end(bytes("one END two"), None);
    assert_eq!(
        (outcome.text.as_str(), &outcome.ids),
        ("one ", &bytes("one "))
    );
    assert_eq!(outcome.finish, Some(Finish::Stop("END".to_owned())));
    assert_eq!(outcome.usage.completion, 7);
}

#[test]
fn a_stop_string_with_the_last_token_counts() {
    let outcome = say_until_end(bytes("one END"), Some(7));
    assert_eq!(outcome.finish, Some(Finish::Stop("END".to_owned())));
}

#[test]
fn text_that_only_began_like_a_stop_string_is_shown() {
    let outcome = say_until_end([bytes("so EN"), vec![EOS]].concat(), None);
    assert_eq!(outcome.texts, ["s", "o", " ", "", "", "EN"]);
    assert_eq!(
        (outcome.ids, outcome.finish),
        (bytes("so EN"), Some(Finish::Eos(EOS)))
    );
    let outcome = say_until_end(bytes("so EN"), Some(5));
    assert_eq!(outcome.texts, ["s", "o", " ", "", "EN"]);
    assert_eq!(
        (outcome.ids, outcome.finish),
        (bytes("so EN"), Some(Finish::Length))
    );
}

#[test]
fn the_limit_ends_without_a_step_too_many() {
    let mut bench = Bench::hashing();
    let request = Request {
        limit: Some(4),
        ignore_eos: true,
        ..request(&bytes("a prompt of 21 tokens"))
    };
    let outcome = bench.answer(request);
    assert_eq!(
        (outcome.usage.completion, outcome.finish),
        (4, Some(Finish::Length))
    );
    assert_eq!(outcome.prefills, [8, 16, 21]);
    assert_eq!(bench.fake().steps.len(), 3 + 3);
}

#[test]
fn a_limit_of_zero_evaluates_the_prompt() {
    let outcome = say(bytes("x"), |request| request.limit = Some(0));
    assert_eq!((outcome.usage.evaluated, outcome.usage.completion), (3, 0));
    assert_eq!(
        (outcome.texts, outcome.finish),
        (Vec::new(), Some(Finish::Length))
    );
}

#[test]
fn the_end_of_the_context_ends() {
    for (context, limit) in [(None, None), (Some(10), None), (Some(10), Some(100))] {
        let outcome = say(bytes("x"), |request| {
            (request.context, request.limit) = (context, limit);
        });
        assert_eq!(outcome.finish, Some(Finish::Length));
        assert_eq!(3 + outcome.usage.completion, context.unwrap_or(64));
    }
}

#[test]
fn without_a_seed_each_request_draws_its_own() {
    let mut bench = Bench::hashing();
    let mut unseeded = request(&bytes("abc"));
    unseeded.sampling.seed = None;
    let seeds = [0, 1].map(|_| {
        let heard = bench.submit(unseeded.clone());
        bench.run();
        match heard.events()[0] {
            Kept::Started { seed, .. } => seed,
            ref other => panic!("{other:?}"),
        }
    });
    assert_ne!(seeds[0], seeds[1]);
}

#[test]
fn what_cannot_be_served_is_refused() {
    let refused = |change: fn(&mut Request)| {
        let mut request = request(&bytes("abc"));
        change(&mut request);
        request.check(8).unwrap_err()
    };
    let overflow = |error, tokens, limit| {
        let expected = Error::ContextOverflow { tokens, limit };
        assert_eq!(format!("{error:?}"), format!("{expected:?}"));
    };
    assert!(matches!(refused(|r| r.tokens.clear()), Error::EmptyPrompt));
    overflow(refused(|r| r.tokens = bytes("eight123")), 8, 8);
    overflow(refused(|r| r.context = Some(3)), 3, 3);
    assert!(matches!(
        refused(|r| r.sampling.top_p = 2.0),
        Error::Sampling { field: "top_p", .. }
    ));
    let refused = |change, text: &str| assert_eq!(refused(change).to_string(), text);
    refused(
        |r| r.context = Some(9),
        "context: 9 tokens are more than the model's 8",
    );
    refused(
        |r| r.joints = vec![2, 1],
        "joints: they are not ascending offsets in the prompt",
    );
    refused(
        |r| r.joints = vec![4],
        "joints: they are not ascending offsets in the prompt",
    );
    refused(
        |r| r.stop = vec![String::new()],
        "stop: a stop string is empty",
    );
    assert!(request(&bytes("seven12")).check(8).is_ok());
}
