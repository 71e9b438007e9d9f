//! Drives a stepper through one test as the engine's scheduler does: prompts in its chunks, one step
//! ahead. Knows neither MLX nor what the tokens mean.

use std::time::{Duration, Instant};

use mlxr::engine::stepper::{Input, Slot, Stepper, Work};
use mlxr::sample::Sampling;
use mlxr::{Error, Result};

use super::plan::Test;
use super::tokens::Tokens;

/// Steps that are queued and not collected while the next one is built: as many as in the engine.
const STEPS_AHEAD: usize = 1;

/// What one repetition took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// From the first step to the last token.
    pub(crate) total: Duration,
    /// From the first step until every sequence has its first token.
    pub(crate) first_token: Duration,
}

/// The sequences of one test, filled to its depth.
pub(crate) struct Sequences {
    slots: Vec<Slot>,
    /// What each holds before the timed part.
    filling: Vec<Vec<u32>>,
}

/// One sequence's way through one pass.
struct Lane {
    slot: Slot,
    /// Tokens not queued yet, last first.
    tokens: Vec<u32>,
    /// Whether the token after the last of them is sampled.
    sample: bool,
    /// Tokens to generate after the sampled one.
    generate: usize,
    is_first: bool,
}

impl Sequences {
    /// Opens the sequences of `test` and fills them.
    pub(crate) fn open(
        stepper: &mut impl Stepper,
        test: &Test,
        tokens: &mut Tokens,
    ) -> Result<Self> {
        let slots = (0..test.sequences).map(|_| {
            let slot = stepper.open()?;
            stepper.sampling(slot, &Sampling::greedy(), 0, &[])?;
            Ok(slot)
        });
        let sequences = Self {
            slots: slots.collect::<Result<_>>()?,
            filling: (0..test.sequences)
                .map(|_| tokens.draw(test.depth))
                .collect(),
        };
        sequences.rewind(stepper)?;
        Ok(sequences)
    }

    /// Any of them.
    pub(crate) fn first(&self) -> Option<Slot> {
        self.slots.first().copied()
    }

    /// Runs `test` once on tokens drawn for it, then cuts the sequences back to where they were.
    pub(crate) fn pass(
        &self,
        stepper: &mut impl Stepper,
        test: &Test,
        tokens: &mut Tokens,
    ) -> Result<Sample> {
        // Generating begins with one token, as the end of a prompt that was evaluated before.
        let (prompt, generate) = match test.prompt {
            0 => (1, test.generate - 1),
            prompt => (prompt, test.generate),
        };
        let lanes = self.slots.iter().map(|&slot| {
            let mut tokens = tokens.draw(prompt);
            tokens.reverse();
            Lane {
                slot,
                tokens,
                sample: true,
                generate,
                is_first: true,
            }
        });
        let sample = drive(stepper, &mut lanes.collect::<Vec<_>>())?;
        self.rewind(stepper)?;
        Ok(sample)
    }

    /// Ends them.
    pub(crate) fn close(self, stepper: &mut impl Stepper) {
        for slot in self.slots {
            stepper.close(slot);
        }
    }

    /// Back to the filling; what a cache could not keep of it is computed again.
    fn rewind(&self, stepper: &mut impl Stepper) -> Result<()> {
        let mut lanes = Vec::new();
        for (&slot, filling) in self.slots.iter().zip(&self.filling) {
            let kept = stepper.rewind(slot, filling.len())?;
            lanes.push(Lane {
                slot,
                tokens: filling[kept..].iter().rev().copied().collect(),
                sample: false,
                generate: 0,
                is_first: true,
            });
        }
        drive(stepper, &mut lanes).map(drop)
    }
}

/// Queues and collects steps until all lanes are at their end.
fn drive(stepper: &mut impl Stepper, lanes: &mut [Lane]) -> Result<Sample> {
    let chunk = stepper.prefill_chunk().max(1);
    let mut without_token = lanes.len();
    let mut first_token = Duration::ZERO;
    let mut queued = 0;
    let begin = Instant::now();
    loop {
        let work = plan(lanes, chunk);
        let ahead = if work.is_empty() { 0 } else { STEPS_AHEAD };
        if !work.is_empty() {
            stepper.step(&work)?;
            queued += 1;
        }
        if queued > ahead {
            for sampled in stepper.collect()? {
                sampled.token.ok_or(Error::NotFinite)?;
                let lane = lanes.iter_mut().find(|lane| lane.slot == sampled.slot);
                if lane.is_some_and(|lane| std::mem::take(&mut lane.is_first)) {
                    without_token -= 1;
                    if without_token == 0 {
                        first_token = begin.elapsed();
                    }
                }
            }
            queued -= 1;
        } else if work.is_empty() {
            let total = begin.elapsed();
            return Ok(Sample { total, first_token });
        }
    }
}

