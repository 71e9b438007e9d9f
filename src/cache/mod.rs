//! What is kept of sequences: layer by layer of live ones, and copies of it by prefix. Knows no text and no
//! model's name.

mod checkpoint;
mod kv;
mod layer;
mod offloaded;
mod recurrent;
mod rows;
pub mod store;
pub mod trie;

pub use checkpoint::Checkpoint;
pub use kv::{KvCache, Place, Places};
pub use layer::LayerCaches;
pub use recurrent::RecurrentCache;
pub use rows::{LayerRows, Rows};

use std::ops::Range;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::mlx::{Array, Staging};
use crate::ops::attention::STEP;
use checkpoint::LayerCheckpoint;

/// What a layer keeps of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Keys and values of the positions that a query sees: so many, if not all.
    Keys {
        /// The query's own included.
        window: Option<usize>,
        /// Of keys and values of one position.
        bytes: usize,
    },
    /// A state of one size.
    State {
        /// The size.
        bytes: usize,
    },
}

impl LayerKind {
    /// Memory that a sequence of so many tokens takes at most, where steps append no more than `step` at once.
    fn bytes(self, tokens: usize, step: usize) -> usize {
        match self {
            Self::Keys { window, bytes } => {
                // Behind a window a page stays, and before it what is appended; one page is copied where
                // others have it, or is not full.
                let held = window.map_or(tokens, |window| tokens.min(window + step + STEP));
                (held.next_multiple_of(STEP) + STEP) * bytes
            }
            Self::State { bytes } => bytes,
        }
    }

    /// Memory that a checkpoint takes at most, with a copy of every window.
    fn checkpoint_bytes(self) -> usize {
        match self {
            Self::Keys { window, bytes } => window.map_or(0, |window| window * bytes),
            Self::State { bytes } => bytes,
        }
    }
}

/// The state of one sequence: what each layer keeps, all of as many tokens.
#[derive(Debug)]
pub struct SequenceCache {
    kinds: Vec<LayerKind>,
    layers: Vec<Layer>,
    /// Where the buffers lie, as long as they are the same.
    place: Option<Rc<Place>>,
    /// Copies may share the buffers, as far as MLX knows: they must not be written behind its back.
    shared: bool,
}

/// What a layer keeps.
#[derive(Debug)]
enum Layer {
    Keys(KvCache),
    State(RecurrentCache),
}

impl Layer {
    fn new(kind: LayerKind) -> Self {
        match kind {
            LayerKind::Keys { window, .. } => Self::Keys(KvCache::new(window)),
            LayerKind::State { .. } => Self::State(RecurrentCache::default()),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Keys(cache) => cache.length(),
            Self::State(cache) => cache.length(),
        }
    }

    fn reaches(&self, length: usize) -> bool {
        match self {
            Self::Keys(cache) => cache.reaches(length),
            Self::State(cache) => cache.length() == length,
        }
    }

    /// Whether it keeps every position.
    fn keeps_all(&self) -> bool {
        matches!(self, Self::Keys(cache) if cache.window().is_none())
    }
}

fn other_layers() -> Error {
    Error::Mlx("a copied state is not that of these layers".to_owned())
}

fn not_captured() -> Error {
    Error::Mlx("a state was not captured".to_owned())
}

impl SequenceCache {
    /// An empty sequence of a model with such layers.
    pub fn new(layers: impl IntoIterator<Item = LayerKind>) -> Self {
        let kinds: Vec<LayerKind> = layers.into_iter().collect();
        Self {
            layers: kinds.iter().copied().map(Layer::new).collect(),
            kinds,
            place: None,
            shared: false,
        }
    }

    /// MLX writes the buffers, each into a new one where a copy shares it.
    fn appended(&mut self) {
        self.place = None;
        self.shared = false;
    }

    /// Something else than the next step has been given the buffers.
    fn lent(&mut self) {
        self.place = None;
        self.shared = true;
    }

    /// Memory that a sequence of so many tokens takes at most, where steps append no more than `step` at once.
    pub fn expected_bytes(&self, tokens: usize, step: usize) -> usize {
        self.kinds.iter().map(|kind| kind.bytes(tokens, step)).sum()
    }

    /// Memory that a [`Checkpoint`] takes at most.
    pub fn checkpoint_bytes(&self) -> usize {
        self.kinds.iter().map(|kind| kind.checkpoint_bytes()).sum()
    }

