//! The tree over logs of tokens: what a node keeps must be what its path says.

mod property;

use std::time::{Duration, Instant};

use super::*;

/// Rows that remember whose they are.
#[derive(Debug, Clone)]
struct Log {
    start: usize,
    tokens: Vec<u32>,
    /// How many of them are offloaded.
    offloaded: usize,
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        (self.start, &self.tokens) == (other.start, &other.tokens)
    }
}

impl Rows for Log {
    fn bytes(&self) -> usize {
        self.tokens.len() - self.offloaded
    }

    fn offloaded_bytes(&self) -> usize {
        self.offloaded
    }

    fn split(mut self, at: usize) -> Option<(Self, Self)> {
        let tokens = self.tokens.split_off(at - self.start);
        let above = self.offloaded.min(self.tokens.len());
        let offloaded = self.offloaded - above;
        self.offloaded = above;
        let below = Self {
            start: at,
            tokens,
            offloaded,
        };
        Some((self, below))
    }

    fn join(mut self, next: Self) -> Option<Self> {
        assert_eq!(self.start + self.tokens.len(), next.start, "they touch");
        self.tokens.extend(next.tokens);
        self.offloaded += next.offloaded;
        Some(self)
    }
}

/// A state that remembers all tokens before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    before: Vec<u32>,
    bytes: usize,
    is_offloaded: bool,
}

impl Checkpoint for State {
    fn bytes(&self) -> usize {
        if self.is_offloaded { 0 } else { self.bytes }
    }

    fn offloaded_bytes(&self) -> usize {
        if self.is_offloaded { self.bytes } else { 0 }
    }

    fn restores(&self, position: usize) -> bool {
        position == self.before.len()
    }
}

type Tree = Trie<Log, State>;

impl Tree {
    /// All tokens from the root to the end of a node.
    fn tokens_to(&self, id: NodeId) -> Vec<u32> {
        let path = self.path(id).into_iter();
        path.flat_map(|id| self.node(id).tokens().to_vec())
            .collect()
    }

    fn log_of(&self, id: NodeId) -> Log {
        let node = self.node(id);
        Log {
            start: node.range().start,
            tokens: node.tokens().to_vec(),
            offloaded: 0,
        }
    }

    fn state_of(&self, id: NodeId, bytes: usize) -> State {
        State {
            before: self.tokens_to(id),
            bytes,
            is_offloaded: false,
        }
    }

    /// Moves everything that is copied out of a node.
    fn offload(&mut self, id: NodeId) {
        let node = self.node(id);
        let rows = node.rows().map(|rows| Log {
            offloaded: rows.tokens.len(),
            ..rows.clone()
        });
        let checkpoint = node.checkpoint().map(|state| State {
            is_offloaded: true,
            ..state.clone()
        });
        self.replace(id, rows, checkpoint);
    }

    /// Memory of what is offloaded.
    fn offloaded_bytes(&self) -> usize {
        let nodes = self.nodes.iter().map(|(_, node)| {
            let rows = node.rows().map_or(0, Rows::offloaded_bytes);
            rows + node.checkpoint().map_or(0, Checkpoint::offloaded_bytes)
        });
        nodes.sum()
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|(index, _)| NodeId(index)).collect()
    }

    /// Every invariant of the tree.
    fn check(&self, standing: &[NodeId]) {
        let mut bytes = 0;
        for id in self.ids() {
            let node = self.node(id);
            bytes += node.bytes();
            let stands = standing.iter().filter(|&&held| held == id).count();
            let backs = standing
                .iter()
                .filter(|&&held| self.path(held).contains(&id));
            assert_eq!((node.standing, node.backing), (stands, backs.count()));
            for (first, &child) in &node.children {
                let child = self.node(child);
                assert_eq!(
                    child.tokens.first(),
                    Some(first),
                    "children go by their first token"
                );
                assert_eq!(
                    child.range().start,
                    node.end,
                    "a child begins where its parent ends"
                );
                assert_eq!(child.parent, id, "a child knows its parent");
            }
            if id == Self::ROOT {
                assert!(
                    node.tokens.is_empty() && node.bytes() == 0,
                    "the root is empty"
                );
                continue;
            }
            assert!(!node.tokens.is_empty(), "only the root is empty");
            let siblings = &self.node(node.parent).children;
            assert_eq!(
                siblings.get(&node.tokens[0]),
                Some(&id),
                "a parent knows its child"
            );
            let keeps = node.rows().is_some() || node.checkpoint().is_some();
            let is_of_use = keeps || node.standing > 0 || !node.children.is_empty();
            assert!(is_of_use, "no node is there for nothing");
            if let Some(rows) = node.rows() {
                assert_eq!(rows, &self.log_of(id), "rows span exactly their node");
            }
            if let Some(state) = node.checkpoint() {
                assert_eq!(
                    state.before,
                    self.tokens_to(id),
                    "a state is that of its path"
                );
            }
        }
        assert_eq!(self.bytes(), bytes, "bytes are counted");
    }
}

