//! The step before attention: heads are normalized and rotated, keys and values put into the cache.
//!
//! Rotary position embedding: Su et al. 2021, arXiv:2104.09864.

use super::norm::norm_row;
use super::number::{Byte, CacheNumber, Half, Number, Single};
use super::pages::{PAGE, PageMut};
use super::parts::Parts;
use super::pool::Pool;
use super::simd::{Kernel, Simd, load_some, run, store_some};

/// Numbers of queries, keys and values that are worth a task of their own: some microseconds.
const TASK: usize = 8 * 1024;

/// What is the same for all rows of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Rotary<'a> {
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, Hkv.
    pub kv_heads: usize,
    /// Width of a query or key head, D.
    pub width: usize,
    /// Width of a value head, Dv.
    pub value_width: usize,
    /// How heads turn.
    pub turns: Turns<'a>,
    /// `[D]`: weight of an RMS norm of each query head, before the rotation.
    pub query_norm: Option<&'a [f32]>,
    /// `[D]`: the same for keys.
    pub key_norm: Option<&'a [f32]>,
    /// Of both norms.
    pub epsilon: f32,
    /// How the cache stores keys and values.
    pub number: CacheNumber,
}

/// How the first dimensions of a head, `rotated` of them, turn with the position. The others stay as they
/// are.
#[derive(Debug, Clone, Copy)]
pub struct Turns<'a> {
    /// `[rotated / 2]`: tokens in which pair `i`, which is dimensions `i` and `i + rotated / 2` of a
    /// head, turns by one radian.
    pub periods: &'a [f32],
    /// What positions are multiplied by.
    pub scale: f32,
    /// What the turned dimensions are multiplied by.
    pub stretch: f32,
    /// Pairs are dimensions `2i` and `2i + 1` instead.
    pub interleaved: bool,
}

/// Rows of one sequence, and where in its cache they go.
#[derive(Debug)]
pub struct RotarySegment<'a> {
    /// How many.
    pub rows: usize,
    /// Position of the first row, for the rotation.
    pub position: usize,
    /// Place of the first row in the first page.
    pub place: usize,
    /// Where keys and values go.
    pub pages: Vec<PageMut<'a>>,
}

/// Rows as the linear layers give them: the segments' laid end to end.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// `[T, H, D]`.
    pub queries: &'a [f32],
    /// `[T, Hkv, D]`.
    pub keys: &'a [f32],
    /// `[T, Hkv, Dv]`.
    pub values: &'a [f32],
}

/// Normalizes and rotates queries into `out` `[T, H, D]`, and keys into their cache; copies values
/// into theirs. Angles are computed in float64, so that position 1,000,000 is as exact as the first.
///
/// # Panics
/// If the lengths do not fit each other or a row has no place in its cache.
pub fn rotate(
    pool: &Pool,
    rotary: &Rotary<'_>,
    heads: Heads<'_>,
    out: &mut [f32],
    segments: &mut [RotarySegment<'_>],
) {
    rotary.check(heads, out.len(), segments);
    let caches: Vec<_> = segments
        .iter_mut()
        .map(|segment| Cache {
            position: segment.position,
            place: segment.place,
            pages: parts(&mut segment.pages),
            rows: segment.rows,
        })
        .collect();
    let row = rotary.heads * rotary.width
        + rotary.kv_heads * (rotary.width + rotary.value_width)
        // A sine and a cosine take as long as many multiplications.
        + 16 * rotary.turns.periods.len();
    let step = (TASK / row).max(1);
    let mut tasks = Vec::new();
    let mut row = 0;
    for (segment, cache) in caches.iter().enumerate() {
        for first in (0..cache.rows).step_by(step) {
            tasks.push((segment, first, row + first));
        }
        row += cache.rows;
    }
    let out = Parts::new(out);
    pool.run(tasks.len(), |task| {
        let (segment, first, row) = tasks[task];
        let cache = &caches[segment];
        let rows = Rows {
            rotary,
            heads,
            cache,
            first,
            count: step.min(cache.rows - first),
            row,
            out,
        };
        run(rows);
    });
}

impl Rotary<'_> {
    fn check(&self, heads: Heads<'_>, out: usize, segments: &[RotarySegment<'_>]) {
        let rows: usize = segments.iter().map(|segment| segment.rows).sum();
        let queries = rows * self.heads * self.width;
        assert_eq!((heads.queries.len(), out), (queries, queries));
        assert_eq!(heads.keys.len(), rows * self.kv_heads * self.width);
        assert_eq!(heads.values.len(), rows * self.kv_heads * self.value_width);
        assert!(2 * self.turns.periods.len() <= self.width);
        for norm in [self.query_norm, self.key_norm].into_iter().flatten() {
            assert_eq!(norm.len(), self.width);
        }
        for segment in segments {
            assert!(segment.place + segment.rows <= PAGE * segment.pages.len());
            let size = |width: usize| self.kv_heads * PAGE * self.number.row_bytes(width);
            for page in &segment.pages {
                assert_eq!(page.keys.len(), size(self.width));
                assert_eq!(page.values.len(), size(self.value_width));
            }
        }
    }
}

/// A [`RotarySegment`] whose places several tasks write.
struct Cache<'a> {
    rows: usize,
    position: usize,
    place: usize,
    /// Keys and values.
    pages: Vec<[Parts<'a, u8>; 2]>,
}

