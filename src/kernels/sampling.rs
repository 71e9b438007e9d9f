//! The next token from one row of logits, chosen without sorting the row. Knows nothing of how logits
//! are computed, nor of what was said but the tokens that penalties look back on.
//!
//! One look at every logit gives the largest of each block. From these follow the largest of all and,
//! for the `k` largest, a line that few others are above; blocks below a line are not looked at again.
//! The set that top-p keeps is found by parting candidates in halves. A draw adds Gumbel noise to the
//! scores and takes the largest (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030), and only where
//! the noise that a token would need is likely enough is it computed.

mod passes;
mod row;
#[cfg(test)]
mod tests;

use row::{Key, Row};

use super::simd::Instructions;
use crate::sample::{Mask, Sampling};

/// Below this temperature the largest is taken: dividing by it leaves nothing else, and by still
/// less leaves no numbers.
pub const COLDEST: f32 = 1e-5;

/// What is chosen from one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Present where the sampling asks for it.
    pub logprobs: Option<Logprobs>,
}

/// Log-probabilities from the raw logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token chosen.
    pub chosen: f32,
    /// The likeliest tokens with theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Gumbel noise of each token id at one position of one text: it follows from seed, position and
/// token alone.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Two words that stand for (seed, position).
    pub keys: (u32, u32),
}

impl Noise {
    /// The keys, by `SplitMix64` (Steele et al. 2014).
    pub fn new(seed: u64, position: usize) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(position as u64 + 1));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Self {
            keys: (z as u32, (z >> 32) as u32),
        }
    }

    /// 23 hashed bits: how far below 1 the uniform number of a token is, in steps of 2⁻²³.
    #[inline]
    fn below_one(self, id: u32) -> u32 {
        let hashed = mixed(mixed(id ^ self.keys.0).wrapping_add(self.keys.1));
        !hashed >> 9
    }

    /// `-ln(-ln u)` with u in the middle of its step.
    fn of(self, id: u32) -> f32 {
        let bits = 0x7f_ffff - self.below_one(id);
        let uniform = (bits as f32 + 0.5) * (1.0 / 8_388_608.0);
        -(-uniform.ln()).ln()
    }
}

/// The finalizer of `MurmurHash3`: a bijection that spreads every bit.
#[inline]
fn mixed(h: u32) -> u32 {
    let h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    let h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// How likely a token is by its row of logits `[V]`, with the `top` likeliest. `None` where a logit is NaN or
/// infinite, all are minus infinity, or the row has no such token.
pub fn score(logits: &[f32], token: u32, top: usize) -> Option<Logprobs> {
    let row = Row::new(Instructions::best(), logits)?;
    let (total, top) = likeliest(&row, top)?;
    let chosen = logits.get(token as usize)? - total;
    Some(Logprobs { chosen, top })
}

/// The logarithm of the sum of all, and the `count` likeliest tokens with their log-probabilities.
fn likeliest(row: &Row<'_>, count: usize) -> Option<(f32, Vec<(u32, f32)>)> {
    let best = row.best().score();
    if best.is_infinite() {
        return None;
    }
    let total = best + row.mass(best, 1.0).ln() as f32;
    let mut top = row.top(count);
    top.sort_unstable();
    let pairs = top.iter().map(|key| (key.id(), key.score() - total));
    Some((total, pairs.collect()))
}

/// Chooses a token from its row of logits `[V]`; among equals the lower id goes first. `None` where a
/// logit is NaN or infinite, or all are minus infinity.
///
/// `seen` are the tokens that penalties look back on; ids that the row does not have are passed over,
/// there and in the bias. Where there is a mask, the token is one of it, whatever its logit, and `None` comes
/// where the row has none of it.
pub fn choose(
    logits: &[f32],
    sampling: &Sampling,
    seen: &[i32],
    mask: Option<&Mask>,
    noise: Noise,
) -> Option<Choice> {
    choose_with(Instructions::best(), logits, sampling, seen, mask, noise)
}

fn choose_with(
    instructions: Instructions,
    logits: &[f32],
    sampling: &Sampling,
    seen: &[i32],
    mask: Option<&Mask>,
    noise: Noise,
) -> Option<Choice> {
    let mut row = Row::new(instructions, logits)?;
    if row.best().score().is_infinite() {
        return None;
    }
    let raw = match sampling.logprobs {
        Some(count) => Some(likeliest(&row, count)?),
        None => None,
    };
    add_bias(&mut row, &sampling.logit_bias);
    penalize(&mut row, sampling, seen);
    if let Some(mask) = mask {
        row.restrict(mask);
    }
    let best = row.best();
    // A bias may be infinite, and then nothing is left to chance.
    let token = if let Some(mask) = mask
        && best.score() == f32::NEG_INFINITY
    {
        let first = mask.ids().next();
        first.filter(|&id| (id as usize) < row.size())?
    } else if sampling.temperature < COLDEST || best.score().is_infinite() {
        best.id()
    } else {
        let last = last_allowed(&row, sampling, best.score());
        row.draw(best, last, 1.0 / sampling.temperature, noise)
    };
    let logprobs = raw.map(|(total, top)| Logprobs {
        chosen: logits[token as usize] - total,
        top,
    });
    Some(Choice { token, logprobs })
}

fn add_bias(row: &mut Row<'_>, biases: &[(u32, f32)]) {
    for &(id, bias) in biases {
        row.change(id, |score| score + bias);
    }
}

/// Repeat and presence penalties once per distinct token of the window, frequency per occurrence.
fn penalize(row: &mut Row<'_>, sampling: &Sampling, seen: &[i32]) {
    let mut seen: Vec<u32> = seen.iter().filter_map(|&id| id.try_into().ok()).collect();
    seen.sort_unstable();
    let repeat = sampling.repeat_penalty;
    for same in seen.chunk_by(|a, b| a == b) {
        row.change(same[0], |score| {
            let factor = if score < 0.0 { repeat } else { 1.0 / repeat };
            let once = score * factor - sampling.presence_penalty;
            same.iter()
                .fold(once, |score, _| score - sampling.frequency_penalty)
        });
    }
}

/// The last of the candidates that top-k, top-p and min-p leave, in the order of their keys.
fn last_allowed(row: &Row<'_>, sampling: &Sampling, best: f32) -> Key {
    let scale = 1.0 / sampling.temperature;
    let mut last = Key::LAST;
    if (1..row.size()).contains(&sampling.top_k) {
        let mut kept = row.top(sampling.top_k);
        if sampling.top_p < 1.0 {
            let weight = |key: &Key| f64::from(((key.score() - best) * scale).exp());
            let total: f64 = kept.iter().map(weight).sum();
            last = last_within(&mut kept, weight, f64::from(sampling.top_p) * total);
        } else if let Some(worst) = kept.iter().max() {
            last = *worst;
        }
    } else if sampling.top_p < 1.0 {
        last = row.nucleus(best, scale, sampling.top_p);
    }
    if sampling.min_p > 0.0 {
        // p < m · max(p) is score < max(score) + ln m.
        let floor = best + sampling.min_p.ln() * sampling.temperature;
        last = last.min(Key::new(floor, u32::MAX));
    }
    last
}

/// The last of the smallest set of first keys whose weights reach `mass`, at least one.
fn last_within(keys: &mut [Key], weight: impl Fn(&Key) -> f64, mass: f64) -> Key {
    keys.sort_unstable();
    let mut sum = 0.0;
    let crossing = keys.iter().find(|key| {
        sum += weight(key);
        sum >= mass
    });
    crossing.or(keys.last()).copied().unwrap_or(Key::LAST)
}
