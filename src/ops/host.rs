//! What linear layers on the CPU have in common: weights of any format, and how products are made.

use std::sync::Arc;

use super::tensor::Rows;
use crate::kernels::linear::{Arithmetic, Product, Then};
use crate::kernels::matrix::Matrix;

/// A matrix for the kernels of the CPU, and how its products are made.
#[derive(Debug, Clone)]
pub struct HostMatrix {
    /// The weights where they lie.
    pub weights: Arc<Matrix>,
    /// Of the products.
    pub arithmetic: Arithmetic,
}

/// A linear layer for the kernels.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostLinear<'a> {
    pub(super) matrix: &'a HostMatrix,
    pub(super) bias: Option<&'a [f32]>,
}

impl<'a> HostLinear<'a> {
    /// Outputs for so many rows, not computed.
    pub(super) fn outputs(self, rows: usize) -> Rows {
        Rows::new(rows, self.matrix.weights.rows())
    }

    /// Its product into `out`, which is what [`Self::outputs`] gave.
    pub(super) fn product(self, then: Then<'a>, out: &'a mut Rows) -> Product<'a> {
        Product {
            matrix: &self.matrix.weights,
            bias: self.bias,
            then,
            out: &mut out.numbers,
        }
    }
}
