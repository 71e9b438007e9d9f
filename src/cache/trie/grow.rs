//! How the tree takes in what was computed.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Checkpoint, Node, NodeId, Rows, Trie};

impl<R: Rows, C: Checkpoint> Trie<R, C> {
    /// The node at the end of `tokens` after those of a node, made where there is none. A node that goes
    /// on beyond is cut in two. Nothing is kept of new ones yet: somebody must stand there, or attach to
    /// them.
    pub fn extend(&mut self, start: NodeId, tokens: &[u32], now: Instant) -> NodeId {
        let found = self.find_from(start, tokens);
        let known = found.tokens - self.node(start).end;
        let mut id = found.path.last().copied().unwrap_or(start);
        if found.tokens < self.node(id).end {
            id = self.cut(id, found.tokens);
        }
        let rest = &tokens[known..];
        let Some(&first) = rest.first() else {
            return id;
        };
        let child = NodeId(self.nodes.insert(Node {
            tokens: rest.to_vec(),
            end: found.tokens + rest.len(),
            parent: id,
            children: BTreeMap::new(),
            last_used: now,
            is_restore_point: false,
            is_stored: false,
            rows: None,
            checkpoint: None,
            standing: 0,
            backing: 0,
        }));
        self.nodes[id.0].children.insert(first, child);
        child
    }

    /// Keeps a copy of a node's rows, if there is none.
    pub fn attach_rows(&mut self, id: NodeId, rows: R) {
        let node = &mut self.nodes[id.0];
        if node.rows.is_none() {
            self.bytes += rows.bytes();
            node.rows = Some(rows);
        }
    }

    /// Keeps the state at a node's end, if there is none.
    pub fn attach_checkpoint(&mut self, id: NodeId, checkpoint: C) {
        let node = &mut self.nodes[id.0];
        if node.checkpoint.is_none() {
            self.bytes += checkpoint.bytes();
            node.checkpoint = Some(checkpoint);
        }
    }

    /// Puts copies of the same in the place of a node's rows and checkpoint; what is `None` stays.
    pub fn replace(&mut self, id: NodeId, rows: Option<R>, checkpoint: Option<C>) {
        let node = &mut self.nodes[id.0];
        self.bytes -= node.bytes();
        node.rows = rows.or(node.rows.take());
        node.checkpoint = checkpoint.or(node.checkpoint.take());
        self.bytes += node.bytes();
    }

    /// Conversations are known to go on from here.
    pub fn mark_restore_point(&mut self, id: NodeId) {
        if id != Self::ROOT {
            self.nodes[id.0].is_restore_point = true;
        }
    }

    /// Joins a node with the one above where nothing else needs that one: what was said without a pause is
    /// one node. The state between is then not kept.
    pub fn compact(&mut self, id: NodeId) {
        let parent = self.node(id).parent;
        let (upper, lower) = (self.node(parent), self.node(id));
        // One file is not made of another and more.
        let is_alike = upper.is_stored == lower.is_stored;
        if id != Self::ROOT && !upper.is_restore_point && is_alike && self.is_joint(parent) {
            self.join(parent);
        }
    }

    /// Whether a node does nothing but lead to its one child.
    pub(super) fn is_joint(&self, id: NodeId) -> bool {
        let node = self.node(id);
        id != Self::ROOT && node.standing == 0 && node.children.len() == 1
    }

    /// Makes one node of a joint and its child, under the child's name.
    pub(super) fn join(&mut self, id: NodeId) {
        let Some((_, &child)) = self.node(id).children.first_key_value() else {
            return;
        };
        let parent = self.nodes.remove(id.0);
        self.bytes -= parent.bytes();
        let node = &mut self.nodes[child.0];
        self.bytes -= node.rows.as_ref().map_or(0, R::bytes);
        node.rows = match (parent.rows, node.rows.take()) {
            (Some(above), Some(below)) => above.join(below),
            // What backs the one backs the other. Where nothing does, neither is of use without the other.
            _ => None,
        };
        self.bytes += node.rows.as_ref().map_or(0, R::bytes);
        node.is_stored &= parent.is_stored;
        node.tokens.splice(..0, parent.tokens.iter().copied());
        node.parent = parent.parent;
        node.last_used = node.last_used.max(parent.last_used);
        if let Some(&first) = parent.tokens.first() {
            self.nodes[parent.parent.0].children.insert(first, child);
        }
        self.prune(child);
    }

    /// Cuts a node in two at a position inside; gives the upper half. The lower one keeps the name, and the
    /// state at the end.
    pub fn cut(&mut self, id: NodeId, at: usize) -> NodeId {
        let node = &mut self.nodes[id.0];
        let start = node.end - node.tokens.len();
        let lower = node.tokens.split_off(at - start);
        let upper = std::mem::replace(&mut node.tokens, lower);
        self.bytes -= node.rows.as_ref().map_or(0, R::bytes);
        let (above, below) = match node.rows.take().and_then(|rows| rows.split(at)) {
            Some((above, below)) => (Some(above), Some(below)),
            None => (None, None),
        };
        for rows in above.iter().chain(&below) {
            self.bytes += rows.bytes();
        }
        node.rows = below;
        let (parent, last_used, backing) = (node.parent, node.last_used, node.backing);
        let is_stored = node.is_stored;
        let first = node.tokens.first().copied();
        let name = upper.first().copied();
        let half = NodeId(self.nodes.insert(Node {
            tokens: upper,
            end: at,
            parent,
            children: first.map(|first| (first, id)).into_iter().collect(),
            last_used,
            is_restore_point: false,
            is_stored,
            rows: above,
            checkpoint: None,
            standing: 0,
            backing,
        }));
        self.nodes[id.0].parent = half;
        if let Some(name) = name {
            self.nodes[parent.0].children.insert(name, half);
        }
        half
    }
}