fn parts<'a>(pages: &'a mut [PageMut<'_>]) -> Vec<[Parts<'a, u8>; 2]> {
    let pages = pages.iter_mut();
    let pages = pages.map(|page| [Parts::new(page.keys), Parts::new(page.values)]);
    pages.collect()
}

/// Some rows of a segment; `row` is the first of them among all rows.
struct Rows<'a> {
    rotary: &'a Rotary<'a>,
    heads: Heads<'a>,
    cache: &'a Cache<'a>,
    first: usize,
    count: usize,
    row: usize,
    out: Parts<'a, f32>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.rotary.number {
            CacheNumber::F32 => self.rows::<S, Single>(),
            CacheNumber::F16 => self.rows::<S, Half>(),
            CacheNumber::I8 => self.rows::<S, Byte>(),
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn rows<S: Simd, N: Number>(self) {
        let mut angles = Angles::new(self.rotary.turns.periods.len());
        let mut head = vec![0.0; self.rotary.width];
        for i in 0..self.count {
            angles.set(&self.rotary.turns, self.cache.position + self.first + i);
            self.queries::<S>(self.row + i, &angles);
            let place = self.cache.place + self.first + i;
            self.keys_and_values::<S, N>(self.row + i, place, &angles, &mut head);
        }
    }

    #[inline(always)]
    fn queries<S: Simd>(&self, row: usize, angles: &Angles) {
        let Rotary { heads, width, .. } = *self.rotary;
        let length = heads * width;
        let queries = &self.heads.queries[row * length..][..length];
        // SAFETY: each row belongs to one task.
        let out = unsafe { self.out.part(row * length, length) };
        let pairs = queries.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (query, out) in pairs {
            self.rotary
                .turn::<S>(query, self.rotary.query_norm, angles, out);
        }
    }

    #[inline(always)]
    fn keys_and_values<S: Simd, N: Number>(
        &self,
        row: usize,
        place: usize,
        angles: &Angles,
        head: &mut [f32],
    ) {
        let Rotary {
            kv_heads,
            width,
            value_width,
            ..
        } = *self.rotary;
        for kv_head in 0..kv_heads {
            let from = row * kv_heads + kv_head;
            let key = &self.heads.keys[from * width..][..width];
            self.rotary
                .turn::<S>(key, self.rotary.key_norm, angles, head);
            let value = &self.heads.values[from * value_width..][..value_width];
            let (bytes, value_bytes) = (N::row_bytes(width), N::row_bytes(value_width));
            let [keys, values] = self.cache.pages[place / PAGE];
            let first = kv_head * PAGE;
            // SAFETY: each row belongs to one task, and has a place of its own.
            unsafe {
                let keys = keys.start(first * bytes, PAGE * bytes);
                N::store_key::<S>(head, keys, place % PAGE);
                let values = values.start(first * value_bytes, PAGE * value_bytes);
                N::store_value::<S>(value, values, place % PAGE);
            }
        }
    }
}

impl Rotary<'_> {
    /// One head: the norm if there is one, then the rotation.
    #[inline(always)]
    fn turn<S: Simd>(&self, head: &[f32], norm: Option<&[f32]>, angles: &Angles, out: &mut [f32]) {
        if let Some(norm) = norm {
            let (weight, width) = (Some(norm.as_ptr()), self.width);
            // SAFETY: all are as wide as a head.
            unsafe {
                norm_row::<S>(head.as_ptr(), weight, width, self.epsilon, out.as_mut_ptr());
            }
        } else {
            out.copy_from_slice(head);
        }
        let half = self.turns.periods.len();
        if self.turns.interleaved {
            return angles.turn_neighbours(&mut out[..2 * half]);
        }
        let (low, high) = out[..2 * half].split_at_mut(half);
        for at in (0..half).step_by(8) {
            let count = half - at;
            // SAFETY: all four hold `half` floats.
            unsafe {
                let (low, high) = (low.as_mut_ptr().add(at), high.as_mut_ptr().add(at));
                let (a, b) = (load_some::<S>(low, count), load_some::<S>(high, count));
                let cosine = load_some::<S>(angles.cosines.as_ptr().add(at), count);
                let sine = load_some::<S>(angles.sines.as_ptr().add(at), count);
                let minus_sine = S::sub(S::splat(0.0), sine);
                store_some::<S>(low, S::fma(a, cosine, S::mul(b, minus_sine)), count);
                store_some::<S>(high, S::fma(b, cosine, S::mul(a, sine)), count);
            }
        }
    }
}

/// Cosines and sines of one position's angles, stretched.
struct Angles {
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Angles {
    fn new(pairs: usize) -> Self {
        Self {
            cosines: vec![0.0; pairs],
            sines: vec![0.0; pairs],
        }
    }

    fn set(&mut self, turns: &Turns<'_>, position: usize) {
        let position = position as f64 * f64::from(turns.scale);
        let stretch = f64::from(turns.stretch);
        let angles = self.cosines.iter_mut().zip(&mut self.sines);
        for ((cosine, sine), &period) in angles.zip(turns.periods) {
            let (sine_, cosine_) = (position / f64::from(period)).sin_cos();
            (*sine, *cosine) = ((stretch * sine_) as f32, (stretch * cosine_) as f32);
        }
    }

    fn turn_neighbours(&self, head: &mut [f32]) {
        for (i, pair) in head.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let ([a, b], cosine, sine) = (*pair, self.cosines[i], self.sines[i]);
            *pair = [a * cosine - b * sine, b * cosine + a * sine];
        }
    }
}

#[cfg(test)]
mod tests;
