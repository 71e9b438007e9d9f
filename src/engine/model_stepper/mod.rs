//! The steppers that compute with a model: the one place of this room that knows models and MLX.

mod device;
mod fused;
mod host;
mod kept;
mod live;
mod reading;

use std::sync::Arc;

use crate::cache::store::Store;
use crate::cache::{Checkpoint, Rows, SequenceCache};
use crate::engine::stepper::{Restorable, Slot};
use crate::engine::together::Peers;
use crate::error::{Error, Result};
use crate::mlx::Device;
use crate::models::Model;
use crate::ops::decode::Program;
use kept::Kept;

/// A stepper that computes with a model.
pub type ModelStepper = dyn Restorable<Rows = Rows, Checkpoint = Checkpoint>;

/// The memory of a model and of all its sequences, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// All of it.
    pub memory: usize,
    /// What the weights take.
    pub weights: usize,
    /// What everything else took of the same memory before there were sequences: the vocabulary, libraries.
    pub rest: usize,
    /// What a step takes for each token of a prompt's chunk.
    pub work: usize,
    /// Memory of the host for state that leaves the device, beside all that.
    pub offload: usize,
}

impl Budget {
    /// What is left for states, where steps take so many tokens of prompts.
    fn room(self, chunk: usize) -> usize {
        let taken = self.weights + self.rest + chunk * self.work;
        self.memory.saturating_sub(taken)
    }
}

/// Computes with `model` on `device`, steps of decoding by `program` where there is one. State is stored in `store`
/// where there is one.
pub fn new(
    model: Box<dyn Model>,
    program: Option<Program>,
    device: Device,
    store: Option<Store>,
    budget: Budget,
    peers: Option<Arc<dyn Peers>>,
) -> Box<ModelStepper> {
    let kept = Kept(store);
    match device {
        Device::Cpu => Box::new(host::HostStepper::new(model, kept, budget, peers)),
        Device::Gpu => Box::new(device::DeviceStepper::new(
            model, program, kept, budget, peers,
        )),
    }
}

/// The checkpoints of a step that is done, or built: those that it was asked for.
fn take_captured(
    cache: &mut SequenceCache,
    positions: &[usize],
    captured: &mut Vec<(usize, Checkpoint)>,
) -> Result<()> {
    for &position in positions {
        captured.push((position, cache.checkpoint(position)?));
    }
    cache.drop_captured();
    Ok(())
}

/// Those up to so many tokens.
fn drain_captured(
    captured: &mut Vec<(usize, Checkpoint)>,
    until: usize,
) -> Vec<(usize, Checkpoint)> {
    let later = captured.partition_point(|(position, _)| *position <= until);
    captured.drain(..later).collect()
}

/// Whether the vocabulary has all tokens of a prompt.
fn check_tokens(prompt: &[u32], vocabulary: usize) -> Result<()> {
    match prompt.iter().find(|&&id| id as usize >= vocabulary) {
        Some(&id) => Err(Error::ForeignToken { id, vocabulary }),
        None => Ok(()),
    }
}

fn not_open(slot: Slot) -> Error {
    Error::Mlx(format!("{slot:?} is not open"))
}

fn some_not_open() -> Error {
    Error::Mlx("a step works on a slot that is not open".to_owned())
}

fn no_token(slot: Slot) -> Error {
    Error::Mlx(format!("{slot:?} has no token to go on from"))
}

fn nothing_queued() -> Error {
    Error::Mlx("no step is queued".to_owned())
}
