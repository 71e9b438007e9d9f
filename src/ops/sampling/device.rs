//! Choosing as a graph of MLX's operations, on any device.

use super::{Choice, ChoiceLogprobs, Scores};
use crate::error::Result;
use crate::kernels::sampling::{COLDEST, Noise};
use crate::mlx::{Array, Dtype, bitwise_xor, ops, right_shift, slice};
use crate::sample::{Mask, Sampling};

/// A score that no draw meets, and that no temperature makes infinite.
const LOWEST: f32 = -1e30;

/// See [`super::choose`]; `seen` are the tokens that penalties look back on, int32.
pub(super) fn choose(
    logits: &Array,
    sampling: &Sampling,
    seen: Option<&Array>,
    mask: Option<&Mask>,
    noise: Noise,
) -> Result<Choice> {
    let raw = logits.reshape(&[-1])?.as_dtype(Dtype::Float32)?;
    // One NaN or infinity anywhere makes this sum no number.
    let total = raw.logsumexp(true)?;
    let scores = penalized(&biased(&raw, sampling)?, sampling, seen)?;
    let scores = allowed(scores, mask)?;
    let token = if sampling.temperature < COLDEST {
        ops::indexing::argmax(&scores, true)?.as_dtype(Dtype::Int32)?
    } else {
        draw(&scores, sampling, noise)?
    };
    let token = ops::select(&total.is_finite()?, &token, Array::from_int(-1))?.reshape(&[1])?;
    let logprobs = sampling
        .logprobs
        .map(|top| logprobs(&raw, &total, &token, top))
        .transpose()?;
    Ok(Choice { token, logprobs })
}

/// See [`super::score`].
pub(super) fn score(logits: &Array, tokens: &[u32], top: usize) -> Result<Scores> {
    let raw = logits.as_dtype(Dtype::Float32)?;
    let total = raw.logsumexp_axis(1, true)?;
    let all = raw.subtract(&total)?;
    let [rows, size] = [raw.shape()[0], raw.shape()[1]];
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    let ids = Array::from_slice(&ids, &[rows, 1]);
    let chosen = ops::indexing::take_along_axis(&all, &ids, 1)?;
    // A NaN or an infinity anywhere makes the sum no number, or the difference.
    let chosen = ops::select(&total.is_finite()?, &chosen, Array::from_f32(f32::NAN))?;
    let count = i32::try_from(top).unwrap_or(size).min(size);
    let top_tokens = if count == 0 || count == size {
        let ids = ops::arange::<i32, i32>(None, count, None)?;
        ops::broadcast_to(&ids, &[rows, count])?
    } else {
        let order = ops::argpartition_axis(all.negative()?, count - 1, 1)?;
        slice(&order, 1, ..count)?.as_dtype(Dtype::Int32)?
    };
    Ok(Scores {
        chosen: chosen.reshape(&[-1])?,
        top: ops::indexing::take_along_axis(&all, &top_tokens, 1)?,
        top_tokens,
    })
}

fn biased(logits: &Array, sampling: &Sampling) -> Result<Array> {
    if sampling.logit_bias.is_empty() {
        return Ok(logits.clone());
    }
    let size = logits.shape()[0];
    let inside = sampling
        .logit_bias
        .iter()
        .filter(|(id, _)| i64::from(*id) < i64::from(size));
    let (ids, biases): (Vec<i32>, Vec<f32>) = inside.map(|&(id, bias)| (id as i32, bias)).unzip();
    let count = ids.len() as i32;
    let updates = Array::from_slice(&biases, &[count, 1]);
    Ok(ops::indexing::scatter_add_single(
        logits,
        Array::from_slice(&ids, &[count]),
        updates,
        0,
    )?)
}

/// Repeat and presence penalties once per distinct token of the window, frequency per occurrence.
fn penalized(scores: &Array, sampling: &Sampling, seen: Option<&Array>) -> Result<Array> {
    let Some(seen) = seen else {
        return Ok(scores.clone());
    };
    let found = scores.take_axis(seen, 0)?;
    let repeat = sampling.repeat_penalty;
    let divided = found.multiply(Array::from_f32(1.0 / repeat))?;
    let multiplied = found.multiply(Array::from_f32(repeat))?;
    let changed = ops::select(found.lt(Array::from_f32(0.0))?, multiplied, divided)?;
    let changed = changed.subtract(Array::from_f32(sampling.presence_penalty))?;
    // Every occurrence writes the same value, so a token is changed once.
    let scores = ops::indexing::put_along_axis(scores, seen, changed, 0)?;
    if sampling.frequency_penalty == 0.0 {
        return Ok(scores);
    }
    let count = seen.shape()[0];
    let updates = ops::full::<f32>(&[count, 1], Array::from_f32(-sampling.frequency_penalty))?;
    Ok(ops::indexing::scatter_add_single(scores, seen, updates, 0)?)
}

