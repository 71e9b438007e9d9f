//! State that moves between caches and copies, and what goes where there is no room.

use std::time::Instant;

use super::Prefixes;
use super::base::Base;
use crate::cache::trie::{Checkpoint, NodeId, Rows};
use crate::engine::stepper::{Restorable, Slot};
use crate::error::Result;

impl<R: Rows, C: Checkpoint> Prefixes<R, C> {
    /// Whether so many bytes can be promised beside what is promised already.
    pub(in crate::engine) fn fits(&self, stepper: &impl Restorable, bytes: usize) -> bool {
        let promised: usize = self.reserved.values().sum();
        promised + bytes <= stepper.room()
    }

    /// Memory that is taken by what is kept of ended sequences, as far as no running one shares it.
    pub(in crate::engine) fn kept_bytes(&self, stepper: &impl Restorable) -> usize {
        let running = self.reserved.keys().map(|&slot| stepper.bytes(slot));
        stepper.used().saturating_sub(running.sum())
    }

    /// Promises a running sequence that it may grow to so many bytes, if there are.
    pub(in crate::engine) fn extend(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        bytes: usize,
    ) -> bool {
        let before = self.reserved.get(&slot).copied().unwrap_or(0);
        if !self.fits(stepper, bytes.saturating_sub(before)) {
            return false;
        }
        self.reserved.insert(slot, bytes.max(before));
        self.make_room(stepper);
        true
    }

    /// Gives up caches of ended sequences and copies, the least recently used first, until everything that is
    /// promised can be had.
    pub(super) fn make_room(&mut self, stepper: &mut impl Restorable<Rows = R, Checkpoint = C>) {
        self.make_room_for(stepper, 0);
    }

    /// The same, and so many bytes beside. Says whether something was given up.
    pub(super) fn make_room_for(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        bytes: usize,
    ) -> bool {
        let mut is_changed = false;
        loop {
            let grown = self.reserved.iter();
            let grown = grown.map(|(&slot, reserved)| reserved.saturating_sub(stepper.bytes(slot)));
            if stepper.used() + grown.sum::<usize>() + bytes <= stepper.room() {
                return is_changed;
            }
            let oldest = self.idle.first().copied();
            let used = oldest.and_then(|slot| self.places.get(&slot));
            let used = used.map(|place| (false, self.trie.node(place.tip).last_used()));
            match (oldest, self.trie.oldest()) {
                (Some(slot), copy) if copy.is_none_or(|copy| used <= Some(copy)) => {
                    // What cannot be copied is computed again.
                    if stepper.used() + stepper.copy_bytes(self.beyond(slot, 0)) <= stepper.room() {
                        drop(self.lend(stepper, slot));
                    }
                    self.close(stepper, slot);
                }
                (_, Some(_)) => self.trie.evict(self.trie.bytes() - 1),
                (_, None) => return is_changed,
            }
            is_changed = true;
        }
    }

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
        for &id in &needed {
            self.copy_from_others(stepper, id)?;
        }
        let rows = needed.iter().filter_map(|&id| self.trie.node(id).rows());
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

    /// Copies the rows of a node out of a cache that has them, where nobody has done so.
    pub(super) fn copy_from_others(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        id: NodeId,
    ) -> Result<()> {
        if self.trie.node(id).rows().is_some() {
            return Ok(());
        }
        let mut places = self.places.iter();
        let backer = places.find(|(_, place)| self.trie.path(place.tip).contains(&id));
        if let Some((&backer, _)) = backer {
            let rows = stepper.copy_rows(backer, self.trie.node(id).range())?;
            self.trie.attach_rows(id, rows);
        }
        Ok(())
    }
}
