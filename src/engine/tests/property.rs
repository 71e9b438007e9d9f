//! Whatever comes when, each request ends as it would have alone.

use proptest::prelude::*;

use super::*;

/// When a sink says `Break`.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Never,
    AtStart,
    InPrompt,
    AfterTexts(usize),
}

impl Ends {
    fn now(self, events: &[Kept]) -> bool {
        match (self, events.last()) {
            (Self::AtStart, Some(Kept::Started { .. }))
            | (Self::InPrompt, Some(Kept::Prefill { .. })) => true,
            (Self::AfterTexts(count), Some(Kept::Text { .. })) => {
                count
                    == events
                        .iter()
                        .filter(|e| matches!(e, Kept::Text { .. }))
                        .count()
            }
            _ => false,
        }
    }
}

/// A request, the turns before it comes, and its sink's patience.
type Arrival = (Request, usize, Ends);

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let ends = prop_oneof![
        6 => Just(Ends::Never),
        1 => Just(Ends::AtStart),
        1 => Just(Ends::InPrompt),
        2 => (1..6_usize).prop_map(Ends::AfterTexts),
    ];
    let limit = prop::option::of(0..12_usize);
    let stop = prop::collection::vec("[a-fé]{1,2}", 0..2);
    let request = (
        prop::collection::vec(70..72_u32, 1..20),
        limit,
        stop,
        0..3_u64,
    )
        .prop_map(|(tokens, limit, stop, seed)| {
            let sampling = Sampling {
                seed: Some(seed),
                ..Sampling::default()
            };
            Request {
                tokens,
                sampling,
                stop,
                limit,
                ..Request::default()
            }
        });
    prop::collection::vec((request, 0..6_usize, ends), 1..8)
}

fn rewinds() -> impl Strategy<Value = Rewinds> {
    prop_oneof![
        Just(Rewinds::Anywhere),
        Just(Rewinds::Window(6)),
        Just(Rewinds::Nowhere)
    ]
}

fn fake(chunk: usize, rewinds: Rewinds) -> Fake {
    Fake {
        context: 40,
        chunk,
        rewinds,
        ..Fake::new(Box::new(any_token))
    }
}

/// Serves the arrivals in one engine.
fn serve(bench: &mut Bench, arrivals: &[Arrival]) -> Vec<Outcome> {
    let mut heard = Vec::new();
    for (request, turns, ends) in arrivals.iter().cloned() {
        for _ in 0..turns {
            if bench.0.has_work() {
                bench.turn();
            }
        }
        heard.push(bench.submit_until(request, move |events| ends.now(events)));
    }
    bench.run();
    heard.iter().map(Heard::outcome).collect()
}

proptest! {
    #[test]
    fn every_request_ends_as_it_would_alone(
        arrivals in arrivals(), chunk in 1..12_usize, rewinds in rewinds(), room in 40..300_usize,
        offload_room in 0..200_usize, stores in any::<bool>(),
    ) {
        let fake_ = Fake { room, offload_room, stores, ..fake(chunk, rewinds) };
        let outcomes = serve(&mut Bench::new(fake_), &arrivals);
        for (outcome, arrival) in outcomes.iter().zip(arrivals) {
            let mut bench = Bench::new(fake(100, Rewinds::Nowhere));
            let alone = &serve(&mut bench, &[arrival])[0];
            prop_assert_eq!(&outcome.texts, &alone.texts);
            prop_assert_eq!(&outcome.ids, &alone.ids);
            prop_assert_eq!(&outcome.finish, &alone.finish);
            prop_assert_eq!(outcome.usage.completion, alone.usage.completion);
            if !matches!(outcome.finish, Some(Finish::Cancelled)) {
                let Usage { prompt, cached, evaluated, .. } = outcome.usage;
                prop_assert_eq!(cached + evaluated, prompt);
            }
        }
    }

    #[test]
    fn steps_that_fail_leave_nothing_behind(
        arrivals in arrivals(),
        fail_steps in prop::collection::vec(0..30_usize, 0..3),
        fail_collects in prop::collection::vec(0..30_usize, 0..3),
    ) {
        let fake = Fake { fail_steps, fail_collects, ..fake(5, Rewinds::Anywhere) };
        let mut bench = Bench::new(fake);
        for outcome in serve(&mut bench, &arrivals) {
            prop_assert!(outcome.error.is_some() != outcome.finish.is_some());
        }
    }
}
