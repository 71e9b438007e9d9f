//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), one position a row.

use std::sync::Arc;

use crate::config::{RopeConfig, RopeScaling};
use crate::error::Result;
use crate::kernels::rotary::Turns;
use crate::mlx::{Array, fast, ops, slice};

/// Fewer dimensions than these MLX cannot turn with CUDA for more than [`FEW`] rows at once (0.32.2): it asks
/// for blocks of more threads in one direction than there may be.
const NARROW: i32 = 32;

/// See [`NARROW`].
const FEW: i32 = 64;

/// Rotates pairs (i, i + R/2) of the first R dimensions of each head by an angle that grows with the
/// position.
#[derive(Debug, Clone)]
pub struct Rope {
    /// R.
    rotated: i32,
    /// Pairs are (2i, 2i + 1) instead.
    interleaved: bool,
    /// What positions are multiplied by.
    scale: f32,
    /// What the rotated dimensions are multiplied by.
    stretch: Option<f32>,
    base: Option<f32>,
    periods: Option<Array>,
    /// Of each pair, for the kernels.
    host_periods: Arc<[f32]>,
}

impl Rope {
    /// For heads of `width`; what `config` says of long contexts is worked into the periods.
    pub fn new(width: usize, config: &RopeConfig) -> Self {
        let rotated = (width as f32 * config.partial) as usize / 2 * 2;
        let plain = periods(rotated, config.theta);
        let whole = Self {
            rotated: rotated as i32,
            interleaved: false,
            scale: 1.0,
            stretch: None,
            base: Some(config.theta),
            periods: None,
            host_periods: plain.clone().collect(),
        };
        match config.scaling {
            RopeScaling::None => whole,
            RopeScaling::Linear(factor) => Self {
                scale: 1.0 / factor,
                ..whole
            },
            RopeScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context: context,
            } => whole.with_periods(
                plain.map(|period| llama3_period(period, factor, low, high, context)),
            ),
            RopeScaling::Yarn { stretch, .. } => Self {
                stretch: Some(stretch),
                ..whole.with_periods(yarn_periods(rotated, config))
            },
        }
    }

    /// The same for pairs (2i, 2i + 1).
    #[must_use]
    pub fn interleaved(self) -> Self {
        Self {
            interleaved: true,
            ..self
        }
    }

    /// The same for layers that are told no positions: all are turned by the angle 0, which every kernel knows
    /// how to do, and which changes no bit.
    #[must_use]
    pub fn without_positions(self) -> Self {
        Self {
            scale: 0.0,
            stretch: None,
            ..self
        }
    }

    fn with_periods(self, periods: impl Iterator<Item = f32>) -> Self {
        let periods: Vec<f32> = periods.collect();
        Self {
            base: None,
            periods: Some(Array::from_slice(&periods, &[periods.len() as i32])),
            host_periods: periods.into(),
            ..self
        }
    }

    /// For the kernels.
    pub(super) fn on_host(&self) -> Turns<'_> {
        Turns {
            periods: &self.host_periods,
            scale: self.scale,
            stretch: self.stretch.unwrap_or(1.0),
            interleaved: self.interleaved,
        }
    }

    /// Rotates `x` `[T, H, D]` by `positions` `[T]`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn forward(&self, x: &Array, positions: &Array) -> Result<Array> {
        let &[tokens, heads, width] = x.shape() else {
            return Err(crate::Error::Mlx("rope takes [T, H, D]".to_owned()));
        };
        // MLX takes a position for each entry of the first axis: every row is a batch of its own.
        let rows = x.reshape(&[tokens, heads, 1, width])?;
        let rotate = |rows: Array, positions: &Array| {
            let (base, periods) = (self.base, self.periods.as_ref());
            fast::rope_dynamic(
                rows,
                self.rotated,
                self.interleaved,
                base,
                self.scale,
                positions,
                periods,
            )
        };
        let rotated = if self.rotated < NARROW && tokens > FEW {
            let parts = (0..tokens).step_by(FEW as usize).map(|first| {
                let part = first..tokens.min(first + FEW);
                let positions = slice(positions, 0, part.clone())?;
                Ok(rotate(slice(&rows, 0, part)?, &positions)?)
            });
            ops::concatenate(&parts.collect::<Result<Vec<Array>>>()?, 0)?
        } else {
            rotate(rows, positions)?
        };
        let rotated = rotated.reshape(&[tokens, heads, width])?;
        let Some(stretch) = self.stretch else {
            return Ok(rotated);
        };
        let factors: Vec<f32> = (0..width)
            .map(|i| if i < self.rotated { stretch } else { 1.0 })
            .collect();
        let factors = Array::from_slice(&factors, &[width]).as_dtype(x.dtype())?;
        Ok(rotated.multiply(factors)?)
    }
}

/// Tokens in which pair `i` turns by one radian: `theta^(2i/width)`.
fn periods(width: usize, theta: f32) -> impl Iterator<Item = f32> + Clone {
    (0..width / 2).map(move |i| theta.powf(2.0 * i as f32 / width as f32))
}

/// Llama 3.1's change of one period, after the formula in Meta's `apply_scaling`: wavelengths above
/// `context / low` are stretched by `factor`, those below `context / high` kept, with a linear
/// ramp of frequencies between.
fn llama3_period(period: f32, factor: f32, low: f32, high: f32, context: f32) -> f32 {
    let wavelength = std::f32::consts::TAU * period;
    if wavelength < context / high {
        period
    } else if wavelength > context / low {
        period * factor
    } else {
        let kept = (context / wavelength - low) / (high - low);
        1.0 / ((1.0 - kept) / (period * factor) + kept / period)
    }
}

/// `YaRN`'s periods (Peng et al. 2023, arXiv:2309.00071, section 3.2): a pair that turns more than `fast`
/// times in the original context keeps its period, one that turns less than `slow` times has a longer
/// one, with a linear ramp of frequencies between.
fn yarn_periods(rotated: usize, config: &RopeConfig) -> impl Iterator<Item = f32> {
    let (mut factor, mut first, mut last) = (1.0, 0.0, 0.0);
    if let RopeScaling::Yarn {
        factor: long,
        fast,
        slow,
        original_context,
        whole,
        ..
    } = config.scaling
    {
        let width = rotated as f32;
        // The pair that turns so often.
        let pair = |turns: f32| {
            let turns = (original_context / (turns * std::f32::consts::TAU)).ln();
            width * turns / (2.0 * config.theta.ln())
        };
        let (low, high) = (pair(fast), pair(slow));
        let (low, high) = if whole {
            (low.floor(), high.ceil())
        } else {
            (low, high)
        };
        (factor, first, last) = (long, low.max(0.0), high.min(width - 1.0));
        last = last.max(first + 0.001);
    }
    periods(rotated, config.theta)
        .enumerate()
        .map(move |(i, period)| {
            let long = ((i as f32 - first) / (last - first)).clamp(0.0, 1.0);
            1.0 / (long / (period * factor) + (1.0 - long) / period)
        })
}
