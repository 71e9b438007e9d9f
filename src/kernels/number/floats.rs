//! Keys and values as floats, row by row; queries are float32.

use half::f16;

use super::super::simd::{Simd, load_some};
use super::super::storage::{Eight, Half, Single};
use super::{Ahead, Number, Weighted};

/// What both have in common, over what differs: [`Float`].
macro_rules! number {
    ($name:ty) => {
        impl Number for $name {
            const BLOCK: usize = 1;

            #[inline(always)]
            fn row_bytes(width: usize) -> usize {
                <Self as Eight>::SIZE * width
            }

            #[inline(always)]
            fn query_bytes(width: usize) -> usize {
                Single::row_bytes(width)
            }

            #[inline(always)]
            fn store_query<S: Simd>(from: &[f32], query: &mut [u8]) {
                assert_eq!(query.len(), Self::query_bytes(from.len()));
                // SAFETY: both are as many numbers.
                unsafe { Single::store::<S>(from, query.as_mut_ptr()) };
            }

            #[inline(always)]
            unsafe fn store_key<S: Simd>(from: &[f32], keys: *mut u8, position: usize) {
                // SAFETY: the caller's promise.
                unsafe { Self::store::<S>(from, keys.add(position * Self::row_bytes(from.len()))) };
            }

            #[inline(always)]
            unsafe fn store_value<S: Simd>(from: &[f32], values: *mut u8, position: usize) {
                // SAFETY: values lie as keys do.
                unsafe { Self::store_key::<S>(from, values, position) };
            }

            #[inline(always)]
            unsafe fn two_values<S: Simd>(
                values: *const u8,
                position: usize,
                alone: bool,
                width: usize,
                at: usize,
            ) -> [S::Floats; 2] {
                // SAFETY: the caller's promise.
                unsafe {
                    let bytes = Self::row_bytes(width);
                    let first = values.add(position * bytes);
                    let second = if alone { first } else { first.add(bytes) };
                    [
                        Self::load_some::<S>(first, width, at),
                        Self::load_some::<S>(second, width, at),
                    ]
                }
            }

            #[inline(always)]
            unsafe fn add_values<S: Simd, const Q: usize, const W: usize>(weighted: &Weighted<Q>) {
                // SAFETY: the caller's promise.
                unsafe { add_rows::<S, Self, Q, W>(weighted) };
            }

            #[inline(always)]
            unsafe fn eight_keys<S: Simd>(
                keys: *const u8,
                count: usize,
                width: usize,
                at: usize,
            ) -> [S::Floats; 8] {
                let mut eight = [S::splat(0.0); 8];
                for (i, row) in eight.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *row = unsafe {
                        let key = keys.add(i.min(count - 1) * Self::row_bytes(width));
                        Self::load_some::<S>(key, width, at)
                    };
                }
                S::transpose_floats(eight)
            }

            #[inline(always)]
            unsafe fn scores<S: Simd, const Q: usize, const K: usize>(
                keys: *const u8,
                width: usize,
                queries: *const u8,
                scores: *mut f32,
                stride: usize,
            ) {
                // SAFETY: the caller's promise.
                unsafe { scores_of_rows::<S, Self, Q, K>(keys, width, queries, scores, stride) };
            }
        }
    };
}

number!(Single);
number!(Half);

/// One kind of floats.
trait Float: Eight {
    /// Stores floats.
    ///
    /// # Safety
    /// The pointer is valid for as many.
    unsafe fn store<S: Simd>(from: &[f32], to: *mut u8);

    /// Eight columns of a row, from `at` on; those beyond the last are 0.
    ///
    /// # Safety
    /// The row is valid, and `at` is below its width.
    #[inline(always)]
    unsafe fn load_some<S: Simd>(row: *const u8, width: usize, at: usize) -> S::Floats {
        // SAFETY: the caller's promise; the buffer holds eight numbers.
        unsafe {
            let (from, count) = (row.add(at * Self::SIZE), width - at);
            if count >= 8 {
                return Self::load::<S>(from);
            }
            let mut eight = [0_u8; 32];
            std::ptr::copy_nonoverlapping(from, eight.as_mut_ptr(), count * Self::SIZE);
            Self::load::<S>(eight.as_ptr())
        }
    }
}

impl Float for Single {
    #[inline(always)]
    unsafe fn store<S: Simd>(from: &[f32], to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().cast(), to, 4 * from.len()) };
    }
}

impl Float for Half {
    #[inline(always)]
    unsafe fn store<S: Simd>(from: &[f32], to: *mut u8) {
        for at in (0..from.len()).step_by(8) {
            let count = from.len() - at;
            // SAFETY: the caller's promise; the buffer holds eight.
            unsafe {
                let value = load_some::<S>(from.as_ptr().add(at), count);
                let mut eight = [f16::ZERO; 8];
                S::store_half(eight.as_mut_ptr().cast(), value);
                let bytes = 2 * count.min(8);
                std::ptr::copy_nonoverlapping(eight.as_ptr().cast(), to.add(2 * at), bytes);
            }
        }
    }
}

