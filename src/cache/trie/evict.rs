//! How the tree makes room.

use std::cmp::Reverse;
use std::time::Instant;

use super::{Checkpoint, Node, NodeId, Rows, Trie};

/// What of a node can go without harm to any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Droppable {
    /// The node, with everything.
    Node,
    /// Its rows, which a live sequence has too, and its checkpoint.
    State,
    /// Its checkpoint: the nodes below need its rows.
    Checkpoint,
}

/// Of which memory something is to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// Where sequences have theirs.
    Resident,
    /// Where state is offloaded to.
    Offloaded,
}

impl<R: Rows, C: Checkpoint> Node<R, C> {
    /// Memory of what is copied out, where sequences have theirs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_in(Tier::Resident)
    }

    fn bytes_in(&self, tier: Tier) -> usize {
        let rows = self.rows.as_ref().map_or(0, |rows| match tier {
            Tier::Resident => rows.bytes(),
            Tier::Offloaded => rows.offloaded_bytes(),
        });
        rows + self.checkpoint_bytes(tier)
    }

    fn checkpoint_bytes(&self, tier: Tier) -> usize {
        self.checkpoint.as_ref().map_or(0, |saved| match tier {
            Tier::Resident => saved.bytes(),
            Tier::Offloaded => saved.offloaded_bytes(),
        })
    }

    fn droppable(&self, tier: Tier) -> (Droppable, usize) {
        if self.children.is_empty() && self.standing == 0 {
            (Droppable::Node, self.bytes_in(tier))
        } else if self.backing > 0 || self.children.is_empty() {
            (Droppable::State, self.bytes_in(tier))
        } else {
            (Droppable::Checkpoint, self.checkpoint_bytes(tier))
        }
    }

    /// What goes first: what no live sequence backs; of that the least recently used, then the deepest, then
    /// the largest.
    fn rank(&self, bytes: usize) -> (bool, Instant, Reverse<usize>, Reverse<usize>) {
        let is_backed = self.backing > 0;
        (is_backed, self.last_used, Reverse(self.end), Reverse(bytes))
    }
}

impl<R: Rows, C: Checkpoint> Trie<R, C> {
    /// Gives up what is copied out until no more than `limit` bytes are left.
    pub fn evict(&mut self, limit: usize) {
        while self.bytes > limit
            && let Some((id, what)) = self.victim(Tier::Resident)
        {
            self.drop_part(id, what);
        }
    }

    /// Gives up something of what is offloaded; says whether there was anything.
    pub fn evict_offloaded(&mut self) -> bool {
        let victim = self.victim(Tier::Offloaded);
        if let Some((id, what)) = victim {
            self.drop_part(id, what);
        }
        victim.is_some()
    }

    /// Which node's copies are to make room next, by being offloaded or [given up](Self::evict); `None` where
    /// nothing is copied out.
    pub fn oldest(&self) -> Option<NodeId> {
        let nodes = self.nodes.iter();
        let nodes = nodes.map(|(index, node)| (NodeId(index), node, node.bytes()));
        let resident = nodes.filter(|(.., bytes)| *bytes > 0);
        let oldest = resident.min_by_key(|(_, node, bytes)| node.rank(*bytes));
        oldest.map(|(id, ..)| id)
    }

    fn victim(&self, tier: Tier) -> Option<(NodeId, Droppable)> {
        if !self.nodes.iter().any(|(_, node)| node.bytes_in(tier) > 0) {
            return None;
        }
        // What frees nothing by itself may be in the way of what does.
        let candidates = self.nodes.iter().filter_map(|(index, node)| {
            let (what, bytes) = node.droppable(tier);
            let id = NodeId(index);
            let is_leaf = what == Droppable::Node && id != Self::ROOT;
            (bytes > 0 || is_leaf).then_some((id, node, what, bytes))
        });
        let rank =
            |(_, node, _, bytes): &(_, &Node<R, C>, _, usize)| (*bytes == 0, node.rank(*bytes));
        let (id, _, what, _) = candidates.min_by_key(rank)?;
        Some((id, what))
    }

    fn drop_part(&mut self, id: NodeId, what: Droppable) {
        let node = &mut self.nodes[id.0];
        let before = node.bytes();
        node.checkpoint = None;
        if what != Droppable::Checkpoint {
            node.rows = None;
        }
        self.bytes -= before - node.bytes();
        node.is_restore_point = false;
        match what {
            Droppable::Node => self.prune(id),
            Droppable::State | Droppable::Checkpoint if self.is_joint(id) => self.join(id),
            Droppable::State | Droppable::Checkpoint => {}
        }
    }

    /// Takes away a node that leads nowhere and keeps nothing, and those above that it leaves so.
    pub(super) fn prune(&mut self, mut id: NodeId) {
        while id != Self::ROOT {
            let node = self.node(id);
            let keeps = node.rows.is_some() || node.checkpoint.is_some();
            if node.standing > 0 || !node.children.is_empty() || keeps {
                return;
            }
            let (parent, first) = (node.parent, node.tokens.first().copied());
            self.nodes.remove(id.0);
            if let Some(first) = first {
                self.nodes[parent.0].children.remove(&first);
            }
            id = parent;
        }
    }
}
