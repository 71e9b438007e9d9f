//! What this machine can do at best: reading memory, multiplying floats, multiplying bytes. Kernels
//! are held against it.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use std::hint::black_box;

use super::pool::Pool;
use super::simd::{self, Kernel, Simd};

/// Floats that a task reads: 1 MiB.
const PART: usize = 1 << 18;

/// Sums under way at the same time, so that none waits for the one before.
const SUMS: usize = 12;

/// Reads each of `floats` once, as fast as the threads of a pool can.
pub fn read_floats(pool: &Pool, floats: &[f32]) {
    pool.run(floats.len().div_ceil(PART), |task| {
        let part = &floats[task * PART..];
        black_box(simd::run(Read(&part[..PART.min(part.len())])));
    });
}

/// Multiplies and adds float32 in the registers of each thread of a pool. Returns how many
/// operations that were, a multiplication and an addition being two.
pub fn multiply_floats(pool: &Pool, rounds: usize) -> usize {
    pool.run(pool.threads(), |_| {
        black_box(simd::run(MultiplyFloats(rounds)));
    });
    pool.threads() * rounds * SUMS * 8 * 2
}

/// Multiplies bytes and adds their products on each thread of a pool, as packed kernels do. Returns how
/// many operations that were, a multiplication and an addition being two.
pub fn multiply_bytes(pool: &Pool, rounds: usize) -> usize {
    pool.run(pool.threads(), |_| {
        black_box(simd::run(MultiplyBytes(rounds)));
    });
    pool.threads() * rounds * SUMS * 32 * 2
}

struct Read<'a>(&'a [f32]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        let mut sums = [S::splat(0.0); 8];
        for floats in self.0.as_chunks::<64>().0 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: eight times eight floats.
                *sum = S::add(*sum, unsafe { S::load(floats.as_ptr().add(8 * i)) });
            }
        }
        let mut total = S::splat(0.0);
        for sum in sums {
            total = S::add(total, sum);
        }
        S::sum(total)
    }
}

struct MultiplyFloats(usize);

impl Kernel for MultiplyFloats {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        let (a, b) = (S::splat(black_box(0.5)), S::splat(black_box(0.25)));
        let mut sums = [S::splat(0.0); SUMS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = S::fma(*sum, a, b);
            }
        }
        let mut total = S::splat(0.0);
        for sum in sums {
            total = S::add(total, sum);
        }
        S::sum(total)
    }
}

struct MultiplyBytes(usize);

impl Kernel for MultiplyBytes {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        // Operands that the compiler does not know, and that differ from round to round.
        let codes = black_box([[1u8; 32]; SUMS]);
        let x = black_box([[1u8; 32]; 16]);
        let mut sums = [S::zero_sums(); SUMS];
        for round in 0..self.0 {
            // SAFETY: 32 bytes each.
            unsafe {
                let x = S::load_bytes(x[round % 16].as_ptr());
                for (sum, codes) in sums.iter_mut().zip(&codes) {
                    *sum = S::dot(*sum, S::load_bytes(codes.as_ptr()), x);
                }
            }
        }
        let mut total = S::zero_integers();
        for sum in sums {
            total = S::add_integers(total, S::finish(sum));
        }
        S::sum(S::to_floats(total))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Instructions, run_with};
    use super::*;

    #[test]
    fn all_that_is_counted_is_done() {
        for instructions in Instructions::available() {
            let sum = run_with(instructions, Read(&[1.0; 192]));
            assert!((sum - 192.0).abs() < 1e-3, "{sum} with {instructions}");
            let sum = run_with(instructions, MultiplyFloats(2));
            let each = 0.25 * 0.5 + 0.25;
            assert!(
                (sum - (SUMS * 8) as f32 * each).abs() < 1e-3,
                "{sum} with {instructions}"
            );
            let sum = run_with(instructions, MultiplyBytes(3));
            assert!(
                (sum - (SUMS * 32 * 3) as f32).abs() < 1e-3,
                "{sum} with {instructions}"
            );
        }
    }
}
