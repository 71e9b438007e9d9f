//! The gate of a feed-forward block: an activation of one half times the other.

use super::parts::Parts;
use super::pool::Pool;
use super::simd::{Kernel, Simd, exp, load_some, run, store_some};

/// Elements that are worth a task of their own: some microseconds.
const TASK: usize = 8 * 1024;

/// What the gate goes through (Shazeer 2020, arXiv:2002.05202).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x · sigmoid(x)`, as in SwiGLU.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`, as in `GeGLU`.
    GeluTanh,
    /// `x · sigmoid(1.702 x)` of gates that are cut at this, times one more than what they gate, which is
    /// cut on both sides: that of gpt-oss.
    Clamped(f32),
}

/// `out = activation(gate) · up`, element by element.
///
/// The relative error is at most 2^-21. For [`Activation::GeluTanh`] of negative gates it grows with
/// the exponent, to 2^-16 where results are 1e-30; smaller ones may be anything as small. For
/// [`Activation::Clamped`] it grows with the gate, by 2^-23 for each 1, and is that of one more than what is
/// gated.
///
/// # Panics
/// If the lengths differ.
pub fn gate(pool: &Pool, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert_eq!((gate.len(), up.len()), (out.len(), out.len()));
    let parts = Parts::new(out);
    pool.run(up.len().div_ceil(TASK), |task| {
        let (at, length) = share(task, up.len());
        // SAFETY: each task has its own elements.
        let out = unsafe { parts.part(at, length) };
        run(Gated {
            activation,
            gate: gate[at..at + length].as_ptr(),
            up: &up[at..at + length],
            out: out.as_mut_ptr(),
        });
    });
}

/// As [`gate()`], written over the gate.
///
/// # Panics
/// If the lengths differ.
pub fn gate_in_place(pool: &Pool, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    let parts = Parts::new(gate);
    pool.run(up.len().div_ceil(TASK), |task| {
        let (at, length) = share(task, up.len());
        // SAFETY: each task has its own elements.
        let out = unsafe { parts.part(at, length) }.as_mut_ptr();
        run(Gated {
            activation,
            gate: out,
            up: &up[at..at + length],
            out,
        });
    });
}

/// Where the elements of a task begin, and how many they are.
fn share(task: usize, length: usize) -> (usize, usize) {
    (task * TASK, TASK.min(length - task * TASK))
}

/// `gate` and `out` are valid for as many floats as `up` has, and may be the same.
struct Gated<'a> {
    activation: Activation,
    gate: *const f32,
    up: &'a [f32],
    out: *mut f32,
}

impl Kernel for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let length = self.up.len();
        let whole = length / 8 * 8;
        let (gate, up, out) = (self.gate, self.up.as_ptr(), self.out);
        // SAFETY: all indices are below the length that all three have.
        unsafe {
            for at in (0..whole).step_by(8) {
                let (gate, up) = (S::load(gate.add(at)), S::load(up.add(at)));
                S::store(out.add(at), gated::<S>(self.activation, gate, up));
            }
            if whole < length {
                let rest = length - whole;
                let gate = load_some::<S>(gate.add(whole), rest);
                let up = load_some::<S>(up.add(whole), rest);
                let gated = gated::<S>(self.activation, gate, up);
                store_some::<S>(out.add(whole), gated, rest);
            }
        }
    }
}

/// What gpt-oss multiplies gates by before their sigmoid.
pub const CLAMPED_SLOPE: f32 = 1.702;

/// All are `x · sigmoid(y)`: `(1 + tanh(z))/2` is `sigmoid(2z)`.
#[inline(always)]
fn gated<S: Simd>(activation: Activation, x: S::Floats, up: S::Floats) -> S::Floats {
    let (x, minus_y, up) = match activation {
        Activation::Silu => (x, S::sub(S::splat(0.0), x), up),
        Activation::GeluTanh => {
            // -2 √(2/π), and the same times 0.044715.
            let cubic = S::fma(
                S::mul(x, x),
                S::splat(-0.071_354_82),
                S::splat(-1.595_769_2),
            );
            (x, S::mul(x, cubic), up)
        }
        Activation::Clamped(limit) => {
            // In this order what is not a number stays.
            let x = S::min(S::splat(limit), x);
            let up = S::max(S::splat(-limit), S::min(S::splat(limit), up));
            let minus_y = S::mul(x, S::splat(-CLAMPED_SLOPE));
            (x, minus_y, S::add(up, S::splat(1.0)))
        }
    };
    let activated = S::div(x, S::add(S::splat(1.0), exp::<S>(minus_y)));
    S::mul(activated, up)
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::super::simd::{Instructions, run_with};
    use super::*;

    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(NonZero::new(3).unwrap()));

    fn reference(activation: Activation, gate: f32, up: f32) -> f64 {
        let x = f64::from(gate);
        let activated = match activation {
            Activation::Clamped(limit) => {
                let limit = f64::from(limit);
                let x = x.min(limit);
                let up = f64::from(up).clamp(-limit, limit) + 1.0;
                return x / (1.0 + (-f64::from(CLAMPED_SLOPE) * x).exp()) * up;
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                // The same as 1 + tanh(z), without cancellation.
                x / (1.0 + (-2.0 * z).exp())
            }
        };
        activated * f64::from(up)
    }

    fn close(activation: Activation, gate: &[f32], up: &[f32], out: &[f32]) -> bool {
        gate.iter().zip(up).zip(out).all(|((&gate, &up), &found)| {
            let right = reference(activation, gate, up);
            let bound: f64 = match activation {
                Activation::GeluTanh if gate < -1.0 => 2_f64.powi(-16),
                // One more than -1 is anything.
                Activation::Clamped(_) => {
                    let up = f64::from(up.clamp(-7.0, 7.0));
                    let grown = 2_f64.powi(-20) + f64::from(gate).abs() * 2_f64.powi(-23);
                    grown * (1.0 + up.abs()) / (1.0 + up).abs()
                }
                _ => 2_f64.powi(-21),
            };
            (f64::from(found) - right).abs() <= right.abs() * bound + 1e-30
        })
    }

    fn check(gate: &[f32], up: &[f32]) -> Result<(), TestCaseError> {
        let mut out = vec![0.0; up.len()];
        for activation in [
            Activation::Silu,
            Activation::GeluTanh,
            Activation::Clamped(7.0),
        ] {
            for instructions in Instructions::available() {
                out.fill(f32::NAN);
                let kernel = Gated {
                    activation,
                    gate: gate.as_ptr(),
                    up,
                    out: out.as_mut_ptr(),
                };
                run_with(instructions, kernel);
                prop_assert!(
                    close(activation, gate, up, &out),
                    "{instructions} {activation:?}"
                );
            }
            out.fill(f32::NAN);
            super::gate(&POOL, activation, gate, up, &mut out);
            let mut in_place = gate.to_vec();
            gate_in_place(&POOL, activation, &mut in_place, up);
            prop_assert!(close(activation, gate, up, &out));
            prop_assert_eq!(&out, &in_place);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn is_the_reference(pairs in prop::collection::vec((-100.0_f32..100.0, -9.0_f32..9.0), 0..70)) {
            let (gate, up): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            check(&gate, &up)?;
        }
    }

    #[test]
    fn many_elements_are_spread_over_threads() {
        let gate: Vec<f32> = (0..3 * TASK + 5)
            .map(|i| (i % 311) as f32 / 20.0 - 7.0)
            .collect();
        check(&gate, &vec![1.5; gate.len()]).unwrap();
    }
}
