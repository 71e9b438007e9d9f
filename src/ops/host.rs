//! What the CPU's nodes have in common: kernels on the shared pool of threads over the node's buffers.

use std::sync::Arc;

use crate::error::Result;
use crate::kernels::linear::Arithmetic;
use crate::kernels::matrix::Matrix;
use crate::mlx::{Array, Buffer, BufferMut, Dtype, Output, host_op};

/// A matrix for the kernels of the CPU, and how its products are made.
#[derive(Debug, Clone)]
pub struct HostMatrix {
    /// The weights where they lie.
    pub weights: Arc<Matrix>,
    /// Of the products.
    pub arithmetic: Arithmetic,
}

/// The float32 of a node's input; nothing where they are of another type, which the kernels then
/// refuse by its length.
pub(super) fn floats<'a>(input: &Buffer<'a>) -> &'a [f32] {
    input.as_slice().unwrap_or_default()
}

/// The float32 of a node's output.
pub(super) fn floats_mut<'a>(output: &'a mut BufferMut<'_>) -> &'a mut [f32] {
    output.as_mut_slice().unwrap_or_default()
}

/// A node with one float32 output.
pub(super) fn node<F>(name: &str, inputs: &[&Array], shape: &[i32], function: F) -> Result<Array>
where
    F: Fn(&[Buffer<'_>], &mut [f32]) + Send + Sync + 'static,
{
    let outputs = [Output::new(shape, Dtype::Float32)];
    let mut results = host_op(name, inputs, &outputs, move |inputs, outputs| {
        function(inputs, floats_mut(&mut outputs[0]));
    })?;
    Ok(results.remove(0))
}
