//! Layers of attention: projections, turns, what the kernel knows of how heads attend.

use super::builder::Builder;
use super::instruction::{Region, SPLITS, Word, begun, code, float};
use super::then::Then;
use crate::error::Result;
use crate::mlx::Array;
use crate::ops::attention::Attention;
use crate::ops::linear::Linear;
use crate::ops::norm::RmsNorm;

/// Numbers that a run leaves of a head, beside those of the head's width.
const OF_A_SPLIT: i32 = 4;

impl Builder {
    /// `x + after(output(attention(inputs(norm(x)))))`: the next layer that keeps keys and values. `inputs` are the
    /// projections to queries, keys and values.
    ///
    /// # Errors
    /// What MLX says.
    pub fn attend(
        &mut self,
        norm: &RmsNorm,
        inputs: [&Linear; 3],
        attention: &Attention,
        output: &Linear,
        after: Option<&RmsNorm>,
    ) -> Result<bool> {
        let turns = attention.rope.on_host();
        let epsilons = [&attention.query_norm, &attention.key_norm].map(Option::as_ref);
        let epsilons = epsilons.map(|norm| norm.map(|norm| norm.epsilon));
        let is_known = matches!(attention.width, 64 | 128 | 256)
            && attention.value_width == attention.width
            && !attention.values_in_keys
            && attention.host.is_none()
            && (epsilons[0].is_none() || epsilons[1].is_none() || epsilons[0] == epsilons[1]);
        if !is_known
            || !self.multiply(
                Some(norm),
                &inputs,
                Region::Residual,
                &Then::Store(Region::Projected),
            )?
        {
            return Ok(false);
        }
        let [heads, kv_heads, width] =
            [attention.heads, attention.kv_heads, attention.width].map(|size| size as i32);
        if !self.shaped(width, heads / kv_heads) {
            return Ok(false);
        }
        let mut words = begun(code::ATTEND);
        words[1] = Word::Number(self.facts.layers as i64);
        words[2] = Word::Number(heads.into());
        words[3] = Word::Number(kv_heads.into());
        words[4] = Word::Number(width.into());
        words[5] = self
            .scratch
            .region(Region::Projected, (heads + 2 * kv_heads) * width);
        words[6] = self.scratch.region(Region::Attended, heads * width);
        words[7] = self
            .scratch
            .region(Region::Partial, heads * SPLITS * (width + OF_A_SPLIT));
        for (word, norm) in [(8, &attention.query_norm), (9, &attention.key_norm)] {
            if let Some(norm) = norm {
                let Some(address) = self.vector(&norm.weight)? else {
                    return Ok(false);
                };
                words[word] = address;
            }
        }
        if let Some(sinks) = &attention.sinks {
            let Some(address) = self.vector(sinks)? else {
                return Ok(false);
            };
            words[14] = address;
        }
        words[10] = float(epsilons[0].or(epsilons[1]).unwrap_or(0.0));
        words[11] = float(attention.scale);
        words[12] = self.angles(turns.periods, turns.scale);
        words[13] = Word::Number(2 * turns.periods.len() as i64);
        words[15] = float(turns.stretch);
        words[16] = Word::Number(turns.interleaved.into());
        words[17] = Word::Number(attention.window.unwrap_or(0) as i64);
        self.instructions.push(words);
        self.makes(Region::Attended);
        let mut combined = begun(code::COMBINE);
        for word in [2, 4, 6, 7, 14] {
            combined[word] = words[word];
        }
        self.instructions.push(combined);
        self.makes(Region::Attended);
        self.facts.layers += 1;
        self.facts.kv_heads = self.facts.kv_heads.max(kv_heads);
        self.lead_back(output, Region::Attended, after)
    }

    /// Whether heads of such a shape go with those before.
    fn shaped(&mut self, width: i32, ratio: i32) -> bool {
        let constants = &mut self.facts.constants;
        if self.facts.layers == 0 {
            (constants.width, constants.ratio) = (width, ratio);
        }
        (constants.width, constants.ratio) == (width, ratio)
    }

    /// Where the angles of a rotation are, which are computed once in a step.
    fn angles(&mut self, periods: &[f32], scale: f32) -> Word {
        let mut known = self.turns.iter();
        if let Some((.., place)) =
            known.find(|(known, by, _)| known == periods && by.to_bits() == scale.to_bits())
        {
            return *place;
        }
        let half = periods.len() as i32;
        let place = self.scratch.behind(Region::Angles, 2 * half);
        let mut words = begun(code::ANGLES);
        words[1] = Word::Number((2 * half).into());
        words[2] = self.address(&Array::from_slice(periods, &[half]));
        words[3] = float(scale);
        words[4] = place;
        self.angles.push(words);
        self.turns.push((periods.to_vec(), scale, place));
        place
    }
}
