//! What a gate lets through of the numbers beside it.

use crate::error::Result;
use crate::kernels::gate::{Activation, CLAMPED_SLOPE};
use crate::mlx::{Array, GpuKernel, Launch, computes_with_cuda, kernel_source, ops};
use crate::ops::tensor::misplaced;

/// Numbers from which on a kernel computes: its compilation is worth it, and a launch is not what takes the time.
const MANY: usize = 1 << 18;

/// Threads of a block.
const THREADS: usize = 256;

/// Bytes of each matrix that a thread takes; as in the source.
const EACH: usize = 16;

static GATE: GpuKernel = GpuKernel::for_cuda(
    c"gate",
    &[c"gate", c"up"],
    &[c"gated"],
    kernel_source(concat!(include_str!("activations.cu"), "\0")),
    kernel_source(concat!(include_str!("gate.cu"), "\0")),
)
.with_numbers(&[c"count"]);

/// `activation(gate) · up`, elementwise, of the same type, by MLX.
///
/// # Errors
/// What MLX says.
pub(super) fn activate(activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    if gate.size() >= MANY && computes_with_cuda()? {
        return by_kernel(activation, gate, up);
    }
    by_operations(activation, gate, up)
}

/// Each number is read once, where operations one by one read most of them three times.
fn by_kernel(activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    let (number, limit) = match activation {
        Activation::Silu => (0, 0.0),
        Activation::GeluTanh => (1, 0.0),
        Activation::Clamped(limit) => (2, limit),
    };
    let count = i32::try_from(gate.size()).map_err(|_| misplaced())?;
    let threads = gate.nbytes().div_ceil(EACH).next_multiple_of(THREADS);
    let made = GATE.launch(&Launch {
        inputs: &[gate, up],
        outputs: &[(gate.shape(), gate.dtype())],
        numbers: &[count],
        constants: &[(c"ACTIVATION", number), (c"LIMIT", limit.to_bits() as i32)],
        grid: [threads as i32, 1, 1],
        block: [THREADS as i32, 1, 1],
    })?;
    made.into_iter().next().ok_or_else(misplaced)
}

fn by_operations(activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    let number = |number: f32| Array::from_f32(number).as_dtype(gate.dtype());
    Ok(match activation {
        Activation::Silu => gate.multiply(ops::sigmoid(gate)?)?.multiply(up)?,
        Activation::GeluTanh => {
            let cubic = gate.square()?.multiply(number(0.044_715)?)?;
            let cubic = gate.multiply(cubic.add(number(1.0)?)?)?;
            // √(2/π)
            let tanh = ops::tanh(cubic.multiply(number(0.797_884_6)?)?)?;
            let half = gate.multiply(number(0.5)?)?;
            half.multiply(tanh.add(number(1.0)?)?)?.multiply(up)?
        }
        Activation::Clamped(limit) => {
            let gate = ops::minimum(gate, number(limit)?)?;
            let up = ops::maximum(ops::minimum(up, number(limit)?)?, number(-limit)?)?;
            let sigmoid = ops::sigmoid(gate.multiply(number(CLAMPED_SLOPE)?)?)?;
            gate.multiply(sigmoid)?.multiply(up.add(number(1.0)?)?)?
        }
    })
}

#[cfg(test)]
mod tests;
