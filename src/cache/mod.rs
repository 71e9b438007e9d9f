//! What attention keeps of a sequence, layer by layer. Knows no text and no model's name.

mod kv;
mod layer;
mod recurrent;

pub use kv::KvCache;
pub use layer::LayerCaches;
pub use recurrent::RecurrentCache;

use crate::mlx::Array;

/// The state of one sequence: what each layer keeps, all of as many tokens.
#[derive(Debug, Default)]
pub struct SequenceCache {
    layers: Vec<Layer>,
}

/// What a layer keeps: one of both, the other stays empty.
#[derive(Debug, Default)]
struct Layer {
    keys: KvCache,
    state: RecurrentCache,
}

impl Layer {
    fn length(&self) -> usize {
        self.keys.length().max(self.state.length())
    }

    fn reaches(&self, length: usize) -> bool {
        self.keys.reaches(length) && [0, length].contains(&self.state.length())
    }
}

impl SequenceCache {
    /// An empty sequence of a model with so many layers.
    pub fn new(layers: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| Layer::default()).collect(),
        }
    }

    /// Tokens whose state is held.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, Layer::length)
    }

    /// Forgets everything after the first `length` tokens; says how many remain. It is none where a layer
    /// does not reach back so far.
    pub fn rewind(&mut self, length: usize) -> usize {
        let length = length.min(self.length());
        if !self.layers.iter().all(|layer| layer.reaches(length)) {
            self.layers.fill_with(Layer::default);
        }
        for layer in &mut self.layers {
            layer.keys.rewind(length);
        }
        self.length()
    }

    /// Bytes that one more token takes; 0 in an empty cache.
    pub fn bytes_per_token(&self) -> usize {
        let layers = self.layers.iter();
        layers.map(|layer| layer.keys.bytes_per_position()).sum()
    }

    /// The arrays that hold the state on a device: evaluated, they need no graph any more.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| layer.keys.arrays().chain(layer.state.arrays()))
    }
}
