//! Functions of vectors that are the same for every instruction set.
#![expect(clippy::inline_always, reason = "see `Kernel`")]

use super::{Lanes, Simd};

/// `e^x` for x from -87.3 to 88, within 1.3 units in the last place; beyond, as at that end of the
/// range (1.2e-38 and 1.7e38). NaN stays NaN.
///
/// `x = n ln 2 + r` with |r| <= ln 2 / 2, and a polynomial of degree 6 for `e^r` (Taylor's, with its
/// error spread as in Cephes' `expf`).
#[inline(always)]
pub(in super::super) fn exp<L: Lanes>(x: L::Floats) -> L::Floats {
    // In this order of arguments both pass NaN on.
    let x = L::max(L::splat(-87.3), L::min(L::splat(88.0), x));
    let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
    let whole = L::to_floats(n);
    // ln 2 in two parts, so that the product with n is exact.
    let r = L::fma(whole, L::splat(-0.693_359_4), x);
    let r = L::fma(whole, L::splat(2.121_944_4e-4), r);
    let mut p = L::splat(1.987_569_1e-4);
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = L::fma(p, r, L::splat(coefficient));
    }
    let p = L::fma(p, L::mul(r, r), L::add(r, L::splat(1.0)));
    L::scale_by_power(p, n)
}

/// `Σ a·b` over `length` floats.
///
/// # Safety
/// Both pointers are valid for `length` floats.
#[inline(always)]
pub(in super::super) unsafe fn sum_of_products<S: Simd>(
    a: *const f32,
    b: *const f32,
    length: usize,
) -> f32 {
    let mut sums = [S::splat(0.0); 4];
    let mut i = 0;
    // SAFETY: all indices stay below `length`.
    unsafe {
        while i + 32 <= length {
            for (j, sum) in sums.iter_mut().enumerate() {
                let at = i + 8 * j;
                *sum = S::fma(S::load(a.add(at)), S::load(b.add(at)), *sum);
            }
            i += 32;
        }
        while i + 8 <= length {
            sums[0] = S::fma(S::load(a.add(i)), S::load(b.add(i)), sums[0]);
            i += 8;
        }
        let mut total = S::sum(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
        while i < length {
            total += *a.add(i) * *b.add(i);
            i += 1;
        }
        total
    }
}

/// The first `count` of eight floats, at least 1; the rest are 0.
///
/// # Safety
/// The pointer is valid for `count` floats.
#[inline(always)]
pub(in super::super) unsafe fn load_some<S: Simd>(from: *const f32, count: usize) -> S::Floats {
    // SAFETY: the caller's promise; the buffer holds eight.
    unsafe {
        if count >= 8 {
            return S::load(from);
        }
        let mut eight = [0.0; 8];
        // As bytes: nothing is aligned.
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), eight.as_mut_ptr().cast(), 4 * count);
        S::load(eight.as_ptr())
    }
}

/// Stores the first `count` of eight floats.
///
/// # Safety
/// The pointer is valid for `count` floats.
#[inline(always)]
pub(in super::super) unsafe fn store_some<S: Simd>(to: *mut f32, value: S::Floats, count: usize) {
    // SAFETY: the caller's promise; the buffer holds eight.
    unsafe {
        if count >= 8 {
            return S::store(to, value);
        }
        let mut eight = [0.0; 8];
        S::store(eight.as_mut_ptr(), value);
        std::ptr::copy_nonoverlapping(eight.as_ptr().cast::<u8>(), to.cast(), 4 * count);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Instructions, Kernel, Simd, run_with};
    use super::exp;

    struct Exp([f32; 8]);

    impl Kernel for Exp {
        type Output = [f32; 8];

        #[inline(always)]
        fn run<S: Simd>(self) -> [f32; 8] {
            let mut out = [0.0; 8];
            // SAFETY: both hold eight.
            unsafe { S::store(out.as_mut_ptr(), exp::<S>(S::load(self.0.as_ptr()))) };
            out
        }
    }

    #[test]
    fn exp_is_within_its_bound_over_its_whole_range() {
        for instructions in Instructions::available() {
            let mut worst = 0.0_f64;
            for (sign, end) in [(0, 88.0_f32.to_bits()), (1 << 31, 87.3_f32.to_bits())] {
                for at in (0..end).step_by(8 * STRIDE) {
                    let x = std::array::from_fn(|i| {
                        f32::from_bits(sign | (at + (i * STRIDE) as u32).min(end))
                    });
                    for (x, found) in x.into_iter().zip(run_with(instructions, Exp(x))) {
                        let right = f64::from(x).exp();
                        let unit = f64::from(f32::EPSILON) * right.log2().floor().exp2();
                        worst = worst.max((f64::from(found) - right).abs() / unit);
                    }
                }
            }
            assert!(
                worst < 1.3,
                "{instructions}: {worst} units in the last place"
            );
        }
    }

    /// Of floats, about 2^31 in the range of the test.
    const STRIDE: usize = 4_999;

    #[test]
    fn exp_beyond_its_range() {
        for instructions in Instructions::available() {
            let x = [
                f32::NEG_INFINITY,
                -1e30,
                -88.0,
                88.5,
                1e30,
                f32::INFINITY,
                f32::NAN,
                0.0,
            ];
            let found = run_with(instructions, Exp(x));
            assert!(
                found[..3].iter().all(|&y| y > 0.0 && y < 1.3e-38),
                "{found:?}"
            );
            assert!(
                found[3..6].iter().all(|&y| y > 1.6e38 && y.is_finite()),
                "{found:?}"
            );
            assert!(found[6].is_nan(), "{found:?}");
            assert!((found[7] - 1.0).abs() < f32::EPSILON, "{found:?}");
        }
    }
}
