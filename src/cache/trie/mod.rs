//! The prefixes whose state is known, as a tree of tokens: plain data, knows no MLX.
//!
//! A node is a run of tokens after those of its parent. Its state is in one of two places, or in both: copied
//! out, as [`Rows`] of the run and a [`Checkpoint`] at its end, or in the live cache of a sequence that
//! stands at the node or below and *backs* it.

mod evict;
mod grow;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use slab::Slab;

/// Keys and values of a run of positions, in all layers that keep every position.
pub trait Rows: Sized {
    /// Memory that they take where sequences have theirs.
    fn bytes(&self) -> usize;

    /// Memory that they take elsewhere: they were offloaded.
    fn offloaded_bytes(&self) -> usize;

    /// Those before a position and those from it on; `None` where they are lost over it. The position is
    /// absolute and inside.
    fn split(self, at: usize) -> Option<(Self, Self)>;

    /// With those that follow; `None` where they are lost over it.
    fn join(self, next: Self) -> Option<Self>;
}

/// The state after a position of all layers that cannot go back: recurrent ones, and those that keep a window.
pub trait Checkpoint {
    /// Memory that it takes where sequences have theirs.
    fn bytes(&self) -> usize;

    /// Memory that it takes elsewhere: it was offloaded.
    fn offloaded_bytes(&self) -> usize;

    /// Whether the state after so many tokens can be made of it. It is one not after its own position.
    fn restores(&self, position: usize) -> bool;
}

/// A node's name. It is not given again while the node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// A run of tokens, and what is kept of it.
#[derive(Debug)]
pub struct Node<R, C> {
    /// Follow those of all nodes above. Only the root has none.
    tokens: Vec<u32>,
    /// Tokens from the root to the end of this node.
    end: usize,
    /// The root's is itself.
    parent: NodeId,
    /// By their first tokens.
    children: BTreeMap<u32, NodeId>,
    last_used: Instant,
    /// Conversations are known to go on from its end: it is not joined with what follows.
    is_restore_point: bool,
    rows: Option<R>,
    checkpoint: Option<C>,
    /// What is kept of it is also stored where it outlives the process.
    is_stored: bool,
    /// Live sequences that stand at its end.
    standing: usize,
    /// Live sequences that stand at its end or below: their caches have its rows.
    backing: usize,
}

impl<R, C> Node<R, C> {
    /// Its run of tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The positions of its run.
    pub fn range(&self) -> Range<usize> {
        self.end - self.tokens.len()..self.end
    }

    /// What follows it.
    pub fn children(&self) -> impl Iterator<Item = NodeId> {
        self.children.values().copied()
    }

    /// When it was last what somebody went on from.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Whether conversations are known to go on from its end.
    pub fn is_restore_point(&self) -> bool {
        self.is_restore_point
    }

    /// Whether what is kept of it is also stored where it outlives the process.
    pub fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Its keys and values, where they are copied out.
    pub fn rows(&self) -> Option<&R> {
        self.rows.as_ref()
    }

    /// The state at its end, where one is kept.
    pub fn checkpoint(&self) -> Option<&C> {
        self.checkpoint.as_ref()
    }

    /// How many live sequences stand at its end or below: their caches have its rows.
    pub fn backing(&self) -> usize {
        self.backing
    }
}

/// How far a sequence of tokens is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// From the root to the last node that has any of it.
    pub path: Vec<NodeId>,
    /// Tokens that are known. The last node may go on differently after them.
    pub tokens: usize,
}

/// The tree.
#[derive(Debug)]
pub struct Trie<R, C> {
    nodes: Slab<Node<R, C>>,
    /// Of everything copied out.
    bytes: usize,
}

impl<R: Rows, C: Checkpoint> Trie<R, C> {
    /// Where every path begins.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree that knows nothing.
    pub fn new(now: Instant) -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node {
            tokens: Vec::new(),
            end: 0,
            parent: Self::ROOT,
            children: BTreeMap::new(),
            last_used: now,
            is_restore_point: false,
            is_stored: true,
            rows: None,
            checkpoint: None,
            standing: 0,
            backing: 0,
        });
        Self { nodes, bytes: 0 }
    }

    /// A node, by a name that was given for it.
    pub fn node(&self, id: NodeId) -> &Node<R, C> {
        &self.nodes[id.0]
    }

    /// A node, if it is still there.
    pub fn get(&self, id: NodeId) -> Option<&Node<R, C>> {
        self.nodes.get(id.0)
    }

    /// Memory of everything copied out.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How far these tokens are known.
    pub fn find(&self, tokens: &[u32]) -> Match {
        self.find_from(Self::ROOT, tokens)
    }

    /// How far these tokens are known after a node. The path begins with it.
    fn find_from(&self, start: NodeId, tokens: &[u32]) -> Match {
        let mut found = Match {
            path: vec![start],
            tokens: self.node(start).end,
        };
        let (mut id, mut left) = (start, tokens);
        while let Some(first) = left.first()
            && let Some(&child) = self.node(id).children.get(first)
        {
            let edge = &self.node(child).tokens;
            let same = edge.iter().zip(left).take_while(|(a, b)| a == b).count();
            found.path.push(child);
            found.tokens += same;
            if same < edge.len() {
                break;
            }
            (id, left) = (child, &left[same..]);
        }
        found
    }

    /// From the root to a node.
    pub fn path(&self, mut id: NodeId) -> Vec<NodeId> {
        let mut path = vec![id];
        while id != Self::ROOT {
            id = self.node(id).parent;
            path.push(id);
        }
        path.reverse();
        path
    }

    /// A live sequence now stands at the end of a node: its cache has all rows up to there. The node stays
    /// until the sequence is [gone](Self::leave).
    pub fn stand(&mut self, id: NodeId) {
        self.nodes[id.0].standing += 1;
        self.each_above(id, |node| node.backing += 1);
    }

    /// A live sequence does not stand there any more. Nodes that are of no use without it go.
    pub fn leave(&mut self, id: NodeId) {
        self.nodes[id.0].standing -= 1;
        self.each_above(id, |node| node.backing -= 1);
        self.prune(id);
    }

    /// A conversation went on from here.
    pub fn touch(&mut self, id: NodeId, now: Instant) {
        self.nodes[id.0].last_used = now;
    }

    /// What is kept of a node is now stored where it outlives the process.
    pub fn mark_stored(&mut self, id: NodeId) {
        self.nodes[id.0].is_stored = true;
    }

    /// Forgets what is copied out of a node, if that is still there: it is not to be relied on.
    pub fn forget_if_there(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id.0) else {
            return;
        };
        self.bytes -= node.bytes();
        // Of the root there is nothing that could be stored.
        let is_stored = id == Self::ROOT;
        (node.rows, node.checkpoint, node.is_stored) = (None, None, is_stored);
        self.prune(id);
    }

    fn each_above(&mut self, mut id: NodeId, change: impl Fn(&mut Node<R, C>)) {
        loop {
            let node = &mut self.nodes[id.0];
            change(node);
            if id == Self::ROOT {
                return;
            }
            id = node.parent;
        }
    }
}
