//! What products are compared with: plain loops in float64 over the same weights, with activations
//! rounded alike.

use super::super::gate::{Activation, CLAMPED_SLOPE};
use super::super::matrix::Matrix;
use super::{Arithmetic, Form, form};

/// A number in float64, and how far a sum in float32 may be from it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Right {
    pub(in super::super) value: f64,
    pub(in super::super) off: f64,
}

/// Rounds as the kernels do: to int8 with a scale for each 32 of a row, a whole multiple of the row's
/// unit.
fn rounded(x: &[f32], columns: usize) -> Vec<f64> {
    let largest = |x: &[f32]| x.iter().fold(0_f32, |largest, x| largest.max(x.abs()));
    let round_row = |row: &[f32]| -> Vec<f64> {
        if !row.iter().all(|x| x.is_finite()) {
            return vec![f64::NAN; row.len()];
        }
        let unit = (largest(row) / (127.0 * 32766.0)).max(f32::MIN_POSITIVE);
        let round = |block: &[f32]| -> Vec<f64> {
            let scale = (largest(block) / (127.0 * unit)).ceil();
            let inverse = if scale > 0.0 {
                (scale * unit).recip()
            } else {
                0.0
            };
            let codes = block.iter().map(|x| (x * inverse).round_ties_even());
            codes
                .map(|code| f64::from(code) * f64::from(scale) * f64::from(unit))
                .collect()
        };
        row.chunks(32).flat_map(round).collect()
    };
    x.chunks(columns).flat_map(round_row).collect()
}

/// The nearest bfloat16, of two the larger one.
pub(in super::super) fn bfloat(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    f32::from_bits((x.to_bits() + 0x8000) & 0xffff_0000)
}

/// `W x + bias`, `[T][rows]`.
pub(in super::super) fn product(
    weights: &Matrix,
    x: &[f32],
    arithmetic: Arithmetic,
    bias: Option<&[f32]>,
) -> Vec<Right> {
    let columns = weights.columns();
    let form = form(weights.format(), arithmetic, x.len() / columns);
    let x: Vec<f64> = match form {
        Form::Int8 => rounded(x, columns),
        Form::Bfloat16(1) => x.iter().map(|&x| f64::from(bfloat(x))).collect(),
        Form::Float32 | Form::Bfloat16(_) => x.iter().map(|&x| f64::from(x)).collect(),
    };
    let rows: Vec<_> = (0..weights.rows())
        .map(|row| weights.dense_row(row))
        .collect();
    let mut out = Vec::new();
    for x in x.chunks(columns) {
        for (i, row) in rows.iter().enumerate() {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[i]));
            // A weight may be the small difference of a large bias and a large product.
            let largest = row
                .iter()
                .fold(0_f32, |largest, weight| largest.max(weight.abs()));
            let sizes = x.iter().map(|x| x.abs()).sum::<f64>() * f64::from(largest);
            let mut right = Right {
                value: bias,
                off: (sizes + bias.abs()) * f64::from(f32::EPSILON),
            };
            if form == Form::Bfloat16(2) {
                // Each part keeps eight bits or, by its sign, nine.
                right.off += sizes / f64::from(1 << 18);
            }
            for (&weight, x) in row.iter().zip(x) {
                if form != Form::Bfloat16(1) {
                    right.value += f64::from(weight) * x;
                    continue;
                }
                // Between two numbers, either may be meant.
                let off = largest * 4.0 * f32::EPSILON;
                let (low, high) = (bfloat(weight - off), bfloat(weight + off));
                right.value += f64::from(low + high) / 2.0 * x;
                right.off += f64::from((high - low).abs()) * x.abs();
            }
            out.push(right);
        }
    }
    out
}

pub(in super::super) fn gated(activation: Activation, gate: Right, up: Right) -> Right {
    let x = gate.value;
    let (value, up) = match activation {
        Activation::Silu => (x / (1.0 + (-x).exp()), up),
        Activation::GeluTanh => {
            let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            (x / (1.0 + (-2.0 * z).exp()), up)
        }
        Activation::Clamped(limit) => {
            let limit = f64::from(limit);
            // A comparison keeps what is not a number.
            let x = if x > limit { limit } else { x };
            let value = up.value.clamp(-limit, limit) + 1.0;
            let off = up.off + f64::from(f32::EPSILON);
            let activated = x / (1.0 + (-f64::from(CLAMPED_SLOPE) * x).exp());
            (activated, Right { value, off })
        }
    };
    Right {
        value: value * up.value,
        // The slope of all activations is below 1.2.
        off: 1.2 * gate.off * (up.value.abs() + up.off)
            + value.abs() * (up.off + 4.0 * f64::from(f32::EPSILON) * up.value.abs()),
    }
}
