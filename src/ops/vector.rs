//! Weights that are one row: of norms and biases.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::mlx::{Array, eval, slice};

/// A row of weights where the ops want it.
#[derive(Debug, Clone)]
pub enum Vector {
    /// An array of MLX.
    Device(Array),
    /// For the kernels of the CPU.
    Host(Arc<[f32]>),
}

impl Vector {
    /// For MLX.
    pub fn array(&self) -> Array {
        match self {
            Self::Device(array) => array.clone(),
            Self::Host(numbers) => Array::from_slice(numbers, &[numbers.len() as i32]),
        }
    }

    /// How many numbers.
    pub fn length(&self) -> usize {
        match self {
            Self::Device(array) => array.size(),
            Self::Host(numbers) => numbers.len(),
        }
    }

    /// Some of the numbers.
    ///
    /// # Errors
    /// What MLX says.
    ///
    /// # Panics
    /// On the host, where there are fewer.
    pub fn part(&self, range: Range<usize>) -> Result<Self> {
        match self {
            Self::Device(array) => {
                let part = slice(array, 0, range.start as i32..range.end as i32)?.contiguous()?;
                eval([&part])?;
                Ok(Self::Device(part))
            }
            Self::Host(numbers) => Ok(Self::Host(numbers[range].into())),
        }
    }

    /// For the kernels, where it is there for them.
    pub fn host(&self) -> Option<&[f32]> {
        match self {
            Self::Device(_) => None,
            Self::Host(numbers) => Some(numbers),
        }
    }
}