/// The next step: of prompts `chunk` tokens in all, and a token of everyone past the prompt.
fn plan(lanes: &mut [Lane], chunk: usize) -> Vec<Work> {
    let mut room = chunk;
    let parts = lanes.iter_mut().filter_map(|lane| {
        if !lane.tokens.is_empty() {
            let rest = lane.tokens.len() - room.min(lane.tokens.len());
            let tokens: Vec<u32> = lane.tokens.drain(rest..).rev().collect();
            room -= tokens.len();
            return (!tokens.is_empty()).then_some(Work {
                slot: lane.slot,
                input: Input::Tokens(tokens),
                sample: lane.sample && lane.tokens.is_empty(),
                mask: None,
                reading: None,
                captures: Vec::new(),
            });
        }
        lane.generate = lane.generate.checked_sub(1)?;
        Some(Work {
            slot: lane.slot,
            input: Input::Previous,
            sample: true,
            mask: None,
            reading: None,
            captures: Vec::new(),
        })
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use mlxr::engine::request::Token;
    use mlxr::engine::stepper::Outcome;

    use super::*;

    /// Notes what it is asked and holds the engine's rules against it; its caches keep 4 tokens at a
    /// time.
    #[derive(Default)]
    struct Noting {
        lengths: Vec<usize>,
        queued: VecDeque<Vec<Slot>>,
        most_queued: usize,
        notes: Vec<String>,
    }

    impl Stepper for Noting {
        fn context(&self) -> usize {
            100
        }

        fn steps_ahead(&self) -> usize {
            1
        }

        fn cache_bytes_per_token(&self, _: Slot) -> usize {
            0
        }

        fn prefill_chunk(&self) -> usize {
            5
        }

        fn open(&mut self) -> Result<Slot> {
            self.lengths.push(0);
            Ok(Slot(self.lengths.len() - 1))
        }

        fn sampling(&mut self, _: Slot, how: &Sampling, _: u64, _: &[u32]) -> Result<()> {
            assert_eq!(*how, Sampling::greedy());
            Ok(())
        }

        fn rewind(&mut self, slot: Slot, length: usize) -> Result<usize> {
            assert!(self.queued.is_empty());
            let kept = self.lengths[slot.0].min(length) / 4 * 4;
            self.lengths[slot.0] = kept;
            Ok(kept)
        }

        fn step(&mut self, work: &[Work]) -> Result<()> {
            let mut note = Vec::new();
            for work in work {
                let count = match &work.input {
                    Input::Tokens(tokens) => tokens.len(),
                    Input::Previous => 1,
                };
                self.lengths[work.slot.0] += count;
                let mark = if work.sample { "!" } else { "" };
                note.push(format!("{}:{count}{mark}", work.slot.0));
            }
            self.notes.push(note.join(" "));
            let sampling = work.iter().filter(|work| work.sample);
            self.queued
                .push_back(sampling.map(|work| work.slot).collect());
            self.most_queued = self.most_queued.max(self.queued.len());
            Ok(())
        }

        fn collect(&mut self) -> Result<Vec<Outcome>> {
            let slots = self.queued.pop_front().unwrap().into_iter();
            let token = Some(Token {
                id: 1,
                logprobs: None,
            });
            let sampled = slots.map(|slot| Outcome {
                slot,
                token: token.clone(),
                ..Outcome::default()
            });
            Ok(sampled.collect())
        }

        fn close(&mut self, slot: Slot) {
            self.lengths[slot.0] = 0;
        }
    }

    /// The steps of one pass, and how long sequences are afterwards.
    fn steps(prompt: usize, generate: usize, depth: usize, sequences: usize) -> Vec<String> {
        let test = Test {
            prompt,
            generate,
            depth,
            sequences,
        };
        let mut stepper = Noting::default();
        let mut tokens = Tokens::new((0..10).collect(), 0);
        let opened = Sequences::open(&mut stepper, &test, &mut tokens).unwrap();
        assert_eq!(stepper.lengths, vec![depth; sequences]);
        stepper.notes.clear();
        let sample = opened.pass(&mut stepper, &test, &mut tokens).unwrap();
        assert!(sample.first_token > Duration::ZERO && sample.first_token <= sample.total);
        assert_eq!(stepper.lengths, vec![depth; sequences]);
        assert!(stepper.most_queued <= 2 && stepper.queued.is_empty());
        opened.close(&mut stepper);
        stepper.notes
    }

    #[test]
    fn a_prompt_goes_in_chunks_and_samples_at_its_end() {
        assert_eq!(steps(12, 0, 0, 1), ["0:5", "0:5", "0:2!"]);
    }

    #[test]
    fn generating_evaluates_as_many_tokens_as_it_counts() {
        assert_eq!(steps(0, 3, 0, 1), ["0:1!", "0:1!", "0:1!"]);
        assert_eq!(steps(2, 2, 0, 1), ["0:2!", "0:1!", "0:1!"]);
    }

    #[test]
    fn sequences_share_chunks_and_steps() {
        assert_eq!(steps(3, 1, 0, 2), ["0:3! 1:2", "0:1! 1:1!", "1:1!"],);
    }

    #[test]
    fn what_a_cache_did_not_keep_of_the_depth_is_filled_again() {
        // Back to 7 keeps 4: 3 more are computed, after the timed part.
        assert_eq!(steps(1, 0, 7, 1), ["0:1!", "0:3"]);
        assert_eq!(steps(1, 0, 8, 1), ["0:1!"]);
    }
}
