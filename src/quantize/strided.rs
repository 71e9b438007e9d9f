//! Matrices inside of tensors: rows that lie apart, or turned, brought together.

use super::settings::DType;
use crate::models::roles::View;

/// A stack of matrices in one tensor, in numbers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strided {
    /// Matrices.
    pub(super) count: usize,
    /// Rows of each.
    pub(super) rows: usize,
    /// Columns of each.
    pub(super) columns: usize,
    /// Where the first begins.
    first: usize,
    /// From one matrix to the next, one row and one column.
    steps: [usize; 3],
}

impl Strided {
    /// All of a tensor, its last dimension the columns.
    pub(super) fn whole(shape: &[usize]) -> Self {
        let (columns, rows) = shape.split_last().unwrap_or((&1, &[]));
        let rows = rows.iter().product();
        Self {
            count: 1,
            rows,
            columns: *columns,
            first: 0,
            steps: [rows * columns, *columns, 1],
        }
    }

    /// What a view takes of a tensor of this shape, and the shape of that; `size` gives fields of the configuration.
    pub(super) fn of(
        view: View,
        shape: &[usize],
        size: impl Fn(&str) -> Option<usize>,
    ) -> Option<(Self, Vec<usize>)> {
        match (view, shape) {
            (View::Whole, _) => Some((Self::whole(shape), shape.to_vec())),
            (View::Half(which), &[count, both, columns]) => {
                let rows = half(both)?;
                let view = Self {
                    count,
                    rows,
                    columns,
                    first: which * rows * columns,
                    steps: [both * columns, columns, 1],
                };
                Some((view, vec![count, rows, columns]))
            }
            (View::Transposed, &[count, columns, rows]) => {
                let view = Self {
                    count,
                    rows,
                    columns,
                    first: 0,
                    steps: [columns * rows, 1, rows],
                };
                Some((view, vec![count, rows, columns]))
            }
            (View::TransposedEverySecond(first), &[count, columns, both]) => {
                let rows = half(both)?;
                let view = Self {
                    count,
                    rows,
                    columns,
                    first,
                    steps: [columns * both, 2, both],
                };
                Some((view, vec![count, rows, columns]))
            }
            (View::EverySecond(first), &[rows, both]) => {
                let columns = half(both)?;
                let view = Self {
                    count: 1,
                    rows,
                    columns,
                    first,
                    steps: [rows * both, both, 2],
                };
                Some((view, vec![rows, columns]))
            }
            (View::FirstOfHeads(a, b), &[all, width]) => {
                let (a, heads) = of_heads(size(a)?, size(b)?, all)?;
                let view = Self {
                    count: heads,
                    rows: width,
                    columns: a,
                    first: 0,
                    steps: [all / heads * width, 1, width],
                };
                Some((view, vec![heads, width, a]))
            }
            (View::LastOfHeads(a, b), &[all, width]) => {
                let (a, heads) = of_heads(size(a)?, size(b)?, all)?;
                let rows = all / heads - a;
                let view = Self {
                    count: heads,
                    rows,
                    columns: width,
                    first: a * width,
                    steps: [all / heads * width, width, 1],
                };
                Some((view, vec![heads, rows, width]))
            }
            _ => None,
        }
    }

    /// Whether rows lie one after the other in memory, from the first of the first matrix on.
    pub(super) fn is_contiguous(&self) -> bool {
        self.steps[2] == 1
            && self.steps[1] == self.columns
            && (self.count == 1 || self.steps[0] == self.rows * self.columns)
    }

    /// Whether it is all of a tensor of this shape, as it is.
    pub(super) fn is_whole(&self, shape: &[usize]) -> bool {
        let numbers: usize = shape.iter().product();
        self.first == 0 && self.is_contiguous() && self.count * self.rows * self.columns == numbers
    }

    /// Where the first row begins, in numbers.
    pub(super) fn start(&self) -> usize {
        self.first
    }

    /// Copies rows, counted through all matrices, from the tensor's bytes to the end of `out`.
    pub(super) fn gather(
        &self,
        bytes: &[u8],
        dtype: DType,
        rows: std::ops::Range<usize>,
        out: &mut Vec<u8>,
    ) {
        let size = dtype.0.size();
        for row in rows {
            let from =
                self.first + row / self.rows * self.steps[0] + row % self.rows * self.steps[1];
            if self.steps[2] == 1 {
                out.extend_from_slice(&bytes[from * size..(from + self.columns) * size]);
                continue;
            }
            for column in 0..self.columns {
                let at = (from + column * self.steps[2]) * size;
                out.extend_from_slice(&bytes[at..at + size]);
            }
        }
    }
}

fn half(both: usize) -> Option<usize> {
    both.is_multiple_of(2).then_some(both / 2)
}

/// Rows of the first part of each head, and heads.
fn of_heads(a: usize, b: usize, all: usize) -> Option<(usize, usize)> {
    (all > 0 && all.is_multiple_of(a + b)).then(|| (a, all / (a + b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matrix::Number;

    /// What a view takes of the numbers from 0 on.
    fn taken(view: View, shape: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let size = |field: &str| Some(if field == "a" { 1 } else { 2 });
        let (view, made) = Strided::of(view, shape, size).unwrap();
        let count: usize = shape.iter().product();
        let bytes: Vec<u8> = (0..count as u16).flat_map(u16::to_le_bytes).collect();
        let mut out = Vec::new();
        view.gather(
            &bytes,
            DType(Number::Bfloat16),
            0..view.count * view.rows,
            &mut out,
        );
        let numbers = out
            .chunks_exact(2)
            .map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])));
        (made, numbers.collect())
    }

    #[test]
    fn views_take_what_they_say() {
        assert_eq!(
            taken(View::Half(1), &[2, 4, 2]),
            (vec![2, 2, 2], vec![4, 5, 6, 7, 12, 13, 14, 15])
        );
        assert_eq!(
            taken(View::Transposed, &[1, 2, 3]),
            (vec![1, 3, 2], vec![0, 3, 1, 4, 2, 5])
        );
        assert_eq!(
            taken(View::TransposedEverySecond(1), &[2, 2, 4]),
            (vec![2, 2, 2], vec![1, 5, 3, 7, 9, 13, 11, 15])
        );
        assert_eq!(
            taken(View::EverySecond(0), &[2, 4]),
            (vec![2, 2], vec![0, 2, 4, 6])
        );
        // Two heads of one row and two.
        assert_eq!(
            taken(View::FirstOfHeads("a", "b"), &[6, 2]),
            (vec![2, 2, 1], vec![0, 1, 6, 7])
        );
        assert_eq!(
            taken(View::LastOfHeads("a", "b"), &[6, 2]),
            (vec![2, 2, 2], vec![2, 3, 4, 5, 8, 9, 10, 11])
        );
    }

    #[test]
    fn views_of_other_shapes_are_none() {
        let size = |_: &str| Some(2);
        for (view, shape) in [
            (View::Half(0), &[2, 3, 4][..]),
            (View::Half(0), &[4, 4]),
            (View::EverySecond(0), &[2, 3]),
            (View::FirstOfHeads("a", "b"), &[6, 2]),
        ] {
            assert_eq!(
                Strided::of(view, shape, size),
                None,
                "{view:?} of {shape:?}"
            );
        }
    }
}
