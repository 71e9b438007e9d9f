//! How far packed weights are from those that they were made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::{Codes, Plan, Planned};
use super::read::{numbers, release};
use super::settings::DType;
use super::write::format_of;
use crate::config::PackingConfig;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::kernels::embedding::look_up;
use crate::kernels::matrix::{Format, Matrix, Part};
use crate::kernels::pool;
use crate::kernels::quantize::{Packed, Scales, quantize};
use crate::progress::{Progress, Unit, Work};
use crate::weights::{StoredTensor, Weights};

/// Numbers that are compared at a time.
const BLOCK: usize = 4 << 20;

const COMPARING: &str = "comparing weights";

/// What one packed tensor lost.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorError {
    /// Its name.
    pub name: String,
    /// The root of the mean square of what is off, by that of the weights.
    pub relative: f64,
}

/// What each packed tensor of a folder that was written by this plan lost, in the order of the plan.
///
/// # Errors
/// Whatever is wrong with the folder.
pub fn errors(
    plan: &Plan,
    files: &ModelFiles,
    progress: &dyn Progress,
) -> Result<Vec<TensorError>> {
    let stored = Weights::open(files)?.stored();
    let stored: BTreeMap<&str, &StoredTensor> = stored
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let packed: Vec<&Planned> = plan
        .tensors
        .iter()
        .filter(|tensor| tensor.packing.is_some())
        .collect();
    let work = Work::begin(progress, COMPARING, Some(packed.len() as u64), Unit::Items);
    let mut found = Vec::new();
    for tensor in packed {
        let matrix = matrix(tensor, &stored).ok_or_else(|| Error::Weights {
            path: files.label().to_path_buf(),
            problem: format!("{} is not the tensor that was planned", tensor.name),
        })?;
        found.push(TensorError {
            name: tensor.name.clone(),
            relative: relative(plan, tensor, &matrix),
        });
        work.advance(found.len() as u64);
    }
    Ok(found)
}

/// Numbers of a tensor that a loss is told of, at most.
const SAMPLED: usize = 8 << 20;

/// What a tensor of a plan would lose by a packing: the squares of what is off by those of the weights, of rows all over
/// it where it is large. Nothing for what cannot be packed so.
pub fn loss(plan: &Plan, tensor: &Planned, packing: &PackingConfig) -> Option<f64> {
    let dtype = DType::of(&tensor.dtype)?;
    let columns = *tensor.shape.last()?;
    let format = format_of(packing, dtype.0);
    if tensor.numbers() == 0 || !columns.is_multiple_of(format.group()) {
        return None;
    }
    let rows = tensor.numbers() / columns;
    let each = (BLOCK / columns).clamp(1, rows);
    let blocks = rows.div_ceil(each);
    let step = blocks.div_ceil((SAMPLED / BLOCK).max(1));
    let (mut off, mut all) = (0.0, 0.0);
    for block in (0..blocks).step_by(step) {
        let rows = block * each..rows.min((block + 1) * each);
        let numbers = numbers(plan, tensor, rows.clone());
        let mut parts = sizes(format, rows.len() * columns).map(|size| vec![0; size]);
        let [codes, scales, biases] = &mut parts;
        let out = Packed {
            codes,
            scales,
            biases,
        };
        let scales_of = match tensor.codes {
            Codes::Made(scales) => scales,
            Codes::Source(_) => Scales::Mlx,
        };
        quantize(pool::shared(), &numbers, dtype.0, format, scales_of, out);
        let [codes, scales, biases] = parts.map(|bytes| {
            let length = bytes.len();
            Part::new(Arc::new(bytes), 0..length).unwrap_or_else(Part::empty)
        });
        let matrix = Matrix::new([rows.len(), columns], format, codes, scales, biases).ok()?;
        let ids: Vec<i32> = (0..rows.len() as i32).collect();
        let mut found = vec![0.0; rows.len() * columns];
        look_up(pool::shared(), &matrix, &ids, &mut found);
        for (found, wanted) in found.iter().zip(dtype.0.floats(&numbers)) {
            off += f64::from(found - wanted).powi(2);
            all += f64::from(wanted).powi(2);
        }
        release(plan, tensor, rows);
    }
    Some(if all == 0.0 { 0.0 } else { off / all })
}

/// Bytes of codes, scales and biases of so many numbers.
fn sizes(format: Format, numbers: usize) -> [usize; 3] {
    let groups = numbers / format.group();
    let (scale, bias) = match format {
        Format::Affine { number, .. } => (number.size(), number.size()),
        _ => (1, 0),
    };
    [numbers * format.bits() / 8, groups * scale, groups * bias]
}

/// All rows of a packed tensor.
fn matrix(tensor: &Planned, stored: &BTreeMap<&str, &StoredTensor>) -> Option<Matrix> {
    let format = format_of(tensor.packing.as_ref()?, DType::of(&tensor.dtype)?.0);
    let part = |name: String| {
        let tensor = stored.get(name.as_str())?;
        Part::new(Arc::new(tensor.bytes.clone()), tensor.range.clone())
    };
    let prefix = tensor.prefix();
    let biases = part(format!("{prefix}.biases")).unwrap_or_else(Part::empty);
    let columns = *tensor.shape.last()?;
    let shape = [tensor.numbers() / columns, columns];
    let [codes, scales] = [
        part(tensor.name.clone())?,
        part(format!("{prefix}.scales"))?,
    ];
    Matrix::new(shape, format, codes, scales, biases).ok()
}

fn relative(plan: &Plan, tensor: &Planned, matrix: &Matrix) -> f64 {
    let Some(dtype) = DType::of(&tensor.dtype) else {
        return f64::NAN;
    };
    let columns = matrix.columns();
    let each = (BLOCK / columns).max(1);
    let (mut off, mut all) = (0.0, 0.0);
    for first in (0..matrix.rows()).step_by(each) {
        let rows = first..matrix.rows().min(first + each);
        let ids: Vec<i32> = rows.clone().map(|row| row as i32).collect();
        let mut found = vec![0.0; ids.len() * columns];
        look_up(pool::shared(), matrix, &ids, &mut found);
        let wanted = dtype.0.floats(&numbers(plan, tensor, rows.clone()));
        for (found, wanted) in found.iter().zip(wanted) {
            off += f64::from(found - wanted).powi(2);
            all += f64::from(wanted).powi(2);
        }
        release(plan, tensor, rows);
    }
    if all == 0.0 { 0.0 } else { (off / all).sqrt() }
}
