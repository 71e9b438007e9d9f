//! Named mixes: which role gets which packing, in which layers. Knows no tensors.

use std::fmt;
use std::str::FromStr;

use super::settings::QuantizeSettings;
use crate::config::{PackingConfig, PackingMode};
use crate::models::roles::{Role, Side};

/// A mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// Ours: what a few wrong numbers ruin is kept, and the base for all other matrices, with scales that leave the
    /// least squares.
    Default,
    /// The same, and more bits for values, downward projections (of some layers), embeddings and the head.
    MoreBits,
    /// What mlx-lm does without a recipe: the base for all matrices, 8 bits for routers.
    MlxLm,
    /// mlx-lm's mixes in affine mode: bits of most matrices, and of values, downward projections and the head.
    Mixed(usize, usize),
    /// What Ollama does when it imports.
    Ollama,
}

/// Each mix under its name.
const NAMES: [(&str, Recipe); 8] = [
    ("default", Recipe::Default),
    ("more-bits", Recipe::MoreBits),
    ("mlx-lm", Recipe::MlxLm),
    ("ollama", Recipe::Ollama),
    ("mixed_2_6", Recipe::Mixed(2, 6)),
    ("mixed_3_4", Recipe::Mixed(3, 4)),
    ("mixed_3_6", Recipe::Mixed(3, 6)),
    ("mixed_4_6", Recipe::Mixed(4, 6)),
];

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, recipe)| recipe == self);
        f.write_str(name.map_or("mixed", |(name, _)| name))
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, recipe)| *recipe).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name);
            format!("not one of {}", names.join(", "))
        })
    }
}

/// The tensor that is to be decided on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) role: Role,
    pub(super) layer: Option<usize>,
    pub(super) layers: usize,
    /// Numbers in it.
    pub(super) numbers: usize,
}

/// Tensors that are smaller are not worth packing (Ollama's bound).
const SMALLEST: usize = 1024;

/// Whether a layer is one of those that get more bits: the first and the last eighth, and every third between
/// (llama.cpp's `use_more_bits`).
pub(super) fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Matrices that a tensor of this role may be: others are never packed.
pub(super) fn is_matrix(role: Role) -> bool {
    !matches!(
        role,
        Role::Convolution | Role::Norm | Role::Bias | Role::Constant | Role::Unknown
    )
}

impl Recipe {
    /// Whether it makes what `mlx_lm.convert` makes, bit for bit.
    pub(super) fn is_of_mlx_lm(self) -> bool {
        matches!(self, Self::MlxLm | Self::Mixed(..))
    }

    /// Whether scales are those that leave the least squares, and not MLX's, below 8 bits.
    pub(super) fn fits_scales(self) -> bool {
        matches!(self, Self::Default | Self::MoreBits)
    }

    /// How a matrix is packed, and why.
    pub(super) fn choose(
        self,
        subject: Subject,
        settings: &QuantizeSettings,
    ) -> (Option<PackingConfig>, &'static str) {
        let more = more_bits(subject.layer.unwrap_or(0), subject.layers);
        let base = || Some(settings.base.clone());
        match self {
            Self::Default => match kept(subject.role) {
                Some(reason) => (None, reason),
                None => (base(), "base"),
            },
            Self::MoreBits => match (kept(subject.role), subject.role) {
                (Some(reason), _) => (None, reason),
                (_, Role::Embedding | Role::Head) => {
                    (Some(raised(settings)), "every token goes through it")
                }
                (_, role) if more && (role == Role::Value || is_down(role)) => {
                    (Some(raised(settings)), "more bits in this layer")
                }
                _ => (base(), "base"),
            },
            Self::MlxLm if subject.role == Role::Router => {
                let packing = PackingConfig {
                    mode: PackingMode::Affine,
                    group_size: 64,
                    bits: 8,
                };
                (Some(packing), "mlx-lm gives routers 8 bits")
            }
            Self::MlxLm => (base(), "base"),
            Self::Mixed(low, high) => {
                let down = subject.role == Role::Value || is_down(subject.role);
                if subject.role == Role::Head {
                    (Some(settings.of_bits(high)), "more bits for the head")
                } else if down && more {
                    (Some(settings.of_bits(high)), "more bits in this layer")
                } else {
                    (Some(settings.of_bits(low)), "base of the mix")
                }
            }
            Self::Ollama => Self::ollama(subject, settings),
        }
    }

    /// The policy of Ollama's import, first match wins.
    fn ollama(
        subject: Subject,
        settings: &QuantizeSettings,
    ) -> (Option<PackingConfig>, &'static str) {
        let eight = || Some(settings.of_bits(8));
        let affine = settings.base.mode == PackingMode::Affine;
        match subject.role {
            Role::Embedding => (None, "Ollama keeps embeddings"),
            Role::Router | Role::DeltaDecay => (None, "Ollama keeps it"),
            _ if subject.numbers < SMALLEST => (None, "small"),
            Role::Head => (eight(), "8 bits for the head"),
            Role::RoutedExpert(Side::Down) if !affine => {
                (Some(settings.base.clone()), "experts of one mode")
            }
            Role::Key | Role::Value => (eight(), "8 bits for keys and values"),
            role if is_down(role) => (eight(), "8 bits for the way down"),
            _ => (Some(settings.base.clone()), "base"),
        }
    }
}

/// Why a matrix of this role is never packed by ours.
fn kept(role: Role) -> Option<&'static str> {
    match role {
        Role::Router => Some("a wrong choice of experts costs more than its bytes"),
        Role::Latent => Some("all heads read what it makes: packed, it ruins models"),
        Role::DeltaDecay => Some("errors of decays add up along the sequence"),
        _ => None,
    }
}

fn is_down(role: Role) -> bool {
    matches!(
        role,
        Role::Mlp(Side::Down) | Role::SharedExpert(Side::Down) | Role::RoutedExpert(Side::Down)
    )
}

/// The base with the next number of bits that is worth it.
fn raised(settings: &QuantizeSettings) -> PackingConfig {
    let bits = match settings.base.bits {
        2 | 3 => settings.base.bits + 1,
        4 if settings.base.mode == PackingMode::Affine => 6,
        _ => 8,
    };
    settings.of_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_has_a_name_that_leads_back_to_it() {
        for (name, recipe) in NAMES {
            assert_eq!(name.parse(), Ok(recipe));
            assert_eq!(recipe.to_string(), name);
        }
        assert!(
            "mixed_9_9"
                .parse::<Recipe>()
                .unwrap_err()
                .contains("mixed_2_6")
        );
    }

    #[test]
    fn more_bits_go_to_the_ends_and_every_third() {
        let chosen: Vec<usize> = (0..24).filter(|&layer| more_bits(layer, 24)).collect();
        assert_eq!(chosen, [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]);
        let few: Vec<usize> = (0..2).filter(|&layer| more_bits(layer, 2)).collect();
        assert_eq!(few, [1]);
    }
}
