//! Activations as matrices meet them: rounded to int8 or bfloat16, or as they are.

use super::super::activations::Activations;
use super::super::bfloats::{Bfloats, MANY};
use super::super::floats::{FEW, Floats, is_split};
use super::super::matrix::{Format, Matrix, Number};
use super::super::pool::Pool;
use super::super::simd;
use super::super::tiles::{Tiles, Vectors};
use super::Arithmetic;

/// Activations `[T, columns]` in every form that some matrices need.
#[derive(Debug)]
pub(in super::super) struct Input {
    pub(super) tokens: usize,
    int8: [Option<Rounded>; 2],
    floats: [Option<Floats>; 2],
    /// In one part, and in two.
    bfloats: [Option<Bfloats>; 2],
}

/// How activations meet a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Int8,
    Float32,
    /// In so many parts, 1 or 2.
    Bfloat16(usize),
}

/// Activations as int8.
#[derive(Debug)]
struct Rounded {
    x: Activations,
    /// Of a few rows.
    tiles: Option<Tiles>,
}

impl Rounded {
    fn new(x: Activations, split: bool) -> Self {
        let few = x.units.len() <= FEW;
        let tiles = few.then(|| Tiles::new(&x, split));
        Self { x, tiles }
    }
}

/// Activations as a matrix of one format meets them.
pub(super) enum Factor<'a> {
    /// A few rows of int8.
    Vectors(Vectors<'a>),
    /// Rows of int8, and their sums over the format's groups.
    Rows(&'a Activations, Vec<f32>),
    /// Rows of float32.
    Floats(&'a Floats),
    /// Many rows of bfloat16.
    Bfloats(&'a Bfloats),
    /// There is no matrix.
    Nothing,
}

/// Whether so many rows are multiplied by tiles, where they need not be float32.
fn is_tiled(rows: usize) -> bool {
    rows >= MANY && simd::current().has_tiles()
}

/// How so many rows meet weights of a format.
pub(super) fn form(format: Format, arithmetic: Arithmetic, rows: usize) -> Form {
    match format {
        _ if arithmetic == Arithmetic::Float32 => Form::Float32,
        Format::Dense(Number::Float16 | Number::Float32) => Form::Float32,
        // These weights are bfloat16 to the bit.
        Format::Dense(_) | Format::Mxfp8 if is_tiled(rows) => Form::Bfloat16(2),
        Format::Dense(_) | Format::Mxfp8 => Form::Float32,
        _ if is_tiled(rows) => Form::Bfloat16(1),
        Format::Affine { .. } | Format::Mxfp4 | Format::Nvfp4 => Form::Int8,
    }
}

impl Input {
    /// As matrices, all of as many columns, need `x` `[T, columns]`: each meets so many of the rows.
    pub(in super::super) fn new<'a>(
        pool: &Pool,
        x: &[f32],
        arithmetic: Arithmetic,
        matrices: impl Iterator<Item = (&'a Matrix, usize)>,
    ) -> Self {
        let mut matrices = matrices.peekable();
        let columns = matrices.peek().map_or(1, |(matrix, _)| matrix.columns());
        let forms: Vec<(Form, bool)> = matrices
            .inspect(|(matrix, _)| assert_eq!(matrix.columns(), columns, "matrices of one input"))
            .map(|(matrix, rows)| (matrix.format(), rows))
            .map(|(format, rows)| (form(format, arithmetic, rows), is_split(format)))
            .collect();
        let needed = |form: Form, split: bool| forms.contains(&(form, split));
        let tiled = |parts| {
            let is_needed = forms.iter().any(|&(form, _)| form == Form::Bfloat16(parts));
            is_needed.then(|| Bfloats::new(pool, x, columns, parts))
        };
        Self {
            tokens: x.len() / columns,
            int8: [false, true].map(|split| {
                needed(Form::Int8, split)
                    .then(|| Rounded::new(Activations::new(pool, x, columns, split), split))
            }),
            floats: [false, true].map(|split| {
                needed(Form::Float32, split).then(|| Floats::new(pool, x, columns, split))
            }),
            bfloats: [1, 2].map(tiled),
        }
    }

    /// Some of the rows, in the order given.
    pub(in super::super) fn gather(&self, rows: &[usize]) -> Self {
        let is_tiled = is_tiled(rows.len());
        Self {
            tokens: rows.len(),
            int8: [false, true].map(|split| {
                let whole = self.int8[usize::from(split)].as_ref();
                let whole = whole.filter(|_| !is_tiled);
                whole.map(|whole| Rounded::new(whole.x.gather(rows), split))
            }),
            floats: self
                .floats
                .each_ref()
                .map(|x| x.as_ref().map(|x| x.gather(rows))),
            bfloats: self.bfloats.each_ref().map(|x| {
                let x = x.as_ref().filter(|_| is_tiled);
                x.map(|x| x.gather(rows))
            }),
        }
    }

    pub(super) fn factor(&self, format: Format, arithmetic: Arithmetic) -> Factor<'_> {
        let order = usize::from(is_split(format));
        let factor = match form(format, arithmetic, self.tokens) {
            Form::Float32 => self.floats[order].as_ref().map(Factor::Floats),
            Form::Bfloat16(parts) => self.bfloats[parts - 1].as_ref().map(Factor::Bfloats),
            Form::Int8 => self.int8[order]
                .as_ref()
                .map(|Rounded { x, tiles }| match tiles {
                    Some(tiles) => Factor::Vectors(Vectors::new(x, tiles, format)),
                    None => Factor::Rows(x, x.group_sums(format.group())),
                }),
        };
        factor.unwrap_or(Factor::Nothing)
    }
}
