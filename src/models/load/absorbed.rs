//! The projection from latent rows to keys and values of each head (DeepSeek-V2, arXiv:2405.04434), turned so
//! that queries and outputs go through it instead.

use std::sync::Arc;

use super::{Loader, Precision};
use crate::error::Result;
use crate::kernels::embedding::look_up;
use crate::kernels::matrix::{Format, Number, Part};
use crate::kernels::pool;
use crate::mlx::{Array, dequantize, eval, slice};
use crate::ops::linear::Matrix;

impl Loader<'_> {
    /// Of `prefix.kv_b_proj` `[heads · (key + value), rank]`: what makes latent queries of queries, `[heads,
    /// rank, key]`, and values of latent sums, `[heads, value, rank]`; or both as mlx-lm stores them,
    /// `prefix.embed_q` and `prefix.unembed_out`.
    ///
    /// # Errors
    /// As [`Loader::linear`].
    pub fn absorbed(
        &self,
        prefix: &str,
        heads: usize,
        [key, value]: [usize; 2],
        rank: usize,
    ) -> Result<[Matrix; 2]> {
        let embed = format!("{prefix}.embed_q");
        if self.has(&format!("{embed}.weight")) {
            return Ok([
                self.stack(&embed, &[heads], key, rank)?,
                self.stack(&format!("{prefix}.unembed_out"), &[heads], rank, value)?,
            ]);
        }
        let name = format!("{prefix}.kv_b_proj");
        let rows = heads * (key + value);
        let both = match self.matrix(&name, rank, rows)? {
            Matrix::Host(matrix) => {
                let ids: Vec<i32> = (0..rows as i32).collect();
                let mut floats = vec![0.0; rows * rank];
                look_up(pool::shared(), &matrix.weights, &ids, &mut floats);
                return self.absorbed_on_host(&name, &floats, heads, [key, value], rank);
            }
            Matrix::Dense(weight) => weight,
            Matrix::Packed {
                weight,
                scales,
                biases,
                packing,
            } => {
                let dtype = scales.dtype();
                dequantize(&weight, &scales, biases.as_ref(), packing, dtype)?
            }
        };
        if both.size() != rows * rank {
            // It is missing, which is noted.
            return Ok([Matrix::missing(), Matrix::missing()]);
        }
        let shape = [heads, key + value, rank].map(|size| size as i32);
        let both = both.reshape(&shape)?;
        let whole = |array: Array| -> Result<Matrix> {
            let array = array.contiguous()?;
            eval([&array])?;
            Ok(Matrix::Dense(array))
        };
        let key = key as i32;
        Ok([
            whole(slice(&both, 1, ..key)?.swap_axes(1, 2)?)?,
            whole(slice(&both, 1, key..)?)?,
        ])
    }

    fn absorbed_on_host(
        &self,
        name: &str,
        both: &[f32],
        heads: usize,
        [key, value]: [usize; 2],
        rank: usize,
    ) -> Result<[Matrix; 2]> {
        let (mut embed, mut unembed) = (Vec::new(), Vec::new());
        for head in both.chunks_exact((key + value) * rank) {
            let (keys, values) = head.split_at(key * rank);
            for i in 0..rank {
                embed.extend(keys.iter().skip(i).step_by(rank));
            }
            unembed.extend(values);
        }
        let matrix = |numbers: &[f32], shape: [usize; 3]| {
            let (number, bytes): (_, Vec<u8>) = if self.precision == Precision::Float32 {
                let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
                (Number::Float32, bytes.collect())
            } else {
                let halves = numbers.iter().map(|&number| half::bf16::from_f32(number));
                let bytes = halves.flat_map(half::bf16::to_le_bytes);
                (Number::Bfloat16, bytes.collect())
            };
            let length = bytes.len();
            let part = Part::new(Arc::new(bytes), 0..length).unwrap_or_else(Part::empty);
            let parts = [part, Part::empty(), Part::empty()];
            self.host_matrix(name, &shape, Format::Dense(number), parts)
        };
        Ok([
            matrix(&embed, [heads, rank, key])?,
            matrix(&unembed, [heads, value, rank])?,
        ])
    }
}
