//! What a layer keeps of one sequence that keeps no keys and values: a state, which cannot go back.

use std::sync::Arc;

use super::offloaded::Offloaded;
use crate::error::Result;
use crate::kernels::matrix::{Number, Part};
use crate::memory::Held;
use crate::mlx::Array;
use crate::ops::delta::{DeltaState, DeviceState};

/// The state after all tokens.
#[derive(Debug, Default)]
pub struct RecurrentCache {
    state: State,
    length: usize,
    /// States after earlier positions.
    captured: Vec<(usize, State)>,
}

/// A state, where whoever computes wants it.
#[derive(Debug, Clone, Default)]
pub(super) enum State {
    #[default]
    Empty,
    Device(DeviceState),
    Host(DeltaState, Held),
    /// float32 in a file: the parts of a [`DeltaState`].
    Stored([Part; 2]),
    /// A [`DeviceState`] that is not on its device.
    Offloaded([Arc<Offloaded>; 2]),
}

impl State {
    fn host(state: DeltaState) -> Self {
        let held = Held::new(state.bytes());
        Self::Host(state, held)
    }

    /// Memory that it takes where sequences have theirs.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Stored(_) | Self::Offloaded(_) => 0,
            Self::Device(arrays) => arrays.iter().map(Array::nbytes).sum(),
            Self::Host(_, held) => held.bytes(),
        }
    }

    /// Memory of the host that it takes beside that.
    pub(super) fn offloaded_bytes(&self) -> usize {
        match self {
            Self::Offloaded(parts) => parts.iter().map(|part| part.memory()).sum(),
            Self::Empty | Self::Device(_) | Self::Host(..) | Self::Stored(_) => 0,
        }
    }

    /// Bytes, wherever they lie.
    pub(super) fn stored_bytes(&self) -> usize {
        match self {
            Self::Stored(parts) => parts.iter().map(|part| part.len()).sum(),
            Self::Offloaded(parts) => parts.iter().map(|part| part.bytes.len()).sum(),
            state => state.bytes(),
        }
    }

    /// The arrays that hold it on a device.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        let arrays = match self {
            Self::Device(arrays) => Some(arrays),
            _ => None,
        };
        arrays.into_iter().flatten()
    }
}

impl RecurrentCache {
    /// Tokens that went in.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Memory of the state, and of captured ones.
    pub fn bytes(&self) -> usize {
        let captured = self.captured.iter().map(|(_, state)| state.bytes());
        self.state.bytes() + captured.sum::<usize>()
    }

    /// The arrays that hold the state on a device, and captured ones.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let captured = self.captured.iter().flat_map(|(_, state)| state.arrays());
        self.state.arrays().chain(captured)
    }

    /// Hands the state out for the kernels, to be put back by [`Self::put_host`].
    pub fn take_host(&mut self) -> DeltaState {
        match std::mem::take(&mut self.state) {
            State::Host(state, _) => state,
            _ => DeltaState::default(),
        }
    }

    /// Puts back what [`Self::take_host`] gave, after so many more tokens.
    pub fn put_host(&mut self, rows: usize, state: DeltaState) {
        self.length += rows;
        self.state = State::host(state);
    }

    /// Hands the state out for MLX, to be put back by [`Self::put_device`]; `None` of no token.
    pub fn take_device(&mut self) -> Option<DeviceState> {
        match std::mem::take(&mut self.state) {
            State::Device(state) => Some(state),
            _ => None,
        }
    }

    /// Puts back what [`Self::take_device`] gave, after so many more tokens.
    pub fn put_device(&mut self, rows: usize, state: DeviceState) {
        self.length += rows;
        self.state = State::Device(state);
    }

    /// Keeps a copy of the state as it is now, until it is dropped.
    pub(super) fn capture(&mut self) {
        self.captured.push((self.length, self.state.clone()));
    }

    /// A copy of the state after so many tokens, if that is now or was captured.
    pub(super) fn state_at(&self, position: usize) -> Option<State> {
        if position == self.length {
            return Some(self.state.clone());
        }
        let captured = self.captured.iter().find(|(at, _)| *at == position);
        captured.map(|(_, state)| state.clone())
    }

    pub(super) fn drop_captured(&mut self) {
        self.captured.clear();
    }

    /// Goes on from a state after so many tokens.
    ///
    /// # Errors
    /// What MLX says.
    pub(super) fn restore(&mut self, length: usize, state: State) -> Result<()> {
        let state = match state {
            State::Stored(parts) => {
                let parts = parts.map(|part| Number::Float32.floats(&part));
                State::host(DeltaState::of_parts(parts))
            }
            State::Offloaded([recent, states]) => State::Device([recent.array()?, states.array()?]),
            state => state,
        };
        *self = Self {
            state,
            length,
            captured: Vec::new(),
        };
        Ok(())
    }
}
