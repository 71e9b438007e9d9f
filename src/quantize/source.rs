//! The tensors of the checkpoint that is read, and the numbers in them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::settings::DType;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernels::matrix::Number;
use crate::kernels::pool;
use crate::kernels::quantize::decode_blocks;
use crate::weights::StoredTensor;

/// One tensor of the source, its numbers in a type that can be packed.
#[derive(Debug)]
pub(super) struct SourceTensor {
    pub(super) stored: StoredTensor,
    pub(super) encoding: Encoding,
}

/// How numbers lie in a tensor.
#[derive(Debug)]
pub(super) enum Encoding {
    /// As they are.
    Numbers(DType),
    /// 8-bit floats (E4M3) with a factor for each square, in another tensor; they become bfloat16.
    Blocks { scales: StoredTensor, side: usize },
    /// Something else, which is copied.
    Other,
}

/// Names that belong to packed matrices of other tools and of mlx-lm, and whose they are.
const PACKED: [(&str, &str); 7] = [
    (".scales", "mlx-lm"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_2", "ModelOpt"),
    ("_blocks", "gpt-oss"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight.absmax", "bitsandbytes"),
];

/// What follows the name of a weight whose squares have factors.
const FACTORS: [&str; 2] = ["_scale_inv", "_scale"];

/// The only side of a square that there is.
const SIDE: usize = 128;

/// Pairs tensors with their factors.
///
/// # Errors
/// [`Error::Quantize`] where the checkpoint is packed already; [`Error::Weights`] where factors are missing.
pub(super) fn pair(
    stored: Vec<StoredTensor>,
    config: &Config,
) -> Result<BTreeMap<String, SourceTensor>> {
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
    let mut all: BTreeMap<String, StoredTensor> = stored
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let names: Vec<String> = all.keys().cloned().collect();
    let mut paired = BTreeMap::new();
    for name in names {
        // Factors leave with their weight.
        let is_eight = all
            .get(&name)
            .is_some_and(|tensor| tensor.dtype == "F8_E4M3");
        let factors = is_eight.then(|| {
            FACTORS
                .iter()
                .find_map(|end| all.remove(&format!("{name}{end}")))
        });
        let Some(stored) = all.remove(&name) else {
            continue;
        };
        let encoding = match factors {
            None => DType::of(&stored.dtype).map_or(Encoding::Other, Encoding::Numbers),
            Some(scales) => blocks(&stored, scales, config)?,
        };
        paired.insert(name, SourceTensor { stored, encoding });
    }
    // What scales activations belongs to the format that is left behind.
    paired.retain(|name, _| {
        !FACTORS
            .iter()
            .any(|end| name.ends_with(&format!(".weight{end}")))
    });
    Ok(paired)
}

fn blocks(
    stored: &StoredTensor,
    scales: Option<StoredTensor>,
    config: &Config,
) -> Result<Encoding> {
    let refuse = |problem: String| Error::Weights {
        path: stored.path.clone(),
        problem: format!("tensor {} is of 8-bit floats, and {problem}", stored.name),
    };
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

impl SourceTensor {
    /// The type of its numbers when they are read.
    pub(super) fn dtype(&self) -> Option<DType> {
        match &self.encoding {
            Encoding::Numbers(dtype) => Some(*dtype),
            Encoding::Blocks { .. } => Some(DType(Number::Bfloat16)),
            Encoding::Other => None,
        }
    }

    /// Its bytes in the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.stored.bytes[self.stored.range.clone()]
    }

    /// Some rows of its last dimension as numbers of [`Self::dtype`], or bytes as they are.
    pub(super) fn rows(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let all: usize = self.stored.shape.iter().rev().skip(1).product();
        let bytes = self.bytes();
        let row = bytes.len() / all.max(1);
        match &self.encoding {
            Encoding::Numbers(_) | Encoding::Other => {
                Cow::Borrowed(&bytes[rows.start * row..rows.end * row])
            }
            Encoding::Blocks { scales, side } => {
                let number = DType::of(&scales.dtype).map_or(Number::Float32, |dtype| dtype.0);
                let factors = number.floats(&scales.bytes[scales.range.clone()]);
                let mut out = vec![0; 2 * (rows.end - rows.start) * row];
                let codes = &bytes[rows.start * row..rows.end * row];
                decode_blocks(
                    pool::shared(),
                    codes,
                    rows.start,
                    row,
                    &factors,
                    *side,
                    &mut out,
                );
                Cow::Owned(out)
            }
        }
    }

    /// Says that some rows will not be read again soon.
    pub(super) fn release(&self, rows: Range<usize>) {
        let all: usize = self.stored.shape.iter().rev().skip(1).product();
        let row = self.bytes().len() / all.max(1);
        let start = self.stored.range.start;
        self.stored
            .bytes
            .release(start + rows.start * row..start + rows.end * row);
    }
}
