//! The engine over the fake stepper: what the tests share. The cases are in the files below.

mod answers;
mod constraints;
mod prefixes;
mod property;
mod reading;
mod scheduling;
mod thread;
mod traces;

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use crate::constraint::Grammars;
use crate::engine::fake::{Fake, Rewinds, Rule, any_token};
use crate::engine::outlet::Outlet;
use crate::engine::request::{Event, Finish, Read, Request, Sink, Timings, Usage};
use crate::engine::schedule::Scheduler;
use crate::engine::sequence::{Sequence, Submission};
use crate::engine::stepper::Restorable;
use crate::files::ModelFiles;
use crate::sample::Sampling;
use crate::tokenizer::Tokenizer;

/// The end-of-sequence token of the built-in model.
const EOS: u32 = 2;

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/stories").into();
    Arc::new(Tokenizer::load(&ModelFiles::Folder(folder)).expect("the built-in tokenizer loads"))
});

static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| Grammars::new(Arc::clone(&TOKENIZER)));

/// The built-in tokenizer's ids of single bytes.
fn bytes(text: &str) -> Vec<u32> {
    let id = |byte: u8| match u32::from(byte) {
        byte @ 0x21..=0x7e => byte - 0x21 + 3,
        byte @ 0xa1..=0xac => byte - 0xa1 + 97,
        byte @ 0xae..=0xff => byte - 0xae + 109,
        byte @ 0..=0x20 => byte + 191,
        byte => panic!("byte {byte} is not used here"),
    };
    text.bytes().map(id).collect()
}

/// Answers `ids` to a prompt of `prompt` tokens, then nothing but exclamation marks.
fn script(prompt: usize, ids: Vec<u32>) -> Rule {
    Box::new(move |tokens, _| ids.get(tokens.len() - prompt).copied().unwrap_or(3))
}

fn request(tokens: &[u32]) -> Request {
    let sampling = Sampling {
        seed: Some(7),
        ..Sampling::default()
    };
    Request {
        tokens: tokens.to_vec(),
        sampling,
        ..Request::default()
    }
}

/// An event, kept.
#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Started {
        prompt: usize,
        cached: usize,
        seed: u64,
    },
    Prefill {
        done: usize,
        total: usize,
    },
    Read(Read),
    Text {
        text: String,
        ids: Vec<u32>,
    },
    Done {
        finish: Finish,
        usage: Usage,
        timings: Timings,
    },
    Failed(String),
}

impl Kept {
    /// `None` while it waits, however long that is.
    fn of(event: Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Waiting => return None,
            Event::Started {
                prompt,
                cached,
                seed,
            } => Self::Started {
                prompt,
                cached,
                seed,
            },
            Event::Prefill { done, total } => Self::Prefill { done, total },
            Event::Read(read) => Self::Read(read.clone()),
            Event::Text { text, tokens } => Self::Text {
                text: text.to_owned(),
                ids: tokens.iter().map(|token| token.id).collect(),
            },
            Event::Done {
                finish,
                usage,
                timings,
            } => Self::Done {
                finish,
                usage,
                timings,
            },
            Event::Failed(error) => Self::Failed(error.to_string()),
        })
    }
}

/// The events that one request's sink has got.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<Kept>>>);

