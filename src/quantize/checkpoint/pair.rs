//! Tensors with those that hold their scales: 8-bit floats in squares, and the packed formats of compressed-tensors
//! and `ModelOpt` that are read. Others are refused by name.

use std::collections::BTreeMap;

use super::super::settings::DType;
use super::super::source::{Encoding, SourceTensor};
use super::refused;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::weights::StoredTensor;

/// Names that belong to packed matrices of tools whose formats are not read, and whose they are.
const PACKED: [(&str, &str); 5] = [
    (".scales", "mlx-lm"),
    ("_blocks", "gpt-oss"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight.absmax", "bitsandbytes"),
];

/// What follows the name of a weight whose squares have factors.
const FACTORS: [&str; 2] = ["_scale_inv", "_scale"];

/// What scales activations or the cache, and what follows from the shapes: it belongs to the format that is left.
const LEFT: [&str; 9] = [
    ".weight_scale_inv",
    ".weight_scale",
    ".weight_shape",
    ".input_scale",
    ".input_global_scale",
    ".activation_scale",
    ".k_scale",
    ".v_scale",
    ".q_scale",
];

/// The only side of a square that there is.
const SIDE: usize = 128;

/// Numbers that share a scale in nvfp4.
const NVFP4: usize = 16;

/// What is not needed, and why.
type Dropped = Vec<(String, String)>;

type Stored = BTreeMap<String, StoredTensor>;

/// Pairs tensors with their scales; and what is not needed, and why.
///
/// # Errors
/// [`Error::Quantize`] where the checkpoint is packed in a format that is not read; [`Error::Weights`] where scales are
/// missing or do not fit.
pub(super) fn pair(
    stored: Vec<StoredTensor>,
    config: &Config,
) -> Result<(BTreeMap<String, SourceTensor>, Dropped)> {
    for tensor in &stored {
        let packed = PACKED.iter().find(|(end, _)| tensor.name.ends_with(end));
        if let Some((_, whose)) = packed {
            return Err(Error::Quantize {
                what: tensor.path.display().to_string(),
                problem: format!(
                    "it is packed already ({} is a part of {whose}'s format), and packing it again would lose more: take the checkpoint that it was made from",
                    tensor.name
                ),
            });
        }
    }
    let mut all: Stored = stored
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let mut names: Vec<String> = all.keys().cloned().collect();
    // Before the parts that belong to it.
    names.sort_by_key(|name| !name.ends_with(".weight_packed"));
    let mut paired = BTreeMap::new();
    for name in names {
        // Scales leave with their weight.
        let Some(found) = all.get(&name) else {
            continue;
        };
        let prefix = name.strip_suffix(".weight").unwrap_or(&name);
        let is_of_modelopt =
            found.dtype == "U8" && all.contains_key(&format!("{prefix}.weight_scale_2"));
        let is_eight = found.dtype == "F8_E4M3";
        let Some(mut stored) = all.remove(&name) else {
            continue;
        };
        let encoding = if let Some(prefix) = name.strip_suffix(".weight_packed") {
            stored.name = format!("{prefix}.weight");
            if stored.dtype == "U8" {
                nvfp4(&mut stored, prefix, "weight_global_scale", &mut all)?
            } else {
                integers(&mut stored, prefix, &mut all)?
            }
        } else if is_of_modelopt {
            nvfp4(&mut stored, prefix, "weight_scale_2", &mut all)?
        } else if is_eight {
            let mut ends = FACTORS.iter();
            let scales = ends.find_map(|end| all.remove(&format!("{name}{end}")));
            blocks(&stored, scales, config)?
        } else {
            DType::of(&stored.dtype).map_or(Encoding::Other, Encoding::Numbers)
        };
        paired.insert(stored.name.clone(), SourceTensor::new(stored, encoding));
    }
    let is_left = |name: &str| LEFT.iter().any(|end| name.ends_with(end));
    let left: Vec<String> = paired
        .keys()
        .filter(|name| is_left(name))
        .cloned()
        .collect();
    paired.retain(|name, _| !is_left(name));
    let reason = "it belongs to the format of the source";
    Ok((
        paired,
        left.into_iter()
            .map(|name| (name, reason.to_owned()))
            .collect(),
    ))
}

fn blocks(
    stored: &StoredTensor,
    scales: Option<StoredTensor>,
    config: &Config,
) -> Result<Encoding> {
    let refuse = |problem: String| refused(stored, &format!("is of 8-bit floats, and {problem}"));
    let side = config.fp8_block()?.ok_or_else(|| {
        refuse("config.json does not say in which squares (`weight_block_size`)".to_owned())
    })?;
    if side != [SIDE, SIDE] {
        return Err(refuse(format!(
            "squares of {side:?} are not supported, only 128 by 128"
        )));
    }
    let scales = scales.ok_or_else(|| refuse("its factors are missing".to_owned()))?;
    let wanted: Option<Vec<usize>> = match *stored.shape {
        [rows, columns] => Some(vec![rows.div_ceil(SIDE), columns.div_ceil(SIDE)]),
        _ => None,
    };
    let known = DType::of(&scales.dtype).is_some();
    if wanted.as_ref() != Some(&scales.shape) || !known {
        return Err(refuse(format!(
            "its factors {:?} of type {} do not fit its shape {:?}",
            scales.shape, scales.dtype, stored.shape
        )));
    }
    Ok(Encoding::Blocks { scales, side: SIDE })
}

/// A part of a packed matrix that must be there.
fn part(stored: &StoredTensor, prefix: &str, end: &str, all: &mut Stored) -> Result<StoredTensor> {
    let found = all.remove(&format!("{prefix}.{end}"));
    found.ok_or_else(|| refused(stored, &format!("is packed, and {prefix}.{end} is missing")))
}

/// 4-bit floats; compressed-tensors has the inverse of the factor that all of them share.
fn nvfp4(
    stored: &mut StoredTensor,
    prefix: &str,
    global: &str,
    all: &mut Stored,
) -> Result<Encoding> {
    let scales = part(stored, prefix, "weight_scale", all)?;
    let factor = part(stored, prefix, global, all)?;
    let bytes = factor.bytes[factor.range.clone()].try_into();
    let factor = bytes
        .ok()
        .filter(|_| factor.dtype == "F32")
        .map(f32::from_le_bytes)
        .map(|number| {
            if global == "weight_global_scale" {
                1.0 / number
            } else {
                number
            }
        })
        .filter(|factor| factor.is_finite() && *factor > 0.0)
        .ok_or_else(|| refused(&factor, "is not one number above 0 in float32"))?;
    let wanted = match *stored.shape {
        [rows, bytes] if (2 * bytes).is_multiple_of(NVFP4) => Some([rows, 2 * bytes / NVFP4]),
        _ => None,
    };
    let Some([rows, groups]) =
        wanted.filter(|wanted| scales.shape == wanted && scales.dtype == "F8_E4M3")
    else {
        return Err(refused(
            &scales,
            &format!(
                "has shape {:?} and type {}, which are not those of scales for {} of shape {:?}",
                scales.shape, scales.dtype, stored.name, stored.shape
            ),
        ));
    };
    stored.shape = vec![rows, groups * NVFP4];
    Ok(Encoding::Nvfp4 { scales, factor })
}

/// Integers of 4 or 8 bits around zero, with a scale for each group of a row or for all of it.
fn integers(stored: &mut StoredTensor, prefix: &str, all: &mut Stored) -> Result<Encoding> {
    for (end, what) in [
        ("weight_zero_point", "integers that are not around zero"),
        ("weight_g_idx", "groups of columns that lie apart"),
    ] {
        if all.contains_key(&format!("{prefix}.{end}")) {
            return Err(Error::Quantize {
                what: stored.path.display().to_string(),
                problem: format!(
                    "{prefix} is packed by compressed-tensors with {what} ({end}), which are not read: take the checkpoint that it was made from"
                ),
            });
        }
    }
    let scales = part(stored, prefix, "weight_scale", all)?;
    let shape = part(stored, prefix, "weight_shape", all)?;
    let (sizes, _) = shape.bytes[shape.range.clone()].as_chunks::<8>();
    let sizes: Vec<usize> = sizes
        .iter()
        .map(|size| i64::from_le_bytes(*size) as usize)
        .collect();
    let found = match (
        sizes.as_slice(),
        stored.shape.as_slice(),
        scales.shape.as_slice(),
    ) {
        (&[rows, columns], &[own, words], &[others, groups])
            if shape.dtype == "I64"
                && stored.dtype == "I32"
                && rows == own
                && rows == others
                && groups > 0
                && columns > 0
                && columns.is_multiple_of(groups) =>
        {
            let bits = [4, 8]
                .into_iter()
                .find(|bits| columns.checked_mul(*bits) == Some(32 * words));
            let group = [128, 64, 32]
                .into_iter()
                .find(|group| (columns / groups).is_multiple_of(*group));
            Some((columns, bits, group))
        }
        _ => None,
    };
    let number = DType::of(&scales.dtype);
    let (Some((columns, Some(bits), Some(group))), Some(number)) = (found, number) else {
        return Err(refused(
            stored,
            &format!(
                "has shape {:?} and type {}, of {sizes:?} numbers with scales {:?} of type {}: integers of 4 and 8 bits in groups of a multiple of 32 are read",
                stored.shape, stored.dtype, scales.shape, scales.dtype
            ),
        ));
    };
    stored.shape = vec![stored.shape[0], columns];
    Ok(Encoding::Integers {
        scales,
        bits,
        group,
        number: number.0,
    })
}
