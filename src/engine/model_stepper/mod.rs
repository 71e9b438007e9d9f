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
use crate::mlx::{Array, Device, Group};
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
    group: Option<Arc<Group>>,
) -> Box<ModelStepper> {
    let kept = Kept(store);
    let peers = group.map(|group| group as Arc<dyn Peers>);
    match device {
        Device::Cpu => Box::new(host::HostStepper::new(model, kept, budget, peers)),
        Device::Gpu => Box::new(device::DeviceStepper::new(
            model, program, kept, budget, peers,
        )),
    }
}

impl Peers for Group {
    fn rank(&self) -> usize {
        self.rank()
    }

    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let is_first = self.rank() == 0;
        // The sum with nothing from all others.
        let length = if is_first { bytes.len() as i32 } else { 0 };
        let length = self.sum(&Array::from_slice(&[length], &[1]))?;
        let read = |array: &Array| {
            let numbers = array.to_vec_exact::<i32>();
            numbers.map_err(|error| Error::Ranks(error.to_string()))
        };
        let length = read(&length)?.first().copied().unwrap_or(0) as usize;
        let mut words = vec![0_i32; length.div_ceil(4)];
        if is_first {
            for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
                let mut four = [0; 4];
                four[..bytes.len()].copy_from_slice(bytes);
                *word = i32::from_le_bytes(four);
            }
        }
        let words = self.sum(&Array::from_slice(&words, &[words.len() as i32]))?;
        let mut bytes: Vec<u8> = read(&words)?
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.truncate(length);
        Ok(bytes)
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
