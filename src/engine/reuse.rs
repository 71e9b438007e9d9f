//! Which ended sequence a new prompt goes on from, as plain data. Knows nothing of steps.

use crate::engine::stepper::Slot;

/// How many ended sequences keep their cache.
const IDLE_SLOTS: usize = 4;

/// The slots of ended sequences and the tokens in their caches, least recently used first.
#[derive(Debug, Default)]
pub(super) struct Idle {
    slots: Vec<(Slot, Vec<u32>)>,
}

impl Idle {
    /// Takes the slot that shares the longest start with `prompt`, and how many of its tokens are
    /// to be kept: always fewer than the prompt has, since one must be computed.
    pub(super) fn take(&mut self, prompt: &[u32]) -> Option<(Slot, usize)> {
        let reusable = &prompt[..prompt.len().saturating_sub(1)];
        let shared = |tokens: &[u32]| {
            tokens
                .iter()
                .zip(reusable)
                .take_while(|(held, wanted)| held == wanted)
                .count()
        };
        let candidates = self.slots.iter().enumerate();
        let (index, keep) = candidates
            .map(|(index, (_, tokens))| (index, shared(tokens)))
            .max_by_key(|&(_, keep)| keep)
            .filter(|&(_, keep)| keep > 0)?;
        Some((self.slots.remove(index).0, keep))
    }

    /// Keeps the slot of an ended sequence; gives back the one that is to be closed for it.
    pub(super) fn keep(&mut self, slot: Slot, tokens: Vec<u32>) -> Option<Slot> {
        if tokens.is_empty() {
            return Some(slot);
        }
        self.slots.push((slot, tokens));
        (self.slots.len() > IDLE_SLOTS).then(|| self.slots.remove(0).0)
    }

    /// Gives up a slot; says whether it was here.
    pub(super) fn remove(&mut self, slot: Slot) -> bool {
        let before = self.slots.len();
        self.slots.retain(|(held, _)| *held != slot);
        self.slots.len() < before
    }

    /// Every slot and its tokens.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &[u32])> {
        self.slots
            .iter()
            .map(|(slot, tokens)| (*slot, tokens.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(sequences: &[&[u32]]) -> Idle {
        let mut idle = Idle::default();
        for (index, tokens) in sequences.iter().enumerate() {
            assert_eq!(idle.keep(Slot(index), tokens.to_vec()), None);
        }
        idle
    }

    #[test]
    fn the_longest_shared_start_wins() {
        let mut idle = idle(&[&[1, 2, 3], &[1, 2, 3, 4, 5], &[1, 9]]);
        assert_eq!(idle.take(&[1, 2, 3, 4, 7, 8]), Some((Slot(1), 4)));
        assert_eq!(idle.take(&[1, 2, 3, 4, 7, 8]), Some((Slot(0), 3)));
        assert_eq!(idle.take(&[1, 2, 3, 4, 7, 8]), Some((Slot(2), 1)));
        assert_eq!(idle.take(&[1, 2, 3, 4, 7, 8]), None);
    }

    #[test]
    fn one_token_is_left_to_compute() {
        assert_eq!(
            idle(&[&[1, 2, 3, 4]]).take(&[1, 2, 3, 4]),
            Some((Slot(0), 3))
        );
        assert_eq!(idle(&[&[1, 2, 3, 4]]).take(&[1, 2]), Some((Slot(0), 1)));
        assert_eq!(idle(&[&[1, 2, 3, 4]]).take(&[1]), None);
    }

    #[test]
    fn a_foreign_sequence_is_left_alone() {
        let mut idle = idle(&[&[1, 2, 3]]);
        assert_eq!(idle.take(&[2, 3, 4]), None);
        assert_eq!(idle.iter().count(), 1);
    }

    #[test]
    fn of_equals_the_latest_is_taken() {
        assert_eq!(
            idle(&[&[1, 2], &[1, 2]]).take(&[1, 2, 3]),
            Some((Slot(1), 2))
        );
    }

    #[test]
    fn the_oldest_makes_room_and_an_empty_one_is_not_kept() {
        let mut idle = idle(&[&[1], &[2], &[3], &[4]]);
        assert_eq!(idle.keep(Slot(4), Vec::new()), Some(Slot(4)));
        assert_eq!(idle.keep(Slot(5), vec![5]), Some(Slot(0)));
        assert!(!idle.remove(Slot(0)) && idle.remove(Slot(5)));
    }
}
