//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), one position a row.

use std::sync::Arc;

use crate::config::{RopeConfig, RopeScaling};
use crate::error::Result;
use crate::mlx::{Array, fast};

/// Rotates pairs (i, i + D/2) of each head by an angle that grows with the position.
#[derive(Debug, Clone)]
pub struct Rope {
    width: i32,
    scale: f32,
    base: Option<f32>,
    periods: Option<Array>,
    /// Of each pair, for the kernels.
    host_periods: Arc<[f32]>,
}

impl Rope {
    /// For heads of `width`; what `config` says of long contexts is worked into the periods.
    pub fn new(width: usize, config: &RopeConfig) -> Self {
        let whole = Self {
            width: width as i32,
            scale: 1.0,
            base: Some(config.theta),
            periods: None,
            host_periods: periods(width, config.theta).collect(),
        };
        match config.scaling {
            RopeScaling::None => whole,
            RopeScaling::Linear(factor) => Self {
                scale: 1.0 / factor,
                ..whole
            },
            RopeScaling::Llama3 {
                factor,
                low_frequency_factor,
                high_frequency_factor,
                original_context,
            } => {
                let periods: Vec<f32> = periods(width, config.theta)
                    .map(|period| {
                        let (low, high) = (low_frequency_factor, high_frequency_factor);
                        llama3_period(period, factor, low, high, original_context)
                    })
                    .collect();
                Self {
                    base: None,
                    periods: Some(Array::from_slice(&periods, &[periods.len() as i32])),
                    host_periods: periods.into(),
                    ..whole
                }
            }
        }
    }

    /// Tokens in which each pair turns by one radian, `[width/2]`.
    pub fn host_periods(&self) -> &[f32] {
        &self.host_periods
    }

    /// What positions are multiplied by.
    pub fn position_scale(&self) -> f32 {
        self.scale
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
        let (base, periods) = (self.base, self.periods.as_ref());
        let rotated = fast::rope_dynamic(
            rows, self.width, false, base, self.scale, positions, periods,
        )?;
        Ok(rotated.reshape(&[tokens, heads, width])?)
    }
}

/// Tokens in which pair `i` turns by one radian: `theta^(2i/width)`.
fn periods(width: usize, theta: f32) -> impl Iterator<Item = f32> {
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
