//! The state of layers that cannot go back, after one position.

use std::sync::Arc;

use super::recurrent::State;
use super::rows::LayerRows;
use super::store::StoredFile;
use super::trie;
use crate::mlx::Array;

/// What layers that keep a window or a recurrent state hold after a position.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(super) position: usize,
    /// In the order of these layers.
    pub(super) layers: Vec<LayerCheckpoint>,
    /// Where it lies, if it is not in memory.
    pub(super) source: Option<Arc<StoredFile>>,
}

/// One layer's.
#[derive(Debug, Clone)]
pub(super) enum LayerCheckpoint {
    /// Keys and values from position `start` on, of a layer that looks back on so many.
    Window {
        rows: LayerRows,
        start: usize,
        window: usize,
    },
    State(State),
}

impl Checkpoint {
    /// The arrays that hold states on a device, which the forward that made them evaluates.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(|layer| {
            let state = match layer {
                LayerCheckpoint::State(state) => Some(state),
                LayerCheckpoint::Window { .. } => None,
            };
            state.into_iter().flat_map(State::arrays)
        })
    }
}

impl trie::Checkpoint for Checkpoint {
    fn bytes(&self) -> usize {
        let layers = self.layers.iter();
        let bytes = layers.map(|layer| match layer {
            LayerCheckpoint::Window { rows, .. } => rows.bytes(),
            LayerCheckpoint::State(state) => state.bytes(),
        });
        bytes.sum()
    }

    fn offloaded_bytes(&self) -> usize {
        let layers = self.layers.iter();
        let bytes = layers.map(|layer| match layer {
            LayerCheckpoint::Window { rows, .. } => rows.offloaded_bytes(),
            LayerCheckpoint::State(state) => state.offloaded_bytes(),
        });
        bytes.sum()
    }

    fn restores(&self, position: usize) -> bool {
        position <= self.position
            && self.layers.iter().all(|layer| match layer {
                LayerCheckpoint::Window { start, window, .. } => {
                    *start <= position.saturating_sub(window - 1)
                }
                LayerCheckpoint::State(_) => position == self.position,
            })
    }
}
