//! What goes where there is no room.

use super::Prefixes;
use crate::cache::trie::{Checkpoint, Node, NodeId, Rows};
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
            let slot = self.idle.first().copied();
            let place = slot.and_then(|slot| self.places.get(&slot));
            let rank = |id: NodeId| {
                let node = self.trie.node(id);
                (node.backing() > 0, node.last_used())
            };
            let used = place.map(|place| (false, rank(place.tip).1));
            let copy = self.trie.oldest().map(|id| (rank(id), id));
            match (slot, copy) {
                (Some(slot), copy) if copy.is_none_or(|(copy, _)| used <= Some(copy)) => {
                    self.give_up(stepper, slot);
                }
                (_, Some((_, id))) => {
                    if !self.offload(stepper, id) {
                        // Trying may have left nothing.
                        self.trie.evict(self.trie.bytes().saturating_sub(1));
                    }
                }
                (_, None) => return is_changed,
            }
            is_changed = true;
        }
    }

    /// Gives up the cache of an ended sequence, and saves of it what can be saved. The rest is computed again.
    fn give_up(&mut self, stepper: &mut impl Restorable<Rows = R, Checkpoint = C>, slot: Slot) {
        let is_saved =
            stepper.offload_room() > 0 && self.offload_slot(stepper, slot).unwrap_or(false);
        let copy = stepper.copy_bytes(self.beyond(slot, 0));
        if !is_saved && stepper.used() + copy <= stepper.room() {
            drop(self.lend(stepper, slot));
        }
        self.close(stepper, slot);
    }

    /// Copies what only this slot's cache has to where it takes no memory of sequences; says whether there is room.
    fn offload_slot(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
    ) -> Result<bool> {
        let Some(tip) = self.places.get(&slot).map(|place| place.tip) else {
            return Ok(false);
        };
        loop {
            // Making room may have joined nodes.
            let nodes = self.trie.path(tip).into_iter().map(|id| self.trie.node(id));
            let nodes = nodes.filter(|node| node.rows().is_none());
            let tokens = nodes.map(|node| node.range().len()).sum();
            let bytes = stepper.copy_bytes(tokens) + stepper.checkpoint_bytes();
            if stepper.offloaded() + bytes <= stepper.offload_room() {
                break;
            }
            if bytes > stepper.offload_room() || !self.trie.evict_offloaded() {
                return Ok(false);
            }
        }
        for id in self.trie.path(tip) {
            let node = self.trie.node(id);
            if node.backing() == 1 && node.rows().is_none() && !node.range().is_empty() {
                let rows = stepper.offload_rows(slot, node.range())?;
                self.trie.attach_rows(id, rows);
            }
        }
        if let Some(checkpoint) = self.checkpoint_of(stepper, slot, tip)? {
            let checkpoint = stepper.offload_checkpoint(&checkpoint)?;
            self.trie.attach_checkpoint(tip, checkpoint);
        }
        Ok(true)
    }

    /// Moves a node's copies to where they take no memory of sequences, if no cache has the same and there is
    /// room. Says whether they are there.
    fn offload(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        id: NodeId,
    ) -> bool {
        let bytes = |node: &Node<R, C>| {
            let rows = node.rows().map_or(0, Rows::bytes);
            rows + node.checkpoint().map_or(0, Checkpoint::bytes)
        };
        let node = loop {
            // Making room may have taken it away, or joined it with the one above.
            let node = self.trie.get(id).filter(|node| node.backing() == 0);
            let Some(needed) = node.map(bytes) else {
                return false;
            };
            if needed > stepper.offload_room() {
                return false;
            }
            if stepper.offloaded() + needed <= stepper.offload_room() {
                break self.trie.node(id);
            }
            if !self.trie.evict_offloaded() {
                return false;
            }
        };
        let rows = node.rows().map(|rows| stepper.offload(rows));
        let checkpoint = node.checkpoint();
        let checkpoint = checkpoint.map(|saved| stepper.offload_checkpoint(saved));
        let (Ok(rows), Ok(checkpoint)) = (rows.transpose(), checkpoint.transpose()) else {
            return false;
        };
        self.trie.replace(id, rows, checkpoint);
        self.trie.get(id).is_some_and(|node| bytes(node) == 0)
    }
}
