//! From which cache and which copies a prompt is served best.

use std::cmp::Reverse;

use super::Prefixes;
use crate::cache::trie::{Checkpoint, Match, NodeId, Rows};
use crate::engine::stepper::{Restorable, Slot};

/// A way to serve a prompt.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// From this cache, or from an empty one.
    pub(super) slot: Option<Slot>,
    /// Tokens of it that stay.
    pub(super) kept: usize,
    /// Tokens that can be restored in all.
    pub(super) length: usize,
    /// The node whose checkpoint restores them, where the cache itself does not.
    pub(super) checkpoint: Option<NodeId>,
    /// Tokens whose state must be copied for it.
    pub(super) cost: usize,
}

impl<R: Rows, C: Checkpoint> Prefixes<R, C> {
    /// The way that restores most; among equals the cheapest, then the cache that was used last.
    pub(super) fn best(
        &self,
        stepper: &impl Restorable<Rows = R, Checkpoint = C>,
        found: &Match,
    ) -> Base {
        let idle = self.idle.iter().map(|&slot| Some(slot));
        let bases = std::iter::once(None).chain(idle);
        let bases = bases.map(|slot| self.base(stepper, found, slot));
        let best = bases
            .filter(|base| base.length > 0)
            .max_by_key(|base| (base.length, Reverse(base.cost)));
        best.unwrap_or_default()
    }

    pub(super) fn base(
        &self,
        stepper: &impl Restorable<Rows = R, Checkpoint = C>,
        found: &Match,
        slot: Option<Slot>,
    ) -> Base {
        let own = slot.and_then(|slot| self.places.get(&slot));
        let own = own.map_or(Vec::new(), |place| self.trie.path(place.tip));
        let both = found.path.iter().zip(&own).take_while(|(a, b)| a == b);
        let shared = both
            .last()
            .map_or(0, |(&id, _)| self.end(id).min(found.tokens));
        let rows = self.rows_from(found, shared);
        let (length, checkpoint) = if stepper.needs_checkpoints() {
            let is_live = slot.is_some_and(|slot| stepper.reaches(slot, shared));
            let live = (if is_live { shared } else { 0 }, None);
            live.max(self.last_checkpoint(found, rows))
        } else {
            (rows, None)
        };
        let kept = shared.min(length);
        let lost = own.iter().map(|&id| {
            let node = self.trie.node(id);
            let is_only_here = node.backing() == 1 && node.rows().is_none();
            let lost = node.range().end - node.range().start.max(kept).min(node.range().end);
            if is_only_here { lost } else { 0 }
        });
        Base {
            slot,
            kept,
            length,
            checkpoint,
            cost: lost.sum::<usize>() + length - kept,
        }
    }

    /// How far there are keys and values of what was found, on from some position.
    pub(super) fn rows_from(&self, found: &Match, position: usize) -> usize {
        let mut reached = position;
        for &id in &found.path {
            let node = self.trie.node(id);
            if node.range().end <= reached {
                continue;
            }
            if node.rows().is_none() && node.backing() == 0 {
                break;
            }
            reached = node.range().end.min(found.tokens);
        }
        reached
    }

    /// The last position of what was found, up to some, that a checkpoint restores, and its node.
    pub(super) fn last_checkpoint(&self, found: &Match, limit: usize) -> (usize, Option<NodeId>) {
        let ends = found.path.iter().filter_map(|&id| {
            let node = self.trie.node(id);
            let end = node.range().end.min(limit);
            let checkpoint = node.checkpoint()?;
            let is_there = end > node.range().start && checkpoint.restores(end);
            is_there.then_some((end, Some(id)))
        });
        ends.max().unwrap_or_default()
    }
}