impl Heard {
    /// A sink that keeps events, and says `Break` where `ends` says so of what it has heard.
    fn sink(&self, ends: impl Fn(&[Kept]) -> bool + Send + 'static) -> Sink {
        let kept = Arc::clone(&self.0);
        Box::new(move |event| {
            let mut kept = kept.lock().unwrap();
            let Some(event) = Kept::of(event) else {
                return ControlFlow::Continue(());
            };
            kept.push(event);
            if ends(&kept) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn events(&self) -> Vec<Kept> {
        self.0.lock().unwrap().clone()
    }

    /// What came of it. Asserts the order of events.
    fn outcome(&self) -> Outcome {
        let mut events = self.events();
        let last = events.pop().expect("a final event");
        let mut outcome = Outcome::default();
        let mut rank = 0;
        for event in events {
            let now = match event {
                Kept::Started { .. } => 1,
                Kept::Prefill { done, total } => {
                    assert!(done <= total && outcome.prefills.last() < Some(&done));
                    outcome.prefills.push(done);
                    2
                }
                Kept::Read(read) => {
                    outcome.read.push(read);
                    2
                }
                Kept::Text { text, ids } => {
                    outcome.text += &text;
                    outcome.ids.extend(ids);
                    outcome.texts.push(text);
                    3
                }
                Kept::Done { .. } | Kept::Failed(_) => panic!("two final events"),
            };
            assert!(rank <= now && (rank > 0 || now == 1) && (now > 1 || rank == 0));
            rank = now;
        }
        match last {
            Kept::Done {
                finish,
                usage,
                timings,
            } => {
                assert!(rank > 0, "Done without Started");
                outcome.finish = Some(finish);
                (outcome.usage, outcome.timings) = (usage, timings);
            }
            Kept::Failed(error) => outcome.error = Some(error),
            other => panic!("the last event is {other:?}"),
        }
        outcome
    }
}

/// One request's events, summed up.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    prefills: Vec<usize>,
    read: Vec<Read>,
    texts: Vec<String>,
    text: String,
    ids: Vec<u32>,
    finish: Option<Finish>,
    error: Option<String>,
    usage: Usage,
    timings: Timings,
}

/// A scheduler over a fake, turned by hand.
struct Bench(Scheduler<Fake>);

impl Bench {
    fn new(fake: Fake) -> Self {
        Self(Scheduler::new(fake, Arc::clone(&TOKENIZER)))
    }

    fn hashing() -> Self {
        Self::new(Fake::new(Box::new(any_token)))
    }

    fn submit(&mut self, request: Request) -> Heard {
        self.submit_until(request, |_| false)
    }

    /// Submits with a sink that says `Break` where `ends` says so.
    fn submit_until(
        &mut self,
        request: Request,
        ends: impl Fn(&[Kept]) -> bool + Send + 'static,
    ) -> Heard {
        let heard = Heard::default();
        request.check(self.fake().context).unwrap();
        let after = request.constraint_after.as_deref();
        let constraint = request.constraint.as_ref();
        let guide = constraint.map(|constraint| GRAMMARS.guide(constraint, after).unwrap());
        let outlet = Outlet::new(heard.sink(ends));
        self.0.submit(Submission {
            request,
            outlet,
            submitted: Instant::now(),
            guide: guide.map(Box::new),
        });
        heard
    }

    fn fake(&self) -> &Fake {
        self.0.parts().0
    }

    fn live(&self) -> &[Sequence] {
        self.0.parts().1
    }

    /// On caches that go back so far, for long prompts.
    fn that_rewinds(rewinds: Rewinds) -> Self {
        Self::new(Fake {
            context: 4000,
            chunk: 16,
            rewinds,
            ..Fake::new(Box::new(any_token))
        })
    }

    /// One turn, after which every cache must hold what the engine has recorded, and no more.
    fn turn(&mut self) {
        self.0.turn();
        let (fake, live, prefixes) = self.0.parts();
        let idle = prefixes.idle();
        for sequence in live {
            let (known, length) = sequence.recorded();
            let held = &fake.slots[&sequence.slot()].tokens;
            assert_eq!((held.len(), &held[..known.len()]), (length, known));
        }
        for (slot, tokens) in &idle {
            assert_eq!(&fake.slots[slot].tokens, tokens);
        }
        assert_eq!(fake.slots.len(), live.len() + idle.len(), "no slot is lost");
        assert!(fake.used() <= fake.room, "memory has a bound");
        assert!(
            fake.offloaded() <= fake.offload_room,
            "what is offloaded too"
        );
    }

    fn run(&mut self) {
        while self.0.has_work() {
            self.turn();
        }
    }

    /// What comes of one request.
    fn answer(&mut self, request: Request) -> Outcome {
        let heard = self.submit(request);
        self.run();
        heard.outcome()
    }
}
