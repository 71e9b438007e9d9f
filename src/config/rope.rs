//! Rotary position embedding in `config.json`: `rope_parameters`, or `rope_theta` beside `rope_scaling`.

use serde_json::{Map, Value};

use super::Config;
use crate::error::Result;

/// Rotary position embedding of a kind of layers.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of periods.
    pub theta: f32,
    /// The share of a head's width that is turned, its first dimensions.
    pub partial: f32,
    /// How the periods are changed for long contexts.
    pub scaling: RopeScaling,
}

/// How rotary periods are changed for contexts longer than those of the first training.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by this.
    Linear(f32),
    /// Llama 3.1: long periods are multiplied, short ones kept, a ramp between.
    Llama3 {
        /// What long periods are multiplied with.
        factor: f32,
        /// Periods above `original_context / low_frequency_factor` are long.
        low_frequency_factor: f32,
        /// Periods below `original_context / high_frequency_factor` are short.
        high_frequency_factor: f32,
        /// Context of the first training, in tokens.
        original_context: f32,
    },
    /// `YaRN` (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        /// What long periods are multiplied with.
        factor: f32,
        /// Pairs that turn more often in `original_context` keep their periods.
        fast: f32,
        /// Pairs that turn less often have long periods.
        slow: f32,
        /// Context of the first training, in tokens.
        original_context: f32,
        /// The ramp between them begins and ends at whole pairs.
        whole: bool,
        /// What turned queries and keys are multiplied by.
        stretch: f32,
    },
}

impl Config {
    /// Rotary embedding in either form.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field; a type that is not known is refused by name.
    pub fn rope(&self, default_theta: f32) -> Result<RopeConfig> {
        self.rope_of("full_attention", default_theta)
    }

    /// The same where layers of several types have parameters of their own, by the layers' type.
    ///
    /// # Errors
    /// As [`Self::rope`].
    pub fn rope_of(&self, layers: &str, default_theta: f32) -> Result<RopeConfig> {
        let (name, parameters) = match self.object("rope_parameters")? {
            Some(parameters) => ("rope_parameters", Some(parameters)),
            None => ("rope_scaling", self.object("rope_scaling")?),
        };
        let parameters = match parameters.and_then(|parameters| parameters.get(layers)) {
            Some(Value::Object(of_these)) => Some(of_these),
            _ => parameters,
        };
        let empty = Map::new();
        self.rope_from(name, parameters.unwrap_or(&empty), default_theta)
    }

    /// Whether layers of this type have parameters of their own.
    pub fn has_rope_of(&self, layers: &str) -> bool {
        let parameters = self.fields.get("rope_parameters");
        parameters.is_some_and(|parameters| parameters.get(layers).is_some_and(Value::is_object))
    }

    /// Rotary embedding with a base of its own, and without a change for long contexts.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field.
    pub fn plain_rope(&self, field: &str, default_theta: f32) -> Result<RopeConfig> {
        Ok(RopeConfig {
            theta: self.number_or(field, default_theta)?,
            partial: 1.0,
            scaling: RopeScaling::None,
        })
    }

    /// What scores are multiplied by for long contexts, by models that give `mscale_all_dim`: the square of
    /// what `YaRN` multiplies queries and keys by.
    ///
    /// # Errors
    /// As [`Self::rope`].
    pub fn score_stretch(&self) -> Result<f32> {
        let parameters = match self.object("rope_parameters")? {
            Some(parameters) => Some(parameters),
            None => self.object("rope_scaling")?,
        };
        let Some(parameters) = parameters else {
            return Ok(1.0);
        };
        let number = |field: &str| self.number_in(parameters, field);
        let kind = parameters
            .get("rope_type")
            .or_else(|| parameters.get("type"));
        match (number("mscale_all_dim")?, number("factor")?) {
            (Some(scale), Some(factor)) if kind.is_some_and(|kind| kind != "default") => {
                Ok(stretch(factor, scale).powi(2))
            }
            _ => Ok(1.0),
        }
    }

    fn rope_from(
        &self,
        name: &str,
        parameters: &Map<String, Value>,
        default_theta: f32,
    ) -> Result<RopeConfig> {
        let inner = |field: &str| self.number_in(parameters, field);
        let either = |field: &str, default: f32| match inner(field)? {
            Some(number) => Ok(number),
            None => self.number_or(field, default),
        };
        let theta = either("rope_theta", default_theta)?;
        let partial = either("partial_rotary_factor", 1.0)?;
        if theta <= 0.0 {
            return Err(self.problem(format!("`rope_theta` is {theta}, not above 0")));
        }
        if !(0.0..=1.0).contains(&partial) || partial == 0.0 {
            return Err(self.problem(format!(
                "`partial_rotary_factor` is {partial}, which is no share of a head"
            )));
        }
        let above_zero = |field: &str, number: Option<f32>| {
            number
                .filter(|number| *number > 0.0)
                .ok_or_else(|| self.problem(format!("`{name}.{field}` is missing or not above 0")))
        };
        let number = |field: &str| above_zero(field, inner(field)?);
        let kind = parameters
            .get("rope_type")
            .or_else(|| parameters.get("type"));
        let scaling = match kind.map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(number("factor")?),
            Some("llama3") => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_frequency_factor: number("low_freq_factor")?,
                high_frequency_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            },
            Some("yarn") => {
                let or = |field: &str, default: f32| {
                    above_zero(field, Some(inner(field)?.unwrap_or(default)))
                };
                let factor = number("factor")?;
                let context = match inner("original_max_position_embeddings")? {
                    Some(context) => Some(context),
                    None => self
                        .optional_size("max_position_embeddings")?
                        .map(|size| size as f32),
                };
                let scales = [inner("mscale")?, inner("mscale_all_dim")?];
                RopeScaling::Yarn {
                    factor,
                    fast: or("beta_fast", 32.0)?,
                    slow: or("beta_slow", 1.0)?,
                    original_context: above_zero("original_max_position_embeddings", context)?,
                    whole: parameters
                        .get("truncate")
                        .and_then(Value::as_bool)
                        .unwrap_or(true),
                    stretch: match inner("attention_factor")? {
                        Some(stretch) => stretch,
                        None => yarn_stretch(factor, scales),
                    },
                }
            }
            Some(other) => {
                return Err(self.problem(format!(
                    "`{name}.rope_type` is `{other}`, which is not supported"
                )));
            }
        };
        Ok(RopeConfig {
            theta,
            partial,
            scaling,
        })
    }
}

/// What `YaRN` multiplies queries and keys by: `0.1 ln(factor) + 1` (its equation 22), or the quotient of
/// two such numbers where a checkpoint gives a coefficient for each.
fn yarn_stretch(factor: f32, scales: [Option<f32>; 2]) -> f32 {
    match scales {
        [Some(over), Some(under)] if over != 0.0 && under != 0.0 => {
            stretch(factor, over) / stretch(factor, under)
        }
        _ => stretch(factor, 1.0),
    }
}

fn stretch(factor: f32, scale: f32) -> f32 {
    if factor > 1.0 {
        0.1 * scale * factor.ln() + 1.0
    } else {
        1.0
    }
}