/// A tree with these sequences copied out, each a second later than the one before.
fn tree(sequences: &[&[u32]]) -> (Tree, Instant) {
    let now = Instant::now();
    let mut tree = Tree::new(now);
    for (seconds, tokens) in (1..).zip(sequences) {
        add(&mut tree, tokens, now + Duration::from_secs(seconds));
    }
    (tree, now + Duration::from_secs(100))
}

/// Copies everything out up to the end of `tokens`.
fn add(tree: &mut Tree, tokens: &[u32], now: Instant) -> NodeId {
    let tip = tree.extend(Tree::ROOT, tokens, now);
    for id in tree.path(tip) {
        if id != Tree::ROOT {
            tree.attach_rows(id, tree.log_of(id));
        }
    }
    tree.touch(tip, now);
    tree.check(&[]);
    tip
}

fn known(tree: &Tree, tokens: &[u32]) -> usize {
    tree.find(tokens).tokens
}

#[test]
fn nothing_is_known_at_first() {
    let (tree, _) = tree(&[]);
    let found = tree.find(&[1, 2, 3]);
    assert_eq!((found.path, found.tokens), (vec![Tree::ROOT], 0));
}

#[test]
fn what_is_shared_is_found_on_every_branch() {
    let (tree, _) = tree(&[&[1, 2, 3, 4], &[1, 2, 7, 8], &[5]]);
    for (tokens, expected) in [
        (&[1, 2, 3, 4, 5][..], 4),
        (&[1, 2, 7], 3),
        (&[1, 2, 9], 2),
        (&[1, 9], 1),
        (&[5, 5], 1),
        (&[6], 0),
        (&[], 0),
    ] {
        assert_eq!(known(&tree, tokens), expected, "{tokens:?}");
    }
}

#[test]
fn a_branch_cuts_its_node_and_what_is_kept_of_it() {
    let (mut tree, now) = tree(&[&[1, 2, 3, 4]]);
    let old = tree.find(&[1, 2, 3, 4]).path[1];
    let state = tree.state_of(old, 5);
    tree.attach_checkpoint(old, state);
    let new = add(&mut tree, &[1, 2, 9], now);
    let half = tree.node(new).parent;
    assert_eq!(tree.node(old).parent, half);
    assert_eq!(
        (tree.node(half).range(), tree.node(old).range()),
        (0..2, 2..4)
    );
    assert!(tree.node(half).checkpoint().is_none() && tree.node(old).checkpoint().is_some());
    assert_eq!(tree.bytes(), 2 + 2 + 1 + 5);
}

#[test]
fn what_is_said_without_a_pause_is_one_node() {
    let (mut tree, now) = tree(&[&[1, 2]]);
    let tip = add(&mut tree, &[1, 2, 3, 4], now);
    tree.compact(tip);
    tree.check(&[]);
    assert_eq!(tree.node(tip).range(), 0..4);
    assert_eq!(tree.node(tip).parent, Tree::ROOT);
}

#[test]
fn a_restore_point_a_branch_and_somebody_s_place_are_not_joined() {
    let (mut tree, now) = tree(&[&[1, 2], &[5], &[5, 6], &[5, 7], &[8]]);
    let point = tree.find(&[1, 2]).path[1];
    tree.mark_restore_point(point);
    let place = tree.find(&[8]).path[1];
    tree.stand(place);
    for tokens in [[1, 2, 3].as_slice(), &[5, 6], &[8, 9]] {
        let tip = add_beside(&mut tree, tokens, now);
        let before = tree.node(tip).range();
        tree.compact(tip);
        assert_eq!(tree.node(tip).range(), before, "{tokens:?}");
    }
}

/// As [`add`], without a look at who stands where.
fn add_beside(tree: &mut Tree, tokens: &[u32], now: Instant) -> NodeId {
    let tip = tree.extend(Tree::ROOT, tokens, now);
    tree.attach_rows(tip, tree.log_of(tip));
    tip
}

#[test]
fn a_split_and_a_join_give_the_same_tree() {
    let (mut tree, now) = tree(&[&[1, 2, 3, 4]]);
    let whole = tree.find(&[1, 2, 3, 4]).path[1];
    let half = tree.extend(Tree::ROOT, &[1, 2], now);
    tree.check(&[]);
    assert_eq!(tree.node(half).range(), 0..2);
    tree.compact(whole);
    tree.check(&[]);
    assert_eq!((tree.ids().len(), tree.node(whole).range()), (2, 0..4));
    assert_eq!(tree.node(whole).rows(), Some(&tree.log_of(whole)));
}

