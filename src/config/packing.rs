//! How matrices are packed, as `config.json` and people say it. Knows no tensors.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// How the checkpoint's matrices are packed: mlx-lm's `quantization` field.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    default: PackingConfig,
    /// By tensor prefix; `None` is a layer that is not packed.
    overrides: HashMap<String, Option<PackingConfig>>,
}

/// What the codes of a packed matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackingMode {
    /// Integers with a scale and a bias a group.
    Affine,
    /// 4-bit floats (E2M1) with a power of two a group (OCP MX).
    Mxfp4,
    /// 8-bit floats (E4M3) with a power of two a group (OCP MX).
    Mxfp8,
    /// 4-bit floats (E2M1) with an 8-bit float (E4M3) a group.
    Nvfp4,
}

impl PackingMode {
    /// As files and people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
        }
    }
}

impl fmt::Display for PackingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PackingMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Affine, Self::Mxfp4, Self::Mxfp8, Self::Nvfp4];
        let found = all.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("mode `{text}` is not supported"))
    }
}

/// How one matrix is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackingConfig {
    /// What its codes are.
    pub mode: PackingMode,
    /// Weights that share a scale.
    pub group_size: usize,
    /// Bits of one weight.
    pub bits: usize,
}

impl PackingConfig {
    /// A mode with so many bits in groups of so many; what is not said is what mlx-lm takes.
    ///
    /// # Errors
    /// One sentence where MLX has no such sizes.
    pub fn new(
        mode: PackingMode,
        bits: Option<usize>,
        group_size: Option<usize>,
    ) -> Result<Self, String> {
        let (default_bits, default_group) = match mode {
            PackingMode::Affine => (4, 64),
            PackingMode::Mxfp4 => (4, 32),
            PackingMode::Mxfp8 => (8, 32),
            PackingMode::Nvfp4 => (4, 16),
        };
        let packing = Self {
            mode,
            group_size: group_size.unwrap_or(default_group),
            bits: bits.unwrap_or(default_bits),
        };
        let Self {
            group_size, bits, ..
        } = packing;
        let is_known = match mode {
            PackingMode::Affine => matches!(bits, 2..=6 | 8) && matches!(group_size, 32 | 64 | 128),
            _ => (bits, group_size) == (default_bits, default_group),
        };
        if is_known {
            return Ok(packing);
        }
        Err(format!(
            "{mode} has no {bits} bits in groups of {group_size}"
        ))
    }
}

/// `affine4g64`, `mxfp4`, `mxfp8` or `nvfp4`.
impl fmt::Display for PackingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            PackingMode::Affine => write!(f, "affine{}g{}", self.bits, self.group_size),
            mode => mode.fmt(f),
        }
    }
}

impl FromStr for PackingConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(sizes) = text.strip_prefix("affine") {
            let sizes = sizes
                .split_once('g')
                .and_then(|(bits, group)| Some((bits.parse().ok()?, group.parse().ok()?)));
            let (bits, group) = sizes.ok_or(FORMS)?;
            return Self::new(PackingMode::Affine, Some(bits), Some(group));
        }
        let mode = text.parse().map_err(|_: String| FORMS)?;
        Self::new(mode, None, None)
    }
}

/// What a packing is not when it cannot be read.
const FORMS: &str = "not affine<BITS>g<GROUP>, mxfp4, mxfp8 or nvfp4";

impl Quantization {
    /// Packed like `default` but for the `overrides`, by tensor prefix; `None` is not packed.
    pub(super) fn new(
        default: PackingConfig,
        overrides: HashMap<String, Option<PackingConfig>>,
    ) -> Self {
        Self { default, overrides }
    }

    /// How matrices are packed that nothing else is said of.
    pub fn default_packing(&self) -> &PackingConfig {
        &self.default
    }

    /// How the matrix of this prefix is packed, if it is.
    pub fn of(&self, prefix: &str) -> Option<&PackingConfig> {
        match self.overrides.get(prefix) {
            Some(packing) => packing.as_ref(),
            None => Some(&self.default),
        }
    }
}
