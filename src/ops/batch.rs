//! What one forward works on: tokens of several sequences laid end to end, and whose they are.

use crate::error::{Error, Result};
use crate::mlx::{Array, computes_on_cpu, ops};

/// A run of tokens of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Which of the forward's caches it belongs to.
    pub sequence: usize,
    /// Its first row in the batch.
    pub row: usize,
    /// Its number of rows, at least 1.
    pub length: usize,
    /// The position of its first token in the sequence.
    pub position: usize,
    /// Positions within it, ascending, after whose tokens layers that cannot go back keep a copy of their
    /// state: the number of tokens before.
    pub captures: Vec<usize>,
}

impl Segment {
    /// Its rows up to the first capture inside, from there to the next one, and so on; all but the last one
    /// capture at their end.
    pub fn parts(&self) -> impl Iterator<Item = Self> {
        let last = self.position + self.length;
        let captures = self.captures.iter().copied();
        let inside = captures.filter(move |&at| at > self.position && at < last);
        let mut position = self.position;
        inside.chain([last]).map(move |end| {
            let part = Self {
                sequence: self.sequence,
                row: self.row + position - self.position,
                length: end - position,
                position,
                captures: if end < last { vec![end] } else { Vec::new() },
            };
            position = end;
            part
        })
    }
}

/// Tokens of several sequences, `[T]`, without padding.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which tokens.
    pub ids: Ids,
    /// Contiguous runs that cover all rows in order.
    pub segments: Vec<Segment>,
}

/// Token ids, where whoever computes wants them.
#[derive(Debug, Clone)]
pub enum Ids {
    /// For MLX.
    Device {
        /// `[T]`, int32 or uint32.
        tokens: Array,
        /// The position of each token in its sequence, `[T]`, int32.
        positions: Array,
    },
    /// `[T]`, for the kernels of the CPU.
    Host(Vec<i32>),
}

impl Batch {
    /// Lays `pieces` end to end: for each, its cache, the position of its first token, its ids.
    ///
    /// # Errors
    /// What MLX says.
    pub fn new(pieces: &[(usize, usize, &[i32])]) -> Result<Self> {
        if computes_on_cpu() {
            let lengths = pieces
                .iter()
                .map(|&(sequence, position, ids)| (sequence, position, ids.len()));
            let ids = pieces.iter().flat_map(|(_, _, ids)| *ids).copied();
            return Ok(Self {
                ids: Ids::Host(ids.collect()),
                segments: segments(lengths),
            });
        }
        let array = |ids: &[i32]| Array::from_slice(ids, &[ids.len() as i32]);
        let pieces = pieces.iter();
        let pieces = pieces.map(|&(sequence, position, ids)| (sequence, position, array(ids)));
        Self::of_arrays(&pieces.collect::<Vec<_>>())
    }

    /// The same of ids that are on the device and not read yet.
    ///
    /// # Errors
    /// What MLX says.
    pub fn of_arrays(pieces: &[(usize, usize, Array)]) -> Result<Self> {
        let lengths = pieces
            .iter()
            .map(|(sequence, position, tokens)| (*sequence, *position, tokens.shape()[0] as usize));
        let segments = segments(lengths);
        let positions: Vec<i32> = segments
            .iter()
            .flat_map(|segment| segment.position..segment.position + segment.length)
            .map(|position| position as i32)
            .collect();
        let tokens = if let [(_, _, tokens)] = pieces {
            tokens.clone()
        } else {
            let parts: Vec<&Array> = pieces.iter().map(|(_, _, tokens)| tokens).collect();
            ops::concatenate(&parts, 0)?
        };
        Ok(Self {
            ids: Ids::Device {
                tokens,
                positions: Array::from_slice(&positions, &[positions.len() as i32]),
            },
            segments,
        })
    }

    /// Positions of all tokens, for MLX.
    ///
    /// # Errors
    /// [`Error::Mlx`] where the batch is on the host.
    pub fn positions(&self) -> Result<&Array> {
        match &self.ids {
            Ids::Device { positions, .. } => Ok(positions),
            Ids::Host(_) => Err(Error::Mlx("a batch on the host has no arrays".to_owned())),
        }
    }
}

/// Runs of `(sequence, position, length)`, one after the other.
fn segments(pieces: impl Iterator<Item = (usize, usize, usize)>) -> Vec<Segment> {
    let mut next = 0;
    let place = |(sequence, position, length)| {
        let row = next;
        next += length;
        Segment {
            sequence,
            row,
            length,
            position,
            captures: Vec::new(),
        }
    };
    pieces.map(place).collect()
}