#[test]
fn the_least_recently_used_goes_first() {
    let (mut tree, now) = tree(&[&[1, 1], &[2, 2], &[3, 3]]);
    let first = tree.find(&[1, 1]).path[1];
    tree.touch(first, now);
    tree.evict(4);
    tree.check(&[]);
    let known = [[1, 1], [2, 2], [3, 3]].map(|tokens| known(&tree, &tokens));
    assert_eq!(known, [2, 0, 2]);
}

#[test]
fn of_as_old_the_deepest_goes_then_the_largest() {
    let now = Instant::now();
    let mut tree = Tree::new(now);
    add(&mut tree, &[1, 2, 3], now);
    add(&mut tree, &[1, 2, 4, 5], now);
    add(&mut tree, &[9, 9], now);
    tree.evict(tree.bytes() - 1);
    assert_eq!(known(&tree, &[1, 2, 4, 5]), 2);
    let (small, large) = (
        tree.extend(Tree::ROOT, &[7], now),
        tree.extend(Tree::ROOT, &[8], now),
    );
    for (id, bytes) in [(small, 10), (large, 20)] {
        let state = tree.state_of(id, bytes);
        tree.attach_checkpoint(id, state);
    }
    for tokens in [[1, 2, 3].as_slice(), &[9, 9]] {
        let id = tree.extend(Tree::ROOT, tokens, now);
        tree.touch(id, now + Duration::from_secs(1));
    }
    tree.evict(tree.bytes() - 1);
    tree.check(&[]);
    assert_eq!((known(&tree, &[7]), known(&tree, &[8])), (1, 0));
}

#[test]
fn a_shared_start_outlives_its_branches() {
    let shared = [1, 2, 3, 4, 5];
    let branches: Vec<Vec<u32>> = (10..15).map(|own| [&shared[..], &[own]].concat()).collect();
    let branches: Vec<&[u32]> = branches.iter().map(Vec::as_slice).collect();
    let (mut tree, _) = tree(&branches);
    tree.evict(5);
    tree.check(&[]);
    assert_eq!((known(&tree, &shared), tree.bytes()), (5, 5));
    tree.evict(0);
    tree.check(&[]);
    assert_eq!(tree.ids(), [Tree::ROOT]);
}

#[test]
fn a_branch_may_lose_its_state_and_keep_its_place() {
    let (mut tree, now) = tree(&[&[1, 2], &[1, 2, 3], &[1, 2, 4]]);
    let branch = tree.find(&[1, 2]).path[1];
    let state = tree.state_of(branch, 50);
    tree.attach_checkpoint(branch, state);
    tree.mark_restore_point(branch);
    for tokens in [[1, 2, 3], [1, 2, 4]] {
        let id = tree.find(&tokens).path[2];
        tree.touch(id, now);
    }
    tree.evict(4);
    tree.check(&[]);
    assert_eq!(tree.bytes(), 4);
    assert_eq!(tree.node(branch).children().count(), 2);
}

#[test]
fn what_a_live_sequence_backs_goes_last_and_stays_known() {
    let (mut tree, now) = tree(&[&[1, 2, 3], &[4, 5, 6]]);
    let held = tree.find(&[1, 2, 3]).path[1];
    tree.stand(held);
    tree.evict(3);
    tree.check(&[held]);
    assert_eq!((known(&tree, &[1, 2, 3]), known(&tree, &[4, 5, 6])), (3, 0));
    tree.evict(0);
    tree.check(&[held]);
    assert_eq!((known(&tree, &[1, 2, 3]), tree.bytes()), (3, 0));
    let further = tree.extend(held, &[4], now);
    tree.stand(further);
    tree.leave(held);
    tree.compact(further);
    tree.check(&[further]);
    assert_eq!(tree.node(further).range(), 0..4);
    tree.leave(further);
    assert_eq!(tree.ids(), [Tree::ROOT]);
}

#[test]
fn what_is_offloaded_makes_room_apart_from_the_rest() {
    let (mut tree, _) = tree(&[&[1, 2, 3, 4], &[5, 6, 7]]);
    let oldest = tree.oldest().unwrap();
    assert_eq!(tree.tokens_to(oldest), [1, 2, 3, 4]);
    tree.offload(oldest);
    assert_eq!((tree.bytes(), tree.offloaded_bytes()), (3, 4));
    assert_eq!(tree.tokens_to(tree.oldest().unwrap()), [5, 6, 7]);
    tree.evict(0);
    assert_eq!((known(&tree, &[1, 2, 3, 4]), known(&tree, &[5])), (4, 0));
    assert!(tree.evict_offloaded());
    assert!(!tree.evict_offloaded(), "nothing is left");
    assert_eq!(tree.ids(), [Tree::ROOT]);
}

#[test]
fn what_is_below_and_offloaded_goes_with_what_it_follows() {
    let (mut tree, _) = tree(&[&[1, 2], &[1, 2, 3, 4]]);
    let below = *tree.find(&[1, 2, 3]).path.last().unwrap();
    tree.offload(below);
    tree.evict(0);
    assert_eq!(tree.ids(), [Tree::ROOT]);
}
