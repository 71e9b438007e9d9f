//! The next token from a row of logits, on the device: nothing is read back to choose it.
//!
//! Order: logit bias and penalties on the raw logits; temperature 0 takes the largest; else top-k,
//! temperature, top-p on what is left, min-p, and a draw. The draw adds Gumbel noise to the
//! logarithms and takes the largest (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030). The noise
//! of a token follows from seed, position and token alone, so a text does not depend on what else
//! is in the batch, on what was cached, or on the order in which candidates are ranked.

use crate::error::Result;
use crate::mlx::{Array, Dtype, bitwise_xor, ops, right_shift, slice};
use crate::sample::Sampling;

/// Below this temperature the largest is taken: dividing by it leaves nothing else, and by still
/// less leaves no numbers.
const COLDEST: f32 = 1e-5;

/// What is chosen from one row, not yet evaluated.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The token, int32 `[1]`; -1 where the logits are not finite numbers.
    pub token: Array,
    /// Present where the sampling asks for it.
    pub logprobs: Option<ChoiceLogprobs>,
}

/// Log-probabilities from the raw logits.
#[derive(Debug, Clone)]
pub struct ChoiceLogprobs {
    /// Of the token chosen, float32 `[1]`.
    pub chosen: Array,
    /// The likeliest tokens, int32 `[n]`, in no order.
    pub top_tokens: Array,
    /// Theirs, float32 `[n]`.
    pub top: Array,
}

/// The tokens that penalties look back on, as arrays on the device.
#[derive(Debug, Clone)]
pub struct History {
    window: usize,
    tokens: Option<Array>,
}

impl History {
    /// Seeded with the end of the prompt.
    pub fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let window = if sampling.has_penalties() {
            sampling.repeat_last_n.unwrap_or(usize::MAX)
        } else {
            0
        };
        let seed = &prompt[prompt.len().saturating_sub(window)..];
        let ids: Vec<i32> = seed.iter().map(|&id| id as i32).collect();
        let tokens = (!ids.is_empty()).then(|| Array::from_slice(&ids, &[ids.len() as i32]));
        Self { window, tokens }
    }

    /// Notes a sampled token, int32 `[1]`.
    fn push(&mut self, token: &Array) -> Result<()> {
        if self.window == 0 {
            return Ok(());
        }
        let all = match &self.tokens {
            Some(tokens) => ops::concatenate(&[tokens, token], 0)?,
            None => token.clone(),
        };
        let kept = i32::try_from(self.window).unwrap_or(i32::MAX);
        self.tokens = Some(slice(&all, 0, -kept..)?);
        Ok(())
    }
}

/// Chooses the token that comes at `position` of a sequence, from its row of logits `[1, V]`.
///
/// # Errors
/// What MLX says.
pub fn choose(
    logits: &Array,
    sampling: &Sampling,
    seed: u64,
    position: usize,
    history: &mut History,
) -> Result<Choice> {
    let raw = logits.reshape(&[-1])?.as_dtype(Dtype::Float32)?;
    // One NaN or infinity anywhere makes this sum no number.
    let total = raw.logsumexp(true)?;
    let scores = penalized(&biased(&raw, sampling)?, sampling, history)?;
    let token = if sampling.temperature < COLDEST {
        ops::indexing::argmax(&scores, true)?.as_dtype(Dtype::Int32)?
    } else {
        draw(&scores, sampling, seed, position)?
    };
    let token = ops::select(&total.is_finite()?, &token, Array::from_int(-1))?.reshape(&[1])?;
    history.push(&token)?;
    let logprobs = sampling
        .logprobs
        .map(|top| logprobs(&raw, &total, &token, top))
        .transpose()?;
    Ok(Choice { token, logprobs })
}

fn biased(logits: &Array, sampling: &Sampling) -> Result<Array> {
    if sampling.logit_bias.is_empty() {
        return Ok(logits.clone());
    }
    let size = logits.shape()[0];
    let inside = sampling
        .logit_bias
        .iter()
        .filter(|(id, _)| (*id as i32) < size);
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
fn penalized(scores: &Array, sampling: &Sampling, history: &History) -> Result<Array> {
    let Some(seen) = &history.tokens else {
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

fn draw(scores: &Array, sampling: &Sampling, seed: u64, position: usize) -> Result<Array> {
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
    let noisy = kept.add(gumbel(&ids, seed, position)?)?;
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
fn gumbel(ids: &Array, seed: u64, position: usize) -> Result<Array> {
    let (first, second) = keys(seed, position);
    let hashed = mixed(&bitwise_xor(&ids.as_dtype(Dtype::Uint32)?, &word(first))?)?;
    let hashed = mixed(&hashed.add(word(second))?)?;
    let bits = right_shift(&hashed, &word(9))?.as_dtype(Dtype::Float32)?;
    let uniform = bits
        .add(Array::from_f32(0.5))?
        .multiply(Array::from_f32(1.0 / 8_388_608.0))?;
    Ok(uniform.log()?.negative()?.log()?.negative()?)
}

/// Two words that stand for (seed, position), by `SplitMix64` (Steele et al. 2014).
fn keys(seed: u64, position: usize) -> (u32, u32) {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(position as u64 + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z as u32, (z >> 32) as u32)
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
