//! State that moves between caches and copies.

use std::time::Instant;

use super::Prefixes;
use super::base::Base;
use crate::cache::trie::{Checkpoint, NodeId, Rows};
use crate::engine::stepper::{Restorable, Slot};
use crate::error::Result;

impl<R: Rows, C: Checkpoint> Prefixes<R, C> {
    /// Copies out what of a slot's cache is needed for branches that others have computed.
    pub(super) fn lend(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
    ) -> Result<()> {
        let Some(place) = self.places.get(&slot) else {
            return Ok(());
        };
        let path = self.trie.path(place.tip);
        let is_shared = |id: &NodeId| self.trie.node(*id).children().count() > 1;
        let shared = path.iter().rposition(is_shared).map_or(0, |last| last + 1);
        for &id in &path[..shared] {
            self.copy_out(stepper, slot, id)?;
        }
        Ok(())
    }

    /// Copies a node's rows out of a slot's cache if it is the only one that has them.
    pub(super) fn copy_out(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        id: NodeId,
    ) -> Result<()> {
        let node = self.trie.node(id);
        let range = node.range();
        if node.backing() == 1 && node.rows().is_none() && !range.is_empty() {
            let rows = stepper.copy_rows(slot, range)?;
            self.trie.attach_rows(id, rows);
        }
        Ok(())
    }

    /// Copies out what only this slot's cache has beyond its first `kept` tokens.
    pub(super) fn page_out(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        kept: usize,
    ) -> Result<()> {
        let Some(tip) = self.places.get(&slot).map(|place| place.tip) else {
            return Ok(());
        };
        let path = self.trie.path(tip);
        let inside = path.iter().find(|&&id| {
            let range = self.trie.node(id).range();
            range.start < kept && kept < range.end
        });
        if let Some(&id) = inside {
            self.trie.cut(id, kept);
        }
        for id in self.trie.path(tip) {
            if self.trie.node(id).range().start >= kept {
                self.copy_out(stepper, slot, id)?;
            }
        }
        if self.end(tip) > kept
            && let Some(checkpoint) = self.checkpoint_of(stepper, slot, tip)?
        {
            self.trie.attach_checkpoint(tip, checkpoint);
        }
        Ok(())
    }

    /// The state at the end of the node where a slot stands, if one is needed, none is kept, and the slot's
    /// cache has not gone on.
    pub(super) fn checkpoint_of(
        &self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        tip: NodeId,
    ) -> Result<Option<C>> {
        let is_needed = stepper.needs_checkpoints() && self.trie.node(tip).checkpoint().is_none();
        if is_needed && stepper.settle(slot)? == self.end(tip) {
            return stepper.checkpoint(slot).map(Some);
        }
        Ok(None)
    }

    /// Makes a slot hold the tokens that `base` restores.
    pub(super) fn restore(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        base: &Base,
        tokens: &[u32],
        now: Instant,
    ) -> Result<()> {
        let (kept, length) = (base.kept, base.length);
        let path = self.trie.find(tokens).path;
        let needed = path.iter().copied().filter(|&id| self.end(id) > kept);
        let needed: Vec<NodeId> = needed.collect();
        let copied = needed.iter().map(|&id| self.copy_from_others(stepper, id));
        let copied: Vec<Option<R>> = copied.collect::<Result<_>>()?;
        let rows = needed.iter().zip(&copied);
        let rows = rows.filter_map(|(&id, copied)| copied.as_ref().or(self.trie.node(id).rows()));
        let rows: Vec<&R> = rows.collect();
        let checkpoint = base.checkpoint;
        let checkpoint = checkpoint.and_then(|id| self.trie.node(id).checkpoint());
        if length > 0 {
            stepper.restore(slot, kept, &rows, checkpoint, length)?;
        }
        // The last node may be held in part only.
        let tip = path.iter().rev().find(|&&id| self.end(id) <= length);
        let tip = tip.copied().unwrap_or(Self::root());
        self.stand(slot, tip, Vec::new());
        if let Some(&landing) = path.last() {
            self.trie.touch(landing, now);
        }
        Ok(())
    }

    /// A copy of the rows of a node out of a cache that has them, where there is none that is as near.
    fn copy_from_others(
        &self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        id: NodeId,
    ) -> Result<Option<R>> {
        let node = self.trie.node(id);
        if node.rows().is_some_and(|rows| rows.bytes() > 0) {
            return Ok(None);
        }
        let mut places = self.places.iter();
        let backer = places.find(|(_, place)| self.trie.path(place.tip).contains(&id));
        let copy = backer.map(|(&backer, _)| stepper.copy_rows(backer, node.range()));
        copy.transpose()
    }
}
