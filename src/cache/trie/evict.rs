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

impl<R: Rows, C> Node<R, C>
where
    C: Checkpoint,
{
    pub(super) fn bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, R::bytes) + self.checkpoint_bytes()
    }

    fn checkpoint_bytes(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, C::bytes)
    }

    fn droppable(&self) -> (Droppable, usize) {
        if self.children.is_empty() && self.standing == 0 {
            (Droppable::Node, self.bytes())
        } else if self.backing > 0 || self.children.is_empty() {
            (Droppable::State, self.bytes())
        } else {
            (Droppable::Checkpoint, self.checkpoint_bytes())
        }
    }
}

impl<R: Rows, C: Checkpoint> Trie<R, C> {
    /// Gives up what is copied out until no more than `limit` bytes are left: first what no live sequence
    /// backs; of that the least recently used, then the deepest, then the largest.
    pub fn evict(&mut self, limit: usize) {
        while self.bytes > limit
            && let Some((id, what)) = self.victim()
        {
            self.drop_part(id, what);
        }
    }

    /// When what [`Self::evict`] gives up next was last used, and whether a live sequence backs it; `None`
    /// where nothing is copied out.
    pub fn oldest(&self) -> Option<(bool, Instant)> {
        let (id, _) = self.victim()?;
        let node = self.node(id);
        Some((node.backing > 0, node.last_used))
    }

    fn victim(&self) -> Option<(NodeId, Droppable)> {
        let candidates = self.nodes.iter().filter_map(|(index, node)| {
            let (what, bytes) = node.droppable();
            (bytes > 0).then_some((NodeId(index), node, what, bytes))
        });
        let rank = |(_, node, _, bytes): &(_, &Node<R, C>, _, usize)| {
            (
                node.backing > 0,
                node.last_used,
                Reverse(node.end),
                Reverse(*bytes),
            )
        };
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
            if node.standing > 0 || !node.children.is_empty() || node.bytes() > 0 {
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
