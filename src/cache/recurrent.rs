//! What a layer keeps of one sequence that keeps no keys and values: a state, which cannot go back.

use crate::mlx::Array;
use crate::ops::delta::{DeltaState, DeviceState};

/// The state after all tokens.
#[derive(Debug, Default)]
pub struct RecurrentCache {
    state: State,
    length: usize,
}

/// A state, where whoever computes wants it.
#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    Device(DeviceState),
    Host(DeltaState),
}

impl RecurrentCache {
    /// Tokens that went in.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The arrays that hold the state on a device.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let arrays = match &self.state {
            State::Device(arrays) => Some(arrays),
            State::Empty | State::Host(_) => None,
        };
        arrays.into_iter().flatten()
    }

    /// Hands the state out for the kernels, to be put back by [`Self::put_host`].
    pub fn take_host(&mut self) -> DeltaState {
        match std::mem::take(&mut self.state) {
            State::Host(state) => state,
            State::Empty | State::Device(_) => DeltaState::default(),
        }
    }

    /// Puts back what [`Self::take_host`] gave, after so many more tokens.
    pub fn put_host(&mut self, rows: usize, state: DeltaState) {
        self.length += rows;
        self.state = State::Host(state);
    }

    /// Hands the state out for MLX, to be put back by [`Self::put_device`]; `None` of no token.
    pub fn take_device(&mut self) -> Option<DeviceState> {
        match std::mem::take(&mut self.state) {
            State::Device(state) => Some(state),
            State::Empty | State::Host(_) => None,
        }
    }

    /// Puts back what [`Self::take_device`] gave, after so many more tokens.
    pub fn put_device(&mut self, rows: usize, state: DeviceState) {
        self.length += rows;
        self.state = State::Device(state);
    }
}