/// [`Number::scores`] of keys that lie row by row.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn scores_of_rows<S: Simd, N: Number + Float, const Q: usize, const K: usize>(
    keys: *const u8,
    width: usize,
    queries: *const u8,
    scores: *mut f32,
    stride: usize,
) {
    let mut sums = [[S::splat(0.0); Q]; K];
    // SAFETY: all columns are within the rows.
    unsafe {
        let whole = width / 8 * 8;
        let mut eight = [S::splat(0.0); K];
        for at in (0..whole).step_by(8) {
            for (k, eight) in eight.iter_mut().enumerate() {
                *eight = N::load::<S>(keys.add(k * N::row_bytes(width) + at * N::SIZE));
            }
            for q in 0..Q {
                let query = S::load(queries.add(4 * (q * width + at)).cast());
                for k in 0..K {
                    sums[k][q] = S::fma(query, eight[k], sums[k][q]);
                }
            }
        }
        if whole < width {
            for (k, eight) in eight.iter_mut().enumerate() {
                *eight = N::load_some::<S>(keys.add(k * N::row_bytes(width)), width, whole);
            }
            for q in 0..Q {
                let query = queries.add(q * N::query_bytes(width));
                let query = Single::load_some::<S>(query, width, whole);
                for k in 0..K {
                    sums[k][q] = S::fma(query, eight[k], sums[k][q]);
                }
            }
        }
        let sum = |i: usize| sums[i % K][i / K];
        let place = |i: usize| scores.add(i / K * stride + i % K);
        let mut i = 0;
        while i + 4 <= Q * K {
            let four = S::sum4([sum(i), sum(i + 1), sum(i + 2), sum(i + 3)]);
            for (j, score) in four.into_iter().enumerate() {
                *place(i + j) = score;
            }
            i += 4;
        }
        while i < Q * K {
            *place(i) = S::sum(sum(i));
            i += 1;
        }
    }
}

/// [`Number::add_values`] of values that lie row by row.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn add_rows<S: Simd, N: Number + Float, const Q: usize, const W: usize>(
    weighted: &Weighted<Q>,
) {
    let width = weighted.width;
    let mut ahead = weighted.ahead(weighted.count * width.div_ceil(8 * W));
    // SAFETY: the caller's promise; all columns are within the rows.
    unsafe {
        let mut at = 0;
        while at < width {
            if at + 8 * W <= width {
                add_columns::<S, N, Q, W, true>(weighted, at, &mut ahead);
                at += 8 * W;
            } else if at + 8 <= width {
                add_columns::<S, N, Q, 1, true>(weighted, at, &mut ahead);
                at += 8;
            } else {
                add_columns::<S, N, Q, 1, false>(weighted, at, &mut ahead);
                at = width;
            }
        }
    }
}

/// `W` vectors of columns from `at` on; the last may be part of one, unless all are `WHOLE`.
///
/// # Safety
/// As for [`add_rows`].
#[inline(always)]
unsafe fn add_columns<
    S: Simd,
    N: Number + Float,
    const Q: usize,
    const W: usize,
    const WHOLE: bool,
>(
    weighted: &Weighted<Q>,
    at: usize,
    ahead: &mut Ahead,
) {
    let width = weighted.width;
    let mut sums = [[S::splat(0.0); W]; Q];
    // SAFETY: all indices stay within the sums and values.
    unsafe {
        let rows = weighted.sums.add(at);
        let stride = weighted.stride;
        for (q, sums) in sums.iter_mut().enumerate() {
            for (w, sum) in sums.iter_mut().enumerate() {
                let old = S::load(rows.add(q * stride + 8 * w));
                *sum = S::mul(old, S::splat(weighted.factors[q]));
            }
        }
        for position in 0..weighted.count {
            let mut splats = [S::splat(0.0); Q];
            for (q, splat) in splats.iter_mut().enumerate() {
                *splat = S::splat((*weighted.weights.add(q))[position]);
            }
            let value = weighted.values.add(position * N::row_bytes(width));
            ahead.ask::<S>();
            for w in 0..W {
                let value = if WHOLE {
                    N::load::<S>(value.add((at + 8 * w) * N::SIZE))
                } else {
                    N::load_some::<S>(value, width, at + 8 * w)
                };
                for (sums, &weight) in sums.iter_mut().zip(&splats) {
                    sums[w] = S::fma(weight, value, sums[w]);
                }
            }
        }
        for (q, sums) in sums.into_iter().enumerate() {
            for (w, sum) in sums.into_iter().enumerate() {
                S::store(rows.add(q * stride + 8 * w), sum);
            }
        }
    }
}
