//! One tensor of the checkpoint that is read: its numbers, however they are stored, or the codes that MLX can have as
//! they are.

use std::borrow::Cow;
use std::ops::Range;

use super::settings::DType;
use crate::config::{PackingConfig, PackingMode};
use crate::gguf::Change;
use crate::kernels::matrix::Number;
use crate::kernels::pool;
use crate::kernels::quantize::{
    Ggml, Packed, add, decode_blocks, decode_ggml, decode_integers, decode_nvfp4, repack_ggml,
    repack_integers,
};
use crate::weights::StoredTensor;

/// One tensor of the source, its numbers in a type that can be packed.
#[derive(Debug, Clone)]
pub(super) struct SourceTensor {
    /// Its shape is that of the numbers.
    pub(super) stored: StoredTensor,
    pub(super) encoding: Encoding,
    /// What is done to its rows or numbers when they are read.
    pub(super) change: Change,
}

/// How numbers lie in a tensor.
#[derive(Debug, Clone)]
pub(super) enum Encoding {
    /// As they are.
    Numbers(DType),
    /// 8-bit floats (E4M3) with a factor for each square, in another tensor; they become bfloat16.
    Blocks { scales: StoredTensor, side: usize },
    /// Blocks of GGUF; they become float16.
    Ggml(Ggml),
    /// 4-bit floats (E2M1) with an 8-bit one (E4M3) for each 16 and one factor for all; they become bfloat16.
    Nvfp4 { scales: StoredTensor, factor: f32 },
    /// Integers from half of their range down on, in 32-bit words as MLX has them, with a scale for each group of a row.
    Integers {
        scales: StoredTensor,
        bits: usize,
        group: usize,
        number: Number,
    },
    /// Something else, which is copied.
    Other,
}

impl SourceTensor {
    /// One without a change.
    pub(super) fn new(stored: StoredTensor, encoding: Encoding) -> Self {
        let change = Change::None;
        Self {
            stored,
            encoding,
            change,
        }
    }

    /// The type of its numbers when they are read.
    pub(super) fn dtype(&self) -> Option<DType> {
        match &self.encoding {
            Encoding::Numbers(dtype) => Some(*dtype),
            Encoding::Blocks { .. } | Encoding::Nvfp4 { .. } => Some(DType(Number::Bfloat16)),
            Encoding::Ggml(_) => Some(DType(Number::Float16)),
            Encoding::Integers { number, .. } => Some(DType(*number)),
            Encoding::Other => None,
        }
    }

    /// The name of the format, where it is a packed one.
    pub(super) fn format(&self) -> Option<&str> {
        match &self.encoding {
            Encoding::Ggml(_) => Some(&self.stored.dtype),
            Encoding::Nvfp4 { .. } => Some("nvfp4"),
            Encoding::Integers { .. } => Some("compressed-tensors"),
            Encoding::Blocks { .. } => Some("8-bit floats"),
            Encoding::Numbers(_) | Encoding::Other => None,
        }
    }

    /// Its codes, if MLX can have them without a loss.
    pub(super) fn kept(&self) -> Option<Kept> {
        let (codes, bits, group) = match &self.encoding {
            Encoding::Ggml(kind) => (KeptCodes::Ggml(*kind), kind.bits()?, kind.numbers()),
            Encoding::Integers {
                scales,
                bits,
                group,
                number,
            } => {
                let codes = KeptCodes::Integers {
                    scales: scales.clone(),
                    bits: *bits,
                    number: *number,
                };
                (codes, *bits, *group)
            }
            _ => return None,
        };
        Some(Kept {
            packing: PackingConfig::new(PackingMode::Affine, Some(bits), Some(group)).ok()?,
            dtype: self.dtype()?,
            codes,
        })
    }