    /// Tokens whose state is held.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, Layer::length)
    }

    /// Whether some layers cannot go back to where they were: they need a [`Checkpoint`] for it.
    pub fn needs_checkpoints(&self) -> bool {
        !self.layers.iter().all(Layer::keeps_all)
    }

    /// Whether it can be cut back to so many tokens, of those held.
    pub fn reaches(&self, length: usize) -> bool {
        length <= self.length() && self.layers.iter().all(|layer| layer.reaches(length))
    }

    /// Forgets everything after the first `length` tokens; says how many remain. It is none where a layer
    /// does not reach back so far.
    pub fn rewind(&mut self, length: usize) -> usize {
        let length = length.min(self.length());
        let reaches = self.reaches(length);
        if !reaches {
            self.place = None;
        }
        for layer in &mut self.layers {
            match layer {
                Layer::Keys(cache) if reaches => cache.rewind(length),
                Layer::State(_) if reaches => {}
                Layer::Keys(cache) => *cache = KvCache::new(cache.window()),
                Layer::State(cache) => *cache = RecurrentCache::default(),
            }
        }
        self.length()
    }

    /// A copy of what layers that keep every position have of a run of them, which is held.
    ///
    /// # Errors
    /// What MLX says.
    pub fn copy_rows(&mut self, range: Range<usize>) -> Result<Rows> {
        self.lent();
        self.rows(range, KvCache::copy)
    }

    /// The same, off the device.
    ///
    /// # Errors
    /// What MLX says.
    pub fn offload_rows(&mut self, range: Range<usize>) -> Result<Rows> {
        self.lent();
        self.rows(range, KvCache::offload)
    }

    fn rows(
        &self,
        range: Range<usize>,
        copy: impl Fn(&KvCache, Range<usize>) -> Result<LayerRows>,
    ) -> Result<Rows> {
        let layers = self.layers.iter().filter_map(|layer| match layer {
            Layer::Keys(cache) if layer.keeps_all() => Some(copy(cache, range.clone())),
            Layer::Keys(_) | Layer::State(_) => None,
        });
        Ok(Rows {
            layers: layers.collect::<Result<_>>()?,
            range,
            sources: Vec::new(),
        })
    }

    /// A copy of what the other layers have after so many tokens: now, or where the last forward was
    /// asked to capture.
    ///
    /// # Errors
    /// [`Error::Mlx`] where it was not.
    pub fn checkpoint(&mut self, position: usize) -> Result<Checkpoint> {
        self.lent();
        let layers = self.layers.iter().filter_map(|layer| match layer {
            Layer::State(cache) => {
                let state = cache.state_at(position).ok_or_else(not_captured);
                Some(state.map(LayerCheckpoint::State))
            }
            Layer::Keys(cache) => cache.window().map(|window| {
                let start = position.saturating_sub(window - 1);
                Ok(LayerCheckpoint::Window {
                    rows: cache.copy(start..position)?,
                    start,
                    window,
                })
            }),
        });
        Ok(Checkpoint {
            position,
            layers: layers.collect::<Result<_>>()?,
            source: None,
        })
    }

    /// Forgets what the last forward captured.
    pub fn drop_captured(&mut self) {
        for layer in &mut self.layers {
            if let Layer::State(cache) = layer {
                cache.drop_captured();
            }
        }
    }

    /// Goes on from a state of `length` tokens: from the first `kept` of those held, from copies of the
    /// positions after them, and, where [`Self::needs_checkpoints`] and what is kept does not reach, from a
    /// checkpoint that restores it.
    ///
    /// # Errors
    /// What MLX says, [`Error::Kept`], or that the copies do not fit. The sequence is then not usable any more.
    pub fn restore(
        &mut self,
        kept: usize,
        rows: &[&Rows],
        checkpoint: Option<&Checkpoint>,
        length: usize,
    ) -> Result<()> {
        self.lent();
        let mut reached = kept;
        for range in rows.iter().map(|rows| &rows.range) {
            if range.start <= reached {
                reached = reached.max(range.end);
            }
        }
        if reached < length {
            return Err(other_layers());
        }
        let sources = rows.iter().flat_map(|rows| &rows.sources);
        let saved = checkpoint.and_then(|checkpoint| checkpoint.source.as_ref());
        for source in sources.chain(saved) {
            source.verify()?;
        }
        let mut staging = Staging::default();
        let (mut next_row, mut next_checkpoint) = (0, 0);
        for layer in &mut self.layers {
            if let Layer::Keys(cache) = layer
                && cache.window().is_none()
            {
                let of_layer = rows.iter().map(|rows| rows.layers.get(next_row));
                let of_layer = of_layer.collect::<Option<Vec<_>>>();
                cache.paste(
                    kept,
                    &of_layer.ok_or_else(other_layers)?,
                    length,
                    &mut staging,
                )?;
                next_row += 1;
                continue;
            }
            let saved = checkpoint.map(|checkpoint| &checkpoint.layers);
            let saved = saved.and_then(|layers| layers.get(next_checkpoint));
            next_checkpoint += 1;
            if length == kept && layer.reaches(length) {
                if let Layer::Keys(cache) = layer {
                    cache.rewind(length);
                }
                continue;
            }
            match (layer, saved) {
                (Layer::Keys(cache), Some(LayerCheckpoint::Window { rows, .. })) => {
                    cache.paste(0, &[rows], length, &mut staging)?;
                }
                (Layer::State(cache), Some(LayerCheckpoint::State(state))) => {
                    cache.restore(length, state.clone())?;
                }
                _ => return Err(other_layers()),
            }
        }
        if self.layers.iter().any(|layer| layer.length() != length) {
            return Err(other_layers());
        }
        Ok(())
    }

    /// Memory of everything that is held.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter();
        let bytes = layers.map(|layer| match layer {
            Layer::Keys(cache) => cache.bytes(),
            Layer::State(cache) => cache.bytes(),
        });
        bytes.sum()
    }

    /// Bytes that one more token takes; 0 in an empty cache.
    pub fn bytes_per_token(&self) -> usize {
        let layers = self.layers.iter();
        let bytes = layers.map(|layer| match layer {
            Layer::Keys(cache) => cache.bytes_per_position(),
            Layer::State(_) => 0,
        });
        bytes.sum()
    }

    /// The arrays that hold the state on a device: evaluated, they need no graph any more.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(|layer| {
            let (keys, state) = match layer {
                Layer::Keys(cache) => (Some(cache), None),
                Layer::State(cache) => (None, Some(cache)),
            };
            let keys = keys.into_iter().flat_map(KvCache::arrays);
            keys.chain(state.into_iter().flat_map(RecurrentCache::arrays))
        })
    }
}
