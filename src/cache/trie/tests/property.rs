//! Whatever is computed, copied out, cancelled and evicted: the tree stays what it says it is.

use proptest::prelude::*;

use super::*;

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Operation {
    /// A sequence goes on from a start of some node's path.
    Start {
        node: usize,
        keep: usize,
    },
    /// It computes tokens.
    Compute {
        sequence: usize,
        tokens: Vec<u32>,
    },
    /// It passes a point worth a state.
    Capture {
        sequence: usize,
        bytes: usize,
        is_restore_point: bool,
    },
    /// Rows of a node that it backs are copied out.
    PageOut {
        sequence: usize,
        node: usize,
    },
    /// It ends, its node being joined with the one above or not.
    End {
        sequence: usize,
        page_out: bool,
        compact: bool,
    },
    Evict {
        limit: usize,
    },
    /// What is copied out of a node is moved.
    Offload {
        node: usize,
    },
    /// Of what is moved, no more than so much stays.
    EvictOffloaded {
        limit: usize,
    },
    Touch {
        node: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let few = 0..64_usize;
    prop_oneof![
        3 => (few.clone(), few.clone()).prop_map(|(node, keep)| Operation::Start { node, keep }),
        6 => (few.clone(), prop::collection::vec(0..3_u32, 1..6))
            .prop_map(|(sequence, tokens)| Operation::Compute { sequence, tokens }),
        3 => (few.clone(), 1..30_usize, any::<bool>()).prop_map(|(sequence, bytes, is_restore_point)| {
            Operation::Capture { sequence, bytes, is_restore_point }
        }),
        3 => (few.clone(), few.clone())
            .prop_map(|(sequence, node)| Operation::PageOut { sequence, node }),
        3 => (few.clone(), any::<bool>(), any::<bool>()).prop_map(|(sequence, page_out, compact)| {
            Operation::End { sequence, page_out, compact }
        }),
        1 => (0..80_usize).prop_map(|limit| Operation::Evict { limit }),
        2 => few.clone().prop_map(|node| Operation::Offload { node }),
        1 => (0..40_usize).prop_map(|limit| Operation::EvictOffloaded { limit }),
        1 => few.prop_map(|node| Operation::Touch { node }),
    ]
}

/// A tree and the sequences that live beside it.
struct World {
    tree: Tree,
    live: Vec<NodeId>,
    now: Instant,
}

impl World {
    fn run(&mut self, operation: &Operation) {
        self.now += Duration::from_secs(1);
        match operation {
            Operation::Start { node, keep } => {
                let ids = self.tree.ids();
                let tokens = self.tree.tokens_to(ids[node % ids.len()]);
                let kept = &tokens[..keep % (tokens.len() + 1)];
                let at = self.tree.extend(Tree::ROOT, kept, self.now);
                self.tree.stand(at);
                self.live.push(at);
            }
            Operation::Compute { sequence, tokens } => self.with(*sequence, |world, place| {
                let from = world.live[place];
                let to = world.tree.extend(from, tokens, world.now);
                world.tree.stand(to);
                world.tree.leave(from);
                world.live[place] = to;
            }),
            Operation::Capture {
                sequence,
                bytes,
                is_restore_point,
            } => self.with(*sequence, |world, place| {
                let id = world.live[place];
                if id != Tree::ROOT {
                    let state = world.tree.state_of(id, *bytes);
                    world.tree.attach_checkpoint(id, state);
                    if *is_restore_point {
                        world.tree.mark_restore_point(id);
                    }
                }
            }),
            Operation::PageOut { sequence, node } => self.with(*sequence, |world, place| {
                let path = world.tree.path(world.live[place]);
                let id = path[node % path.len()];
                if id != Tree::ROOT {
                    world.tree.attach_rows(id, world.tree.log_of(id));
                }
            }),
            Operation::End {
                sequence,
                page_out,
                compact,
            } => self.with(*sequence, |world, place| {
                let id = world.live.swap_remove(place);
                if *page_out {
                    for id in world.tree.path(id) {
                        if id != Tree::ROOT {
                            world.tree.attach_rows(id, world.tree.log_of(id));
                        }
                    }
                }
                if *compact {
                    world.tree.compact(id);
                }
                world.tree.leave(id);
            }),
            Operation::Evict { limit } => {
                self.tree.evict(*limit);
                assert!(self.tree.bytes() <= *limit, "there is always room to make");
            }
            Operation::Offload { node } => {
                let ids = self.tree.ids();
                self.tree.offload(ids[node % ids.len()]);
            }
            Operation::EvictOffloaded { limit } => {
                while self.tree.offloaded_bytes() > *limit {
                    assert!(self.tree.evict_offloaded(), "there is always room to make");
                }
            }
            Operation::Touch { node } => {
                let ids = self.tree.ids();
                self.tree.touch(ids[node % ids.len()], self.now);
            }
        }
    }

    fn with(&mut self, sequence: usize, act: impl FnOnce(&mut Self, usize)) {
        if !self.live.is_empty() {
            act(self, sequence % self.live.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_tree_stays_what_it_says_it_is(
        operations in prop::collection::vec(operation(), 1..40)
    ) {
        let now = Instant::now();
        let mut world = World { tree: Tree::new(now), live: Vec::new(), now };
        for operation in &operations {
            world.run(operation);
            world.tree.check(&world.live);
            for &id in &world.live {
                let tokens = world.tree.tokens_to(id);
                prop_assert_eq!(world.tree.find(&tokens).tokens, tokens.len(), "the living are known");
            }
        }
        for id in std::mem::take(&mut world.live) {
            world.tree.leave(id);
        }
        world.tree.evict(0);
        while world.tree.evict_offloaded() {}
        prop_assert_eq!(world.tree.ids(), [Tree::ROOT]);
    }
}
