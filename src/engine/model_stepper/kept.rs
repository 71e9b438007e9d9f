//! State on the disk, as the engine asks for it.

use crate::cache::store::{Prefix, Store};
use crate::cache::{Checkpoint, Rows};
use crate::engine::stepper::Stored;
use crate::error::{Error, Result};

/// The folder of the model's prefixes, if there is one.
pub(super) struct Kept(pub(super) Option<Store>);

impl Kept {
    /// Everything that is there.
    pub(super) fn all(&self) -> Vec<Stored<Rows, Checkpoint>> {
        let prefixes = self.0.iter().flat_map(|store| {
            // A folder that cannot be listed holds nothing.
            store.load().unwrap_or_default()
        });
        prefixes.map(stored).collect()
    }

    /// Stores one more.
    pub(super) fn keep(
        &self,
        tokens: &[u32],
        rows: &Rows,
        checkpoint: Option<&Checkpoint>,
    ) -> Option<Stored<Rows, Checkpoint>> {
        let store = self.0.as_ref()?;
        store.keep(tokens, rows, checkpoint).map(stored)
    }

    /// Removes a file that turned out to be damaged.
    pub(super) fn discard_damaged(&self, restored: Result<()>) -> Result<()> {
        let discard = |error: &Error| self.0.iter().for_each(|store| store.discard(error));
        restored.inspect_err(discard)
    }
}

fn stored(prefix: Prefix) -> Stored<Rows, Checkpoint> {
    Stored {
        start: prefix.rows.start(),
        tokens: prefix.tokens,
        rows: prefix.rows,
        checkpoint: prefix.checkpoint,
    }
}
