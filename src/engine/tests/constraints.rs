//! Answers along constraints: when they end, what they wait for, and what others notice of it.

use super::*;
use crate::constraint::Constraint;
use crate::engine::Engine;
use crate::error::Error;

fn along(constraint: Constraint) -> Request {
    Request {
        constraint: Some(constraint),
        ..request(&bytes("abc"))
    }
}

fn choices(texts: &[&str]) -> Constraint {
    Constraint::Choices(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// Answers that say `answer` where they may.
fn saying(answer: &str) -> Bench {
    Bench::new(Fake::new(script(3, bytes(answer))))
}

#[test]
fn an_answer_ends_where_nothing_may_follow() {
    let outcome = saying("yes, and more").answer(along(choices(&["yes", "no"])));
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("yes", Some(Finish::Complete))
    );
    assert_eq!((outcome.usage.completion, outcome.ids), (3, bytes("yes")));
}

#[test]
fn where_more_may_follow_the_model_decides() {
    let ends = [bytes("ab"), vec![EOS]].concat();
    let mut bench = Bench::new(Fake::new(script(3, ends)));
    let outcome = bench.answer(along(Constraint::Regex("[ab]+".to_owned())));
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("ab", Some(Finish::Eos(EOS)))
    );
    // It may not end before there is an answer.
    let mut bench = Bench::new(Fake::new(script(3, vec![EOS])));
    let outcome = bench.answer(Request {
        limit: Some(4),
        ..along(Constraint::Regex("[ab]{9}".to_owned()))
    });
    assert_eq!(
        (outcome.ids.len(), outcome.finish),
        (4, Some(Finish::Length))
    );
}

#[test]
fn the_last_token_that_the_limit_allows_may_complete_an_answer() {
    let limited = |limit| Request {
        limit: Some(limit),
        ..along(choices(&["yes"]))
    };
    let outcome = saying("yes").answer(limited(3));
    assert_eq!(outcome.finish, Some(Finish::Complete));
    let outcome = saying("yes").answer(limited(2));
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("ye", Some(Finish::Length))
    );
}

#[test]
fn a_stop_string_ends_an_answer_before_its_constraint_does() {
    let outcome = saying("yes").answer(Request {
        stop: vec!["s".to_owned()],
        ..along(choices(&["yes"]))
    });
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("ye", Some(Finish::Stop("s".to_owned())))
    );
}

#[test]
fn a_constraint_may_begin_after_a_text() {
    let after = |answer: &str| {
        saying(answer).answer(Request {
            constraint_after: Some("</t>".to_owned()),
            ..along(choices(&["yes", "no"]))
        })
    };
    // A line's end may stand before the answer.
    for (answer, text) in [
        ("no</t>no", "no</t>no"),
        ("no <</t>\n\nno!", "no <</t>\n\nno"),
        ("</t>yes", "</t>yes"),
        ("</t>\n\n\n", "</t>\n\nyes"),
    ] {
        let outcome = after(answer);
        assert_eq!(
            (outcome.text.as_str(), outcome.finish),
            (text, Some(Finish::Complete)),
            "{answer:?}"
        );
    }
    // What comes before does not end the answer.
    let mut bench = Bench::new(Fake::new(script(3, vec![EOS; 9])));
    let outcome = bench.answer(Request {
        constraint_after: Some("</t>".to_owned()),
        limit: Some(9),
        ..along(choices(&["yes"]))
    });
    assert_eq!(
        (outcome.ids.len(), outcome.finish),
        (9, Some(Finish::Length))
    );
    assert!(!outcome.ids.contains(&EOS));
}

#[test]
fn a_token_may_hold_the_text_and_the_beginning_of_the_answer() {
    let id = |text: &str| {
        let ids = TOKENIZER
            .encode(text, crate::tokenizer::Bos::Never)
            .unwrap();
        assert_eq!(ids.len(), 1, "{text:?} is one token");
        ids
    };
    let answer = |choice: &str| {
        let ids = [id("\"Why"), bytes(" me")].concat();
        Bench::new(Fake::new(script(3, ids))).answer(Request {
            constraint_after: Some("\"".to_owned()),
            ..along(choices(&[choice]))
        })
    };
    let outcome = answer("Why me");
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("\"Why me", Some(Finish::Complete))
    );
    let outcome = answer("no");
    assert!(outcome.error.unwrap().contains("does not allow"));
}

#[test]
fn an_answer_along_a_constraint_is_the_same_in_company() {
    let requests = || {
        let json = along(Constraint::JsonObject);
        let free = |seed| {
            let mut free = request(&bytes("abcdefghijkl"));
            free.sampling.seed = Some(seed);
            Request {
                limit: Some(20),
                ..free
            }
        };
        let json = Request {
            limit: Some(20),
            ..json
        };
        [free(1), json, free(2), along(choices(&["yes", "no"]))]
    };
    let alone = requests().map(|request| Bench::hashing().answer(request));
    let mut bench = Bench::hashing();
    let heard = requests().map(|request| bench.submit(request));
    bench.run();
    for (alone, heard) in alone.iter().zip(heard) {
        let together = heard.outcome();
        assert_eq!(alone.ids, together.ids);
        assert_eq!(alone.finish, together.finish);
        assert_eq!(alone.error, together.error);
    }
    // All of them go on with each step as if they were alone.
    let counts = |slot: usize| {
        let has = |step: &&Vec<_>| {
            step.iter()
                .any(|work: &crate::engine::stepper::Work| work.slot.0 == slot)
        };
        bench.fake().steps.iter().take(12).filter(has).count()
    };
    assert!(counts(0) >= 11, "{}", counts(0));
    assert!(alone[1].ids.len() > 4);
    assert!(counts(1) >= alone[1].ids.len().min(11), "{}", counts(1));
}

#[test]
fn what_cannot_be_followed_is_refused_at_once() {
    let engine = Engine::start(Arc::clone(&TOKENIZER), || {
        Ok(Fake::new(Box::new(any_token)))
    });
    let engine = engine.unwrap();
    let refused = |request: Request| {
        let refused = engine.submit(request, Box::new(|_| panic!("the sink is not called")));
        match refused.unwrap_err() {
            Error::Request { field, problem } => format!("{field}: {problem}"),
            other => panic!("{other}"),
        }
    };
    let said = refused(along(Constraint::Regex("a(".to_owned())));
    assert!(
        said.starts_with("constraint: the regular expression cannot be followed: "),
        "{said}"
    );
    let said = refused(Request {
        ignore_eos: true,
        ..along(choices(&["a"]))
    });
    assert!(said.starts_with("ignore_eos: "), "{said}");
    let said = refused(Request {
        constraint_after: Some(String::new()),
        ..along(choices(&["a"]))
    });
    assert!(said.starts_with("constraint_after: "), "{said}");
    let said = refused(Request {
        constraint_after: Some("a".to_owned()),
        ..request(&bytes("abc"))
    });
    assert!(said.starts_with("constraint_after: "), "{said}");
}