    /// Its bytes in the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.stored.bytes[self.stored.range.clone()]
    }

    /// Rows of its last dimension.
    fn all(&self) -> usize {
        self.stored.shape.iter().rev().skip(1).product()
    }

    /// Some rows of its last dimension as numbers of [`Self::dtype`], or bytes as they are.
    pub(super) fn rows(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let raw = self.raw(rows.clone());
        let columns = self.stored.shape.last().copied().unwrap_or(1);
        let mut out = match &self.encoding {
            Encoding::Numbers(_) | Encoding::Other => raw,
            encoding => Cow::Owned(decoded(encoding, &raw, rows, columns)),
        };
        if let (Change::Raised, Some(dtype)) = (self.change, self.dtype()) {
            add(dtype.0, out.to_mut(), -1.0);
        }
        out
    }

    /// The bytes of some rows, in order.
    fn raw(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let bytes = self.bytes();
        let Change::Interleaved(width) = self.change else {
            let row = bytes.len() / self.all().max(1);
            return Cow::Borrowed(&bytes[rows.start * row..rows.end * row]);
        };
        // Biases have one row, whose numbers are in the order of the rows of matrices.
        let (count, rows) = match *self.stored.shape {
            [count] => (count, 0..count),
            _ => (self.all(), rows),
        };
        let row = bytes.len() / count.max(1);
        let mut out = Vec::with_capacity(rows.len() * row);
        for at in rows {
            let (head, at) = (at / width, at % width);
            let from = head * width + at % (width / 2) * 2 + at / (width / 2);
            out.extend_from_slice(&bytes[from * row..(from + 1) * row]);
        }
        Cow::Owned(out)
    }

    /// Says that some rows will not be read again soon.
    pub(super) fn release(&self, rows: Range<usize>) {
        let row = self.bytes().len() / self.all().max(1);
        let start = self.stored.range.start;
        self.stored
            .bytes
            .release(start + rows.start * row..start + rows.end * row);
    }
}

/// Codes that MLX can have as they are.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// How MLX packs them.
    pub(super) packing: PackingConfig,
    /// The type of scales and biases then.
    pub(super) dtype: DType,
    codes: KeptCodes,
}

#[derive(Debug, Clone)]
enum KeptCodes {
    Ggml(Ggml),
    Integers {
        scales: StoredTensor,
        bits: usize,
        number: Number,
    },
}

impl Kept {
    /// Puts the codes of some rows of the tensor that these are of where MLX has them; whether scales and biases are
    /// finite.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub(super) fn repack(&self, of: &SourceTensor, rows: Range<usize>, out: Packed<'_>) -> bool {
        let raw = of.raw(rows.clone());
        match &self.codes {
            KeptCodes::Ggml(kind) => repack_ggml(*kind, &raw, out),
            KeptCodes::Integers {
                scales,
                bits,
                number,
            } => repack_integers(*bits, *number, &raw, row_scales(scales, rows), out),
        }
    }
}

/// The scales of some rows.
fn row_scales(scales: &StoredTensor, rows: Range<usize>) -> &[u8] {
    let bytes = &scales.bytes[scales.range.clone()];
    let row = bytes.len() / scales.shape[0].max(1);
    &bytes[rows.start * row..rows.end * row]
}

fn decoded(encoding: &Encoding, raw: &[u8], rows: Range<usize>, columns: usize) -> Vec<u8> {
    let mut out = vec![0; 2 * rows.len() * columns];
    let pool = pool::shared();
    match encoding {
        Encoding::Blocks { scales, side } => {
            let number = DType::of(&scales.dtype).map_or(Number::Float32, |dtype| dtype.0);
            let factors = number.floats(&scales.bytes[scales.range.clone()]);
            decode_blocks(pool, raw, rows.start, columns, &factors, *side, &mut out);
        }
        Encoding::Ggml(kind) => decode_ggml(pool, *kind, raw, &mut out),
        Encoding::Nvfp4 { scales, factor } => {
            decode_nvfp4(pool, raw, row_scales(scales, rows), *factor, &mut out);
        }
        Encoding::Integers {
            scales,
            bits,
            number,
            ..
        } => {
            out.resize(number.size() * rows.len() * columns, 0);
            decode_integers(*bits, *number, raw, row_scales(scales, rows), &mut out);
        }
        Encoding::Numbers(_) | Encoding::Other => {}
    }
    out
}
