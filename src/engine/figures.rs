//! What the engine holds at one moment, as plain data for whoever looks into it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cache::trie::{Checkpoint, NodeId, Rows, Trie};

/// What the engine holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that have a place.
    pub live: Vec<LiveRequest>,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Bytes that the states of all sequences and what is kept of ended ones take.
    pub used: usize,
    /// Bytes that they may take.
    pub room: usize,
    /// Bytes that a device has handed to the host.
    pub offloaded: usize,
    /// Bytes that it may hand there.
    pub offload_room: usize,
    /// What is known of prefixes, each after the one that it goes on from.
    pub prefixes: Vec<KnownPrefix>,
}

/// A request that has a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRequest {
    /// Tokens of its prompt.
    pub prompt: usize,
    /// Of these, those that needed no computing.
    pub cached: usize,
    /// Of the prompt, tokens whose state is there.
    pub evaluated: usize,
    /// Tokens produced.
    pub produced: usize,
    /// Tokens that it may produce.
    pub limit: usize,
    /// Since it was submitted.
    pub age: Duration,
}

/// A run of tokens whose state is kept, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPrefix {
    /// Its place in the list of the one that it goes on from.
    pub parent: Option<usize>,
    /// Where it begins.
    pub start: usize,
    /// Its own tokens.
    pub tokens: Vec<u32>,
    /// Bytes that copies of its state take where sequences have theirs.
    pub bytes: usize,
    /// Bytes that they take elsewhere.
    pub offloaded_bytes: usize,
    /// Whether layers that cannot go back can go on from its end.
    pub has_checkpoint: bool,
    /// Whether it outlives the process.
    pub is_stored: bool,
    /// Sequences, live or idle, whose own caches have it.
    pub backing: usize,
    /// Since it was last gone on from.
    pub unused: Duration,
}

/// Everything that a tree knows.
pub(super) fn prefixes<R: Rows, C: Checkpoint>(trie: &Trie<R, C>) -> Vec<KnownPrefix> {
    let now = Instant::now();
    let mut known = Vec::new();
    let mut next: Vec<(Option<usize>, NodeId)> = children(trie, None, Trie::<R, C>::ROOT);
    while let Some((parent, id)) = next.pop() {
        let node = trie.node(id);
        let (rows, checkpoint) = (node.rows(), node.checkpoint());
        known.push(KnownPrefix {
            parent,
            start: node.range().start,
            tokens: node.tokens().to_vec(),
            bytes: rows.map_or(0, Rows::bytes) + checkpoint.map_or(0, Checkpoint::bytes),
            offloaded_bytes: rows.map_or(0, Rows::offloaded_bytes)
                + checkpoint.map_or(0, Checkpoint::offloaded_bytes),
            has_checkpoint: checkpoint.is_some(),
            is_stored: node.is_stored(),
            backing: node.backing(),
            unused: now.saturating_duration_since(node.last_used()),
        });
        next.extend(children(trie, Some(known.len() - 1), id));
    }
    known
}

fn children<R: Rows, C: Checkpoint>(
    trie: &Trie<R, C>,
    parent: Option<usize>,
    id: NodeId,
) -> Vec<(Option<usize>, NodeId)> {
    trie.node(id)
        .children()
        .map(|child| (parent, child))
        .collect()
}
