//! What is asked for: the packing of most matrices, choices for roles and names, and the type of the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::recipe::Recipe;
use crate::config::{PackingConfig, PackingMode};
use crate::kernels::matrix::Number;

/// How one tensor is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// As numbers.
    Keep,
    /// With so many bits, in the mode of the rest.
    Bits(usize),
    /// Packed so.
    Packed(PackingConfig),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "keep" {
            return Ok(Self::Keep);
        }
        match text.parse() {
            Ok(bits) if matches!(bits, 2..=6 | 8) => Ok(Self::Bits(bits)),
            Ok(_) => Err("there are 2, 3, 4, 5, 6 and 8 bits".to_owned()),
            Err(_) => match text.parse() {
                Ok(packing) => Ok(Self::Packed(packing)),
                Err(problem) => Err(format!(
                    "neither `keep` nor a number of bits, and {problem}"
                )),
            },
        }
    }
}

/// A choice for all tensors whose names fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// A name without `.weight`, or a part of one between dots; `*` stands for anything.
    pub pattern: String,
    /// How they are stored.
    pub choice: Choice,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, choice) = text
            .split_once('=')
            .ok_or("not PATTERN=CHOICE, such as `layers.0.*=8`")?;
        if pattern.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        Ok(Self {
            pattern: pattern.to_owned(),
            choice: choice.parse()?,
        })
    }
}

impl Override {
    /// Whether a name fits, from any dot in it to its end.
    pub fn fits(&self, name: &str) -> bool {
        let starts = name.match_indices('.').map(|(at, _)| at + 1);
        let mut starts = std::iter::once(0).chain(starts);
        starts.any(|start| fits(self.pattern.as_bytes(), &name.as_bytes()[start..]))
    }
}

/// Whether a pattern in which `*` stands for anything is that of a whole text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&byte) if byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                // The last star takes one more.
                Some((place, taken)) => {
                    *taken += 1;
                    (at, from) = (*place + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// The type of numbers that are not packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DType(pub Number);

impl DType {
    /// As safetensors files name it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Number::Float32 => "F32",
            Number::Float16 => "F16",
            Number::Bfloat16 => "BF16",
        }
    }

    /// That of such a name.
    pub fn of(name: &str) -> Option<Self> {
        let all = [Number::Float32, Number::Float16, Number::Bfloat16].map(Self);
        all.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Number::Float32 => "f32",
            Number::Float16 => "f16",
            Number::Bfloat16 => "bf16",
        })
    }
}

/// Everything that decides what becomes of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeSettings {
    /// How matrices are packed that nothing else is said of.
    pub base: PackingConfig,
    /// The mix.
    pub recipe: Recipe,
    /// For embeddings, and the head that shares their table.
    pub embed: Option<Choice>,
    /// For a head of its own.
    pub head: Option<Choice>,
    /// For experts behind a router.
    pub expert: Option<Choice>,
    /// For names; the last that fits counts.
    pub overrides: Vec<Override>,
    /// The type of numbers that are not packed, and of scales and biases; `None` is that of the source.
    pub dtype: Option<DType>,
    /// By the names of tensors, what a search has found for those that nobody says anything of, and why.
    pub searched: BTreeMap<String, (PackingConfig, String)>,
    /// Of a packed source, codes that MLX can have as they are stay so, and so does what is not packed.
    pub keep_codes: bool,
}

impl QuantizeSettings {
    /// A packing of so many bits that goes with the base.
    pub fn of_bits(&self, bits: usize) -> PackingConfig {
        let (mode, group_size) = match (self.base.mode, bits) {
            (PackingMode::Affine, _) => (PackingMode::Affine, self.base.group_size),
            (mode, 4) => (mode, self.base.group_size),
            (_, 8) => (PackingMode::Mxfp8, 32),
            _ => (PackingMode::Affine, 64),
        };
        PackingConfig {
            mode,
            group_size,
            bits,
        }
    }

    /// What a choice is with this base.
    pub fn resolve(&self, choice: &Choice) -> Option<PackingConfig> {
        match choice {
            Choice::Keep => None,
            Choice::Bits(bits) => Some(self.of_bits(*bits)),
            Choice::Packed(packing) => Some(packing.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_what_they_say_or_are_refused() {
        let parse = |text: &str| text.parse::<Choice>();
        assert_eq!(parse("keep"), Ok(Choice::Keep));
        assert_eq!(parse("6"), Ok(Choice::Bits(6)));
        let packing = "affine3g128".parse().unwrap();
        assert_eq!(parse("affine3g128"), Ok(Choice::Packed(packing)));
        for (text, word) in [
            ("7", "2, 3, 4"),
            ("eight", "keep"),
            ("affine7g64", "affine has no 7 bits"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
        for text in ["lm_head", "=4", "a=5.5"] {
            text.parse::<Override>().unwrap_err();
        }
    }

    #[test]
    fn patterns_fit_from_a_dot_to_the_end() {
        let fits = |pattern: &str, name: &str| {
            let pattern = pattern.to_owned();
            Override {
                pattern,
                choice: Choice::Keep,
            }
            .fits(name)
        };
        let name = "model.layers.10.mlp.down_proj";
        for pattern in [
            "down_proj",
            "mlp.*",
            "layers.10.*",
            "model.*",
            "*",
            "*down*",
            "l*s.*.d*_proj",
            name,
        ] {
            assert!(fits(pattern, name), "{pattern}");
        }
        for pattern in [
            "own_proj",
            "layers.1.*",
            "mlp",
            "down_pro",
            "down_proj.",
            "x*",
        ] {
            assert!(!fits(pattern, name), "{pattern}");
        }
    }
}
