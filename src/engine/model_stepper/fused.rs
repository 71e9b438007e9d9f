//! Steps of one token for each of a few sequences, by one kernel for the whole model: see `ops::decode`.

use crate::cache::{Places, SequenceCache};
use crate::engine::stepper::{Input, Slot, Work};
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::ops::decode::{Program, Step};

/// A model's program, and what steps leave for the next one.
pub(super) struct Fused {
    program: Program,
    /// The last step's tables.
    places: Option<Places>,
    /// How long sequences were before the last step, on the host and on the device.
    positions: Option<(Vec<i32>, Array)>,
    /// What the last step computes.
    after: Array,
    /// The tokens that were chosen for sequences all at once, int32 `[B]`.
    chosen: Option<(Vec<Slot>, Array)>,
}

impl Fused {
    pub(super) fn new(program: Program) -> Self {
        Self {
            program,
            places: None,
            positions: None,
            after: Array::from_slice(&[0_i32], &[1]),
            chosen: None,
        }
    }

    /// Whether all there is to do is to choose a token after one that is known, in few enough sequences.
    pub(super) fn takes(&self, work: &[Work]) -> bool {
        work.len() <= self.program.rows()
            && work.iter().all(|work| {
                let is_one = match &work.input {
                    Input::Tokens(tokens) => tokens.len() == 1,
                    Input::Previous => true,
                };
                is_one && work.sample && work.reading.is_none() && work.captures.is_empty()
            })
    }

    /// Logits `[B, vocabulary]`, not evaluated, after one more token of each sequence, `tokens` `[B]`. What the
    /// caches hold grows by them. `None` where MLX must append to one of the caches first; they are then as they were.
    ///
    /// # Errors
    /// What MLX says; the caches are then not usable any more.
    pub(super) fn step(
        &mut self,
        tokens: &Array,
        caches: &mut [&mut SequenceCache],
    ) -> Result<Option<Array>> {
        let lengths: Vec<i32> = caches.iter().map(|cache| cache.length() as i32).collect();
        let mut places = Vec::with_capacity(caches.len());
        for cache in &mut *caches {
            match cache.reserve(self.program.kept())? {
                Some(place) => places.push(place),
                None => return Ok(None),
            }
        }
        let places = Places::new(places, self.places.take())?;
        let positions = self.positions(&lengths)?;
        let logits = self.program.step(&Step {
            tokens,
            positions: &positions,
            longest: lengths.iter().copied().max().unwrap_or(0),
            caches: &places.addresses,
            places: &places.rows,
            after: &self.after,
        })?;
        for cache in caches {
            cache.advance();
        }
        self.places = Some(places);
        self.positions = Some((lengths, positions));
        Ok(Some(logits))
    }

    /// The tokens that come next, int32 `[B]`, of pieces of work whose tokens are `[1]` each.
    ///
    /// # Errors
    /// What MLX says.
    pub(super) fn tokens(&self, work: &[Work], tokens: &[Array]) -> Result<Array> {
        match (&self.chosen, tokens) {
            (_, [one]) => Ok(one.clone()),
            (Some((slots, all)), _) if follows(work, slots) => Ok(all.clone()),
            (_, several) => Ok(ops::concatenate(several, 0)?),
        }
    }

    /// The step's tokens are chosen, the last of which is this: the next step comes after it.
    pub(super) fn ends(&mut self, token: &Array) {
        self.after = token.clone();
        self.chosen = None;
    }

    /// Likewise, all at once.
    pub(super) fn ends_at_once(&mut self, work: &[Work], tokens: &Array) {
        self.after = tokens.clone();
        self.chosen = Some((work.iter().map(|work| work.slot).collect(), tokens.clone()));
    }

    /// Steps that were not this one's have chosen tokens.
    pub(super) fn interrupted(&mut self) {
        self.chosen = None;
    }

    /// Where they follow from those of the last step, nothing comes from the host.
    fn positions(&mut self, lengths: &[i32]) -> Result<Array> {
        if let Some((last, array)) = self.positions.take() {
            let next = last.iter().map(|length| length + 1);
            if next.eq(lengths.iter().copied()) {
                return Ok(array.add(Array::from_int(1))?);
            }
        }
        Ok(Array::from_slice(lengths, &[lengths.len() as i32]))
    }
}

/// Whether the work goes on with what was chosen for the same sequences.
fn follows(work: &[Work], slots: &[Slot]) -> bool {
    let goes_on = |work: &Work| matches!(work.input, Input::Previous);
    work.iter().all(goes_on) && work.iter().map(|work| work.slot).eq(slots.iter().copied())
}
