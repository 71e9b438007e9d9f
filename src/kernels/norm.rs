//! Root-mean-square normalization of rows. Knows nothing of what the rows mean.

use super::parts::Parts;
use super::pool::Pool;
use super::simd::{Kernel, Simd, load_some, run, store_some, sum_of_products};

/// Elements that are worth a task of their own: some microseconds.
const TASK: usize = 16 * 1024;

/// `x · rsqrt(mean(x²) + epsilon) · weight` over each row (Zhang and Sennrich 2019,
/// arXiv:1910.07467).
///
/// `x` and `out` `[T, width]`, `weight` `[width]`. Squares are summed in float32, in 32 sums: the
/// relative error is at most `width · 2^-30 + 2^-21`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    if x.is_empty() {
        return;
    }
    let width = weight.len();
    assert_eq!(x.len() % width, 0);
    let rows = (TASK / width).max(1);
    let tasks = x.chunks(rows * width);
    let parts = Parts::new(out);
    pool.run(tasks.len(), |task| {
        let x = &x[task * rows * width..];
        let length = x.len().min(rows * width);
        // SAFETY: each task has its own rows.
        let out = unsafe { parts.part(task * rows * width, length) };
        run(RmsNorm {
            x: &x[..length],
            weight,
            epsilon,
            out,
        });
    });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact(width);
        for (x, out) in rows.zip(self.out.chunks_exact_mut(width)) {
            // SAFETY: all three hold `width` floats.
            unsafe {
                let (x, weight) = (x.as_ptr(), self.weight.as_ptr());
                norm_row::<S>(x, Some(weight), width, self.epsilon, out.as_mut_ptr());
            }
        }
    }
}

/// One row; the same place may be read and written.
///
/// # Safety
/// The pointers are valid for `width` floats.
#[inline(always)]
pub(super) unsafe fn norm_row<S: Simd>(
    x: *const f32,
    weight: Option<*const f32>,
    width: usize,
    epsilon: f32,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mean = sum_of_products::<S>(x, x, width) / width as f32;
        let factor = S::splat(1.0 / (mean + epsilon).sqrt());
        for at in (0..width).step_by(8) {
            let count = width - at;
            let mut value = S::mul(load_some::<S>(x.add(at), count), factor);
            if let Some(weight) = weight {
                value = S::mul(value, load_some::<S>(weight.add(at), count));
            }
            store_some::<S>(out.add(at), value, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::super::simd::{Instructions, run_with};
    use super::*;

    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(NonZero::new(3).unwrap()));

    fn reference(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f64> {
        let rows = x.chunks(weight.len());
        rows.flat_map(|row| {
            let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let root = (squares / row.len() as f64 + f64::from(epsilon)).sqrt();
            let pairs = row.iter().zip(weight);
            pairs.map(move |(&x, &weight)| f64::from(x) / root * f64::from(weight))
        })
        .collect()
    }

    fn check(x: &[f32], weight: &[f32], epsilon: f32) -> Result<(), TestCaseError> {
        let right = reference(x, weight, epsilon);
        let mut out = vec![0.0; x.len()];
        let close = |out: &[f32]| {
            let mut pairs = out.iter().zip(&right);
            pairs.all(|(&found, right)| (f64::from(found) - right).abs() <= right.abs() * 2e-6)
        };
        for instructions in Instructions::available() {
            out.fill(f32::NAN);
            run_with(
                instructions,
                RmsNorm {
                    x,
                    weight,
                    epsilon,
                    out: &mut out,
                },
            );
            prop_assert!(close(&out), "{instructions}");
        }
        out.fill(f32::NAN);
        rms_norm(&POOL, x, weight, epsilon, &mut out);
        prop_assert!(close(&out));
        Ok(())
    }

    proptest! {
        #[test]
        fn is_the_reference((rows, width) in (0_usize..5, 1_usize..200), seed: u32) {
            let noise = |i: usize| (i as f32 * 12.9898 + seed as f32).sin() * 4.0;
            let x: Vec<f32> = (0..rows * width).map(noise).collect();
            let weight: Vec<f32> = (0..width).map(|i| 1.0 + noise(i)).collect();
            check(&x, &weight, 1e-5)?;
        }
    }

    #[test]
    fn many_rows_are_spread_over_threads_and_zeros_stay_zeros() {
        let x: Vec<f32> = (0..300 * 256).map(|i| (i % 977) as f32 - 488.0).collect();
        check(&x, &[0.5; 256], 1e-6).unwrap();
        check(&[0.0; 40], &[1.0; 40], 1e-6).unwrap();
    }
}
