//! State that outlives the process.

use std::time::Instant;

use super::Prefixes;
use crate::cache::trie::{Checkpoint, NodeId, Rows};
use crate::engine::stepper::{Restorable, Slot, Stored};

impl<R: Rows, C: Checkpoint> Prefixes<R, C> {
    /// Takes in what is stored.
    pub(in crate::engine) fn load(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
    ) {
        let now = Instant::now();
        for Stored {
            tokens,
            start,
            rows,
            checkpoint,
        } in stepper.stored()
        {
            let known = self.trie.find(&tokens[..start]).tokens;
            if known < start {
                // What it goes on from has made room for something else.
                continue;
            }
            self.trie.extend(Self::root(), &tokens[..start], now);
            let end = self.trie.extend(Self::root(), &tokens, now);
            let path = self.trie.path(end);
            let path = path.iter().filter(|&&id| self.end(id) > start);
            let path: Vec<NodeId> = path.copied().collect();
            let mut rest = Some(rows);
            for id in path {
                let node_end = self.end(id);
                let part = if node_end < tokens.len() {
                    let cut = rest.take().and_then(|rows| rows.split(node_end));
                    cut.map(|(part, left)| {
                        rest = Some(left);
                        part
                    })
                } else {
                    rest.take()
                };
                if let Some(part) = part {
                    self.trie.attach_rows(id, part);
                }
                self.trie.mark_stored(id);
            }
            if let Some(checkpoint) = checkpoint {
                self.trie.attach_checkpoint(end, checkpoint);
                self.trie.mark_restore_point(end);
            }
        }
    }

    /// Stores what is not stored yet of the tokens that a slot holds.
    pub(super) fn store(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
    ) {
        let Some(tip) = self.places.get(&slot).map(|place| place.tip) else {
            return;
        };
        let mut tokens = Vec::new();
        for id in self.trie.path(tip) {
            let node = self.trie.node(id);
            tokens.extend_from_slice(node.tokens());
            if node.is_stored() {
                continue;
            }
            let state = if id == tip {
                self.checkpoint_of(stepper, slot, tip).unwrap_or_default()
            } else {
                None
            };
            let copied = match node.rows() {
                Some(_) => None,
                None => stepper.offload_rows(slot, node.range()).ok(),
            };
            let Some(rows) = node.rows().or(copied.as_ref()) else {
                return;
            };
            let state = node.checkpoint().or(state.as_ref());
            // What would go on from what is not stored is of no use either.
            let Some(stored) = stepper.store(&tokens, rows, state) else {
                return;
            };
            self.trie.replace(id, Some(stored.rows), stored.checkpoint);
            self.trie.mark_stored(id);
        }
    }
}
