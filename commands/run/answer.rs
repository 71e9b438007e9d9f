//! One answer as it grows: what the engine says, owned, told apart and added up. Prints nothing.

use std::ops::ControlFlow;

use mlxr::Error;
use mlxr::engine::request::{Event, Finish, Sink, Timings, Usage};

use crate::interrupt::Interrupt;
use crate::parse::{Parser, Part};

/// An [`Event`] that owns its text and can be sent to another thread.
#[derive(Debug)]
pub(crate) enum News {
    Started {
        seed: u64,
    },
    Prefill {
        done: usize,
        total: usize,
    },
    Text(String),
    Done {
        finish: Finish,
        usage: Usage,
        timings: Timings,
    },
    Failed(Error),
}

/// A sink that hands everything to `send`, and ends the generation when that says that nobody
/// listens any more, or when Ctrl-C was pressed.
pub(crate) fn sink(
    interrupt: Interrupt,
    mut send: impl FnMut(News) -> ControlFlow<()> + Send + 'static,
) -> Sink {
    Box::new(move |event| {
        let news = match event {
            Event::Waiting | Event::Read(_) => None,
            Event::Started { seed, .. } => Some(News::Started { seed }),
            Event::Prefill { done, total } => Some(News::Prefill { done, total }),
            Event::Text { text, .. } => Some(News::Text(text.to_owned())),
            Event::Done {
                finish,
                usage,
                timings,
            } => Some(News::Done {
                finish,
                usage,
                timings,
            }),
            Event::Failed(error) => Some(News::Failed(error)),
        };
        if let Some(news) = news {
            send(news)?;
        }
        if interrupt.pressed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// A piece of text, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) thinking: String,
    pub(crate) answer: String,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// What the model thought before, without the tags.
    pub(crate) thinking: String,
    pub(crate) seed: u64,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
    /// The limit of tokens that was asked for.
    pub(crate) limit: Option<usize>,
}

/// An answer that is not complete.
#[derive(Debug)]
pub(crate) struct Growing {
    parser: Parser,
    text: String,
    thinking: String,
    seed: u64,
    limit: Option<usize>,
}

/// Where an answer stands after some news.
#[derive(Debug)]
pub(crate) enum Stage {
    Prefill {
        done: usize,
        total: usize,
    },
    /// This was added.
    Grown(Split),
    /// This was added last, and the answer is complete.
    Complete(Split, Answer),
}

impl Growing {
    pub(crate) fn new(parser: Parser, limit: Option<usize>) -> Self {
        Self {
            parser,
            text: String::new(),
            thinking: String::new(),
            seed: 0,
            limit,
        }
    }

    /// Takes in what the engine said.
    ///
    /// # Errors
    /// What the engine failed with.
    pub(crate) fn hear(&mut self, news: News) -> Result<Stage, Error> {
        match news {
            News::Started { seed } => {
                self.seed = seed;
                Ok(Stage::Grown(Split::default()))
            }
            News::Prefill { done, total } => Ok(Stage::Prefill { done, total }),
            News::Text(text) => {
                let parts = self.parser.push(&text);
                Ok(Stage::Grown(self.add(parts)))
            }
            News::Done {
                finish,
                usage,
                timings,
            } => {
                let is_whole =
                    matches!(finish, Finish::Eos(_) | Finish::Complete | Finish::Stop(_));
                let parts = self.parser.finish(is_whole);
                let split = self.add(parts);
                let (text, thinking) = (
                    std::mem::take(&mut self.text),
                    std::mem::take(&mut self.thinking),
                );
                let (seed, limit) = (self.seed, self.limit);
                let answer = Answer {
                    text,
                    thinking,
                    seed,
                    finish,
                    usage,
                    timings,
                    limit,
                };
                Ok(Stage::Complete(split, answer))
            }
            News::Failed(error) => Err(error),
        }
    }

    /// What there is of the answer.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn add(&mut self, parts: Vec<Part>) -> Split {
        let mut split = Split::default();
        for part in parts {
            match part {
                Part::Thinking(text) => split.thinking.push_str(&text),
                Part::Content(text) => split.answer.push_str(&text),
                // No tool was offered, so that nothing is taken for a call.
                Part::Call(_) => {}
            }
        }
        self.text.push_str(&split.answer);
        self.thinking.push_str(&split.thinking);
        split
    }
}
