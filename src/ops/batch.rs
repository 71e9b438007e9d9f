//! What one forward works on: tokens of several sequences laid end to end, and whose they are.

use crate::error::Result;
use crate::mlx::Array;

/// A run of tokens of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which of the forward's caches it belongs to.
    pub sequence: usize,
    /// Its first row in the batch.
    pub row: i32,
    /// Its number of rows, at least 1.
    pub length: i32,
    /// The position of its first token in the sequence.
    pub position: i32,
}

/// Tokens of several sequences, `[T]`, without padding.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Token ids, `[T]`, int32 or uint32.
    pub tokens: Array,
    /// The position of each token in its sequence, `[T]`, int32.
    pub positions: Array,
    /// Contiguous runs that cover all rows in order.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Lays `pieces` end to end: for each, its cache, the position of its first token, its ids.
    ///
    /// # Errors
    /// What MLX says.
    pub fn new(pieces: &[(usize, usize, Array)]) -> Result<Self> {
        let mut segments = Vec::with_capacity(pieces.len());
        let mut positions = Vec::new();
        let mut row = 0;
        for (sequence, position, tokens) in pieces {
            let (length, position) = (tokens.shape()[0], *position as i32);
            segments.push(Segment {
                sequence: *sequence,
                row,
                length,
                position,
            });
            positions.extend(position..position + length);
            row += length;
        }
        let tokens = if let [(_, _, tokens)] = pieces {
            tokens.clone()
        } else {
            let parts: Vec<&Array> = pieces.iter().map(|(_, _, tokens)| tokens).collect();
            crate::mlx::ops::concatenate(&parts, 0)?
        };
        Ok(Self {
            tokens,
            positions: Array::from_slice(&positions, &[row]),
            segments,
        })
    }
}
