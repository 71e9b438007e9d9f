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

/// How one matrix is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackingConfig {
    /// "affine", "mxfp4", "mxfp8" or "nvfp4".
    pub mode: String,
    /// Weights that share a scale.
    pub group_size: usize,
    /// Bits of one weight.
    pub bits: usize,
}

impl PackingConfig {
    /// A mode with so many bits in groups of so many; what is not said is what mlx-lm takes.
    ///
    /// # Errors
    /// One sentence where MLX has no such mode or sizes.
    pub fn new(mode: &str, bits: Option<usize>, group_size: Option<usize>) -> Result<Self, String> {
        let (default_bits, default_group) = match mode {
            "mxfp4" => (4, 32),
            "mxfp8" => (8, 32),
            "nvfp4" => (4, 16),
            _ => (4, 64),
        };
        let packing = Self {
            mode: mode.to_owned(),
            group_size: group_size.unwrap_or(default_group),
            bits: bits.unwrap_or(default_bits),
        };
        packing.check().map(|()| packing)
    }

    /// Whether MLX has this mode in these sizes.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self {
            mode,
            group_size,
            bits,
        } = self;
        let known = match mode.as_str() {
            "affine" => matches!(bits, 2..=6 | 8) && matches!(group_size, 32 | 64 | 128),
            "mxfp4" => (*bits, *group_size) == (4, 32),
            "mxfp8" => (*bits, *group_size) == (8, 32),
            "nvfp4" => (*bits, *group_size) == (4, 16),
            _ => return Err(format!("mode `{mode}` is not supported")),
        };
        if known {
            return Ok(());
        }
        Err(format!(
            "{mode} has no {bits} bits in groups of {group_size}"
        ))
    }
}

/// `affine4g64`, `mxfp4`, `mxfp8` or `nvfp4`.
impl fmt::Display for PackingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode.as_str() {
            "affine" => write!(f, "affine{}g{}", self.bits, self.group_size),
            mode => f.write_str(mode),
        }
    }
}

impl FromStr for PackingConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mode, bits, group_size) = match text {
            "mxfp4" => ("mxfp4", 4, 32),
            "mxfp8" => ("mxfp8", 8, 32),
            "nvfp4" => ("nvfp4", 4, 16),
            _ => {
                let sizes = text.strip_prefix("affine");
                let (bits, group) = sizes
                    .and_then(|sizes| sizes.split_once('g'))
                    .and_then(|(bits, group)| Some((bits.parse().ok()?, group.parse().ok()?)))
                    .ok_or("not affine<BITS>g<GROUP>, mxfp4, mxfp8 or nvfp4")?;
                ("affine", bits, group)
            }
        };
        let packing = Self {
            mode: mode.to_owned(),
            group_size,
            bits,
        };
        packing.check().map(|()| packing)
    }
}

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
