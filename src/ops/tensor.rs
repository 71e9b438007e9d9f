//! What passes from op to op: rows of activations, where whoever computes wants them.

use std::ops::Range;

use super::numbers::Numbers;
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Group, ops, slice};

/// Rows of activations `[T, width]`.
#[derive(Debug, Clone)]
pub enum Tensor {
    /// A node of MLX's graph, not evaluated.
    Device(Array),
    /// Computed by the kernels of the CPU.
    Host(Rows),
}

/// float32 rows `[T, width]`.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Numbers of a row.
    pub width: usize,
    /// `[T, width]`.
    pub numbers: Numbers,
}

impl Rows {
    /// Rows of any value.
    pub fn new(count: usize, width: usize) -> Self {
        Self {
            width,
            numbers: Numbers::new(count * width),
        }
    }

    fn map(mut self, change: impl Fn(f32) -> f32) -> Self {
        for number in self.numbers.iter_mut() {
            *number = change(*number);
        }
        self
    }

    /// T.
    pub fn count(&self) -> usize {
        self.numbers.len() / self.width.max(1)
    }
}

impl Tensor {
    /// The sum of what all processes of a group have.
    ///
    /// # Errors
    /// What MLX says.
    pub fn summed(self, group: &Group) -> Result<Self> {
        match self {
            Self::Device(array) => Ok(Self::Device(group.sum(&array)?)),
            Self::Host(mut rows) => {
                let count = rows.numbers.len() as i32;
                let sum = group.sum(&Array::from_slice(&rows.numbers, &[count]))?;
                rows.numbers = mlx::to_vec(&sum)?.into();
                Ok(Self::Host(rows))
            }
        }
    }

    /// `self + other`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Device(one), Self::Device(other)) => Ok(Self::Device(one.add(other)?)),
            (Self::Host(one), Self::Host(other)) => {
                let mut sum = one.clone();
                for (sum, other) in sum.numbers.iter_mut().zip(other.numbers.iter()) {
                    *sum += other;
                }
                Ok(Self::Host(sum))
            }
            _ => Err(misplaced()),
        }
    }

    /// Chosen rows, in the order given.
    ///
    /// # Errors
    /// What MLX says.
    ///
    /// # Panics
    /// On the host, where there is no such row.
    pub fn take(&self, rows: &[usize]) -> Result<Self> {
        match self {
            Self::Device(array) => {
                let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
                let rows = Array::from_slice(&rows, &[rows.len() as i32]);
                Ok(Self::Device(array.take_axis(rows, 0)?))
            }
            Self::Host(all) => {
                let width = all.width;
                let rows = rows.iter();
                let numbers = rows.flat_map(|row| &all.numbers[row * width..(row + 1) * width]);
                Ok(Self::Host(Rows {
                    width,
                    numbers: numbers.copied().collect(),
                }))
            }
        }
    }

    /// A run of rows.
    ///
    /// # Errors
    /// What MLX says.
    ///
    /// # Panics
    /// On the host, where there are no such rows.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        match self {
            Self::Device(array) => {
                let rows = slice(array, 0, range.start as i32..range.end as i32)?;
                Ok(Self::Device(rows))
            }
            Self::Host(all) => Ok(Self::Host(Rows {
                width: all.width,
                numbers: all.numbers[range.start * all.width..range.end * all.width]
                    .to_vec()
                    .into(),
            })),
        }
    }

    /// Rows of several, one after the other; all are in the same place.
    ///
    /// # Errors
    /// What MLX says.
    pub fn end_to_end(mut all: Vec<Self>) -> Result<Self> {
        if all.len() == 1
            && let Some(one) = all.pop()
        {
            return Ok(one);
        }
        if let Some(Self::Host(first)) = all.first() {
            let mut numbers = Vec::new();
            for tensor in &all {
                numbers.extend_from_slice(&tensor.host()?.numbers);
            }
            return Ok(Self::Host(Rows {
                width: first.width,
                numbers: numbers.into(),
            }));
        }
        let arrays: Vec<&Array> = all.iter().map(Self::device).collect::<Result<_>>()?;
        Ok(Self::Device(ops::concatenate(&arrays, 0)?))
    }

    /// The numbers `[T, width]`, evaluated.
    ///
    /// # Errors
    /// What MLX says.
    pub fn into_numbers(self) -> Result<Vec<f32>> {
        match self {
            Self::Device(array) => mlx::to_vec(&array),
            Self::Host(rows) => Ok(rows.numbers.into_vec()),
        }
    }

    /// Times a number.
    ///
    /// # Errors
    /// What MLX says.
    pub fn times(self, factor: f32) -> Result<Self> {
        match self {
            Self::Device(array) => {
                let factor = Array::from_f32(factor).as_dtype(array.dtype())?;
                Ok(Self::Device(array.multiply(factor)?))
            }
            Self::Host(rows) => Ok(Self::Host(rows.map(|number| number * factor))),
        }
    }

    /// Times the sigmoids of as many numbers.
    ///
    /// # Errors
    /// What MLX says.
    pub fn gated_by(self, gates: &Self) -> Result<Self> {
        match (self, gates) {
            (Self::Device(x), Self::Device(gates)) => {
                Ok(Self::Device(x.multiply(ops::sigmoid(gates)?)?))
            }
            (Self::Host(mut rows), Self::Host(gates)) => {
                for (number, gate) in rows.numbers.iter_mut().zip(gates.numbers.iter()) {
                    *number /= 1.0 + (-gate).exp();
                }
                Ok(Self::Host(rows))
            }
            _ => Err(misplaced()),
        }
    }

    /// `cap · tanh(x / cap)`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn capped(self, cap: f32) -> Result<Self> {
        match self {
            Self::Device(array) => {
                let cap = Array::from_f32(cap).as_dtype(array.dtype())?;
                Ok(Self::Device(
                    ops::tanh(array.divide(&cap)?)?.multiply(&cap)?,
                ))
            }
            Self::Host(rows) => Ok(Self::Host(rows.map(|number| cap * (number / cap).tanh()))),
        }
    }

    /// For MLX.
    ///
    /// # Errors
    /// [`Error::Mlx`] where it is on the host: a model is all in one place.
    pub fn device(&self) -> Result<&Array> {
        match self {
            Self::Device(array) => Ok(array),
            Self::Host(_) => Err(misplaced()),
        }
    }

    /// For the kernels.
    ///
    /// # Errors
    /// [`Error::Mlx`] where it is an array of MLX's.
    pub fn host(&self) -> Result<&Rows> {
        match self {
            Self::Device(_) => Err(misplaced()),
            Self::Host(rows) => Ok(rows),
        }
    }
}

/// A model is all in one place; this says that it was not.
pub(super) fn misplaced() -> Error {
    Error::Mlx("weights and activations are not in the same place".to_owned())
}