/// The scores, with minus infinity for tokens that may not be chosen. Those that may keep a finite one, so that
/// one of them is chosen in any case.
fn allowed(scores: Array, mask: Option<&Mask>) -> Result<Array> {
    let Some(mask) = mask else {
        return Ok(scores);
    };
    let size = scores.shape()[0];
    let words = size.cast_unsigned().div_ceil(u32::BITS);
    let half = |index: u32| (mask.word(index as usize / 2) >> (32 * (index % 2))) as u32;
    let halves: Vec<u32> = (0..words).map(half).collect();
    let halves = Array::from_slice(&halves, &[words as i32, 1]);
    // A factor for each bit, which brings it to the top of its word.
    let factors: Vec<u32> = (0..u32::BITS).map(|bit| 1 << (31 - bit)).collect();
    let factors = Array::from_slice(&factors, &[1, 32]);
    let is_allowed = halves
        .multiply(factors)?
        .ge(word(1 << 31))?
        .reshape(&[-1])?;
    let floored = ops::maximum(&scores, Array::from_f32(LOWEST))?;
    Ok(ops::select(
        slice(&is_allowed, 0, ..size)?,
        floored,
        Array::from_f32(f32::NEG_INFINITY),
    )?)
}

fn draw(scores: &Array, sampling: &Sampling, noise: Noise) -> Result<Array> {
    let size = scores.shape()[0];
    let top_k = i32::try_from(sampling.top_k)
        .ok()
        .filter(|&k| k > 0 && k < size);
    let (ids, scores) = match top_k {
        Some(k) => {
            let order = ops::argpartition(scores.negative()?, k - 1)?;
            let ids = slice(&order, 0, ..k)?.as_dtype(Dtype::Int32)?;
            let scores = scores.take_axis(&ids, 0)?;
            (ids, scores)
        }
        None => (ops::arange::<i32, i32>(None, size, None)?, scores.clone()),
    };
    let scaled = scores.multiply(Array::from_f32(1.0 / sampling.temperature))?;
    let kept = filtered(&scaled, sampling)?;
    let noisy = kept.add(gumbel(&ids, noise)?)?;
    Ok(ids.take_axis(ops::indexing::argmax(&noisy, true)?, 0)?)
}

/// The scores, with minus infinity where top-p or min-p drop a token.
fn filtered(scores: &Array, sampling: &Sampling) -> Result<Array> {
    let minus_infinity = Array::from_f32(f32::NEG_INFINITY);
    let mut kept = scores.clone();
    if sampling.top_p < 1.0 {
        let probabilities = ops::softmax(scores, true)?;
        let order = ops::argsort(probabilities.negative()?)?;
        let sorted = probabilities.take_axis(&order, 0)?;
        // The mass before a token decides: the largest always stays, and so does the one that
        // crosses the line.
        let before = sorted.cumsum(0, false, true)?.subtract(&sorted)?;
        let inside = before.lt(Array::from_f32(sampling.top_p))?;
        let first =
            ops::arange::<i32, i32>(None, inside.shape()[0], None)?.eq(Array::from_int(0))?;
        let inside = inside.logical_or(first)?;
        let ranks = ops::argsort(&order)?;
        kept = ops::select(inside.take_axis(ranks, 0)?, kept, &minus_infinity)?;
    }
    if sampling.min_p > 0.0 {
        // p < m · max(p) is score < max(score) + ln m.
        let floor = kept.max(true)?.add(Array::from_f32(sampling.min_p.ln()))?;
        kept = ops::select(kept.lt(floor)?, &minus_infinity, kept)?;
    }
    Ok(kept)
}

/// Gumbel noise of each token id, float32: `-ln(-ln u)` with u from 23 hashed bits (with the half added, all a float32 holds).
fn gumbel(ids: &Array, noise: Noise) -> Result<Array> {
    let (first, second) = noise.keys;
    let hashed = mixed(&bitwise_xor(&ids.as_dtype(Dtype::Uint32)?, &word(first))?)?;
    let hashed = mixed(&hashed.add(word(second))?)?;
    let bits = right_shift(&hashed, &word(9))?.as_dtype(Dtype::Float32)?;
    let uniform = bits
        .add(Array::from_f32(0.5))?
        .multiply(Array::from_f32(1.0 / 8_388_608.0))?;
    Ok(uniform.log()?.negative()?.log()?.negative()?)
}

/// The finalizer of `MurmurHash3` on each word: a bijection that spreads every bit.
fn mixed(words: &Array) -> Result<Array> {
    let folded = |h: &Array, by: u32| bitwise_xor(h, &right_shift(h, &word(by))?);
    let h = folded(words, 16)?.multiply(word(0x85eb_ca6b))?;
    let h = folded(&h, 13)?.multiply(word(0xc2b2_ae35))?;
    folded(&h, 16)
}

fn word(value: u32) -> Array {
    Array::from_slice(&[value], &[1])
}

fn logprobs(raw: &Array, total: &Array, token: &Array, top: usize) -> Result<ChoiceLogprobs> {
    let all = raw.subtract(total)?;
    // A token of -1 is an error that is told elsewhere; any row will do here.
    let chosen = all.take_axis(ops::maximum(token, Array::from_int(0))?, 0)?;
    let size = raw.shape()[0];
    let count = i32::try_from(top).unwrap_or(size).min(size);
    let top_tokens = if count == 0 || count == size {
        ops::arange::<i32, i32>(None, count, None)?
    } else {
        slice(&ops::argpartition(all.negative()?, count - 1)?, 0, ..count)?
            .as_dtype(Dtype::Int32)?
    };
    let top = all.take_axis(&top_tokens, 0)?;
    Ok(ChoiceLogprobs {
        chosen,
        top_tokens,
        top,
    })
}
