//! A matrix of weights where it lies: in a mapped file, in the program, in memory.

use std::ops::Range;
use std::sync::Arc;

use half::f16;

use super::simd::Simd;
pub use super::storage::{Number, Part, Storage};

/// How weights are stored. Packed ones are MLX's: rows of little-endian bit strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Each by itself.
    Dense(Number),
    /// `scale · code + bias`, with a scale and a bias for each group along a row.
    Affine {
        /// Of a code: 2, 3, 4, 5, 6 or 8.
        bits: usize,
        /// Codes of a group: 32, 64 or 128.
        group: usize,
        /// Of scales and biases.
        number: Number,
    },
    /// 4-bit floats (E2M1) with a power of two (E8M0) for each 32 (OCP MX 1.0).
    Mxfp4,
    /// 8-bit floats (E4M3) with a power of two (E8M0) for each 32 (OCP MX 1.0).
    Mxfp8,
    /// 4-bit floats (E2M1) with an 8-bit float (E4M3) for each 16.
    Nvfp4,
}

impl Format {
    /// Bits of one weight or code.
    pub fn bits(self) -> usize {
        match self {
            Self::Dense(number) => 8 * number.size(),
            Self::Affine { bits, .. } => bits,
            Self::Mxfp4 | Self::Nvfp4 => 4,
            Self::Mxfp8 => 8,
        }
    }

    /// Weights that share a scale; 1 where there is none.
    pub fn group(self) -> usize {
        match self {
            Self::Dense(_) => 1,
            Self::Affine { group, .. } => group,
            Self::Mxfp4 | Self::Mxfp8 => 32,
            Self::Nvfp4 => 16,
        }
    }

    fn scale_bytes(self) -> usize {
        match self {
            Self::Dense(_) => 0,
            Self::Affine { number, .. } => number.size(),
            Self::Mxfp4 | Self::Mxfp8 | Self::Nvfp4 => 1,
        }
    }

    fn is_supported(self) -> bool {
        match self {
            Self::Affine { bits, group, .. } => {
                [2, 3, 4, 5, 6, 8].contains(&bits) && [32, 64, 128].contains(&group)
            }
            _ => true,
        }
    }
}

/// What 4-bit floats stand for (OCP MX 1.0, section 5.3.3).
#[cfg(test)]
const E2M1: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

/// Weights `[rows, columns]`.
#[derive(Debug, Clone)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    format: Format,
    codes: Part,
    scales: Part,
    biases: Part,
}

impl Matrix {
    /// Over `codes` and, of packed formats, `scales` and (affine) `biases` for each row and group.
    ///
    /// # Errors
    /// One sentence where the parts do not have the sizes that follow.
    pub fn new(
        [rows, columns]: [usize; 2],
        format: Format,
        codes: Part,
        scales: Part,
        biases: Part,
    ) -> Result<Self, String> {
        if columns == 0 || !format.is_supported() || !columns.is_multiple_of(format.group()) {
            return Err(format!("{columns} columns cannot be packed as {format:?}"));
        }
        let groups = rows * columns / format.group();
        let bias_bytes = match format {
            Format::Affine { number, .. } => groups * number.size(),
            _ => 0,
        };
        let sizes = [
            rows * columns * format.bits() / 8,
            groups * format.scale_bytes(),
            bias_bytes,
        ];
        if sizes != [codes.len(), scales.len(), biases.len()] {
            return Err(format!(
                "{rows} rows of {columns} columns as {format:?} take {sizes:?} bytes, not {:?}",
                [codes.len(), scales.len(), biases.len()]
            ));
        }
        Ok(Self {
            rows,
            columns,
            format,
            codes,
            scales,
            biases,
        })
    }

    /// Some of the rows, where they lie; `None` where there are fewer.
    pub fn part(&self, rows: Range<usize>) -> Option<Self> {
        let part = |whole: &Part| {
            let row = whole.len() / self.rows.max(1);
            whole.part(rows.start * row..rows.end * row)
        };
        Some(Self {
            rows: rows.len(),
            columns: self.columns,
            format: self.format,
            codes: part(&self.codes)?,
            scales: part(&self.scales)?,
            biases: part(&self.biases)?,
        })
    }

    /// Some of the columns, copied; `None` where there are fewer, or they are not whole groups.
    pub fn columns_part(&self, columns: Range<usize>) -> Option<Self> {
        let group = self.format.group();
        let is_whole = |column: usize| {
            column.is_multiple_of(group) && (column * self.format.bits()).is_multiple_of(32)
        };
        if columns.end > self.columns || !is_whole(columns.start) || !is_whole(columns.end) {
            return None;
        }
        let part = |whole: &Part| {
            let row = whole.len() / self.rows.max(1);
            let place = |column: usize| column * row / self.columns;
            let range = place(columns.start)..place(columns.end);
            let mut bytes = Vec::with_capacity(self.rows * range.len());
            for row in whole.chunks_exact(row.max(1)) {
                bytes.extend_from_slice(&row[range.clone()]);
            }
            let size = bytes.len();
            Part::new(Arc::new(bytes), 0..size)
        };
        Some(Self {
            rows: self.rows,
            columns: columns.len(),
            format: self.format,
            codes: part(&self.codes)?,
            scales: part(&self.scales)?,
            biases: part(&self.biases)?,
        })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len() + self.biases.len()
    }

    /// Bytes of the codes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.columns * self.format.bits() / 8
    }

    /// The codes of a row.
    pub(super) fn row_codes(&self, row: usize) -> &[u8] {
        let size = self.row_bytes();
        &self.codes[row * size..(row + 1) * size]
    }

    /// The codes of rows, row after row.
    pub(super) fn codes_of(&self, rows: Range<usize>) -> &[u8] {
        let size = self.row_bytes();
        &self.codes[rows.start * size..rows.end * size]
    }

    /// The scales of rows, one a group, row after row.
    #[inline(always)]
    pub(super) fn read_scales<S: Simd>(&self, rows: Range<usize>, out: &mut [f32]) {
        let groups = self.columns / self.format.group();
        self.read_group_scales::<S>(rows.start * groups..rows.end * groups, out);
    }

    /// The same for groups counted over all rows.
    #[inline(always)]
    fn read_group_scales<S: Simd>(&self, groups: Range<usize>, out: &mut [f32]) {
        let size = self.format.scale_bytes();
        let scales = &self.scales[groups.start * size..groups.end * size];
        let out = &mut out[..groups.len()];
        match self.format {
            Format::Dense(_) => {}
            Format::Affine { number, .. } => number.read::<S>(scales, out),
            Format::Mxfp4 | Format::Mxfp8 => {
                for (out, &exponent) in out.iter_mut().zip(scales) {
                    *out = power_of_two(exponent);
                }
            }
            Format::Nvfp4 => {
                for (out, &scale) in out.iter_mut().zip(scales) {
                    *out = e4m3(scale);
                }
            }
        }
    }

    /// The scales and the biases of rows, `[rows][stride]` with zeros after a row's groups; biases as
    /// [`Matrix::read_biases`] gives them.
    #[inline(always)]
    pub(super) fn read_numbers<S: Simd>(
        &self,
        rows: Range<usize>,
        offset: f32,
        stride: usize,
        scales: &mut [f32],
        biases: &mut [f32],
    ) {
        let groups = self.columns / self.format.group();
        if groups == stride {
            self.read_scales::<S>(rows.clone(), scales);
            self.read_biases::<S>(rows, scales, offset, biases);
            return;
        }
        let parts = scales
            .chunks_exact_mut(stride)
            .zip(biases.chunks_exact_mut(stride));
        for (row, (scales, biases)) in rows.zip(parts) {
            self.read_scales::<S>(row..row + 1, scales);
            self.read_biases::<S>(row..row + 1, scales, offset, biases);
            scales[groups..].fill(0.0);
            biases[groups..].fill(0.0);
        }
    }

    /// The scales and the biases of rows as they are stored, where each row has whole eights of both.
    pub(super) fn whole_eights(&self, rows: Range<usize>) -> Option<(Number, &[u8], &[u8])> {
        let Format::Affine { number, group, .. } = self.format else {
            return None;
        };
        let groups = self.columns / group;
        let bytes = rows.start * groups * number.size()..rows.end * groups * number.size();
        (groups.is_multiple_of(8))
            .then(|| (number, &self.scales[bytes.clone()], &self.biases[bytes]))
    }

    /// Asks for the scales and the biases of rows, which need not be there.
    #[inline(always)]
    pub(super) fn prefetch_numbers<S: Simd>(&self, rows: Range<usize>) {
        if S::AHEAD == 0 {
            return;
        }
        for numbers in [&self.scales, &self.biases] {
            let bytes = numbers.len() / self.rows;
            let mut at = rows.start * bytes;
            while at < rows.end * bytes {
                S::prefetch_far(numbers.as_ptr().wrapping_add(at));
                at += 64;
            }
        }
    }

    /// The biases of rows, one a group, row after row, for codes that stand for `code + offset` in
    /// units of the scales.
    #[inline(always)]
    pub(super) fn read_biases<S: Simd>(
        &self,
        rows: Range<usize>,
        scales: &[f32],
        offset: f32,
        out: &mut [f32],
    ) {
        let groups = self.columns / self.format.group();
        let out = &mut out[..rows.len() * groups];
        self.read_group_biases::<S>(rows.start * groups..rows.end * groups, out);
        if offset == 0.0 {
            return;
        }
        for (out, scale) in out.iter_mut().zip(scales) {
            *out += offset * scale;
        }
    }

    #[inline(always)]
    fn read_group_biases<S: Simd>(&self, groups: Range<usize>, out: &mut [f32]) {
        let out = &mut out[..groups.len()];
        if let Format::Affine { number, .. } = self.format {
            let bytes = groups.start * number.size()..groups.end * number.size();
            number.read::<S>(&self.biases[bytes], out);
        } else {
            out.fill(0.0);
        }
    }

    /// The weights of a row, as plainly as can be: what every kernel is compared with.
    #[cfg(test)]
    pub(super) fn dense_row(&self, row: usize) -> Vec<f32> {
        let codes = self.row_codes(row);
        let size = self.format.bits() / 8;
        if let Format::Dense(number) = self.format {
            return codes
                .chunks_exact(size)
                .map(|one| number.one(one))
                .collect();
        }
        let (group, bits) = (self.format.group(), self.format.bits());
        let mut scales = vec![0.0; self.columns / group];
        let mut biases = scales.clone();
        self.read_scales::<super::simd::Portable>(row..row + 1, &mut scales);
        self.read_biases::<super::simd::Portable>(row..row + 1, &scales, 0.0, &mut biases);
        let weight = |i: usize| {
            let code = bits_at(codes, i * bits, bits);
            let value = match self.format {
                Format::Mxfp4 | Format::Nvfp4 => E2M1[usize::from(code)],
                Format::Mxfp8 => e4m3(code),
                _ => f32::from(code),
            };
            scales[i / group].mul_add(value, biases[i / group])
        };
        (0..self.columns).map(weight).collect()
    }
}

/// `bits` bits of a little-endian bit string, from bit `at` on.
#[cfg(test)]
fn bits_at(bytes: &[u8], at: usize, bits: usize) -> u8 {
    let low = u16::from(bytes[at / 8]);
    let high = bytes.get(at / 8 + 1).map_or(0, |&byte| u16::from(byte));
    ((low | high << 8) >> (at % 8) & ((1 << bits) - 1)) as u8
}

/// An E8M0 number: `2^(exponent - 127)`; 255 is not a number.
fn power_of_two(exponent: u8) -> f32 {
    match exponent {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(exponent) << 23),
    }
}

/// An E4M3 number, by way of a half float whose exponent is biased by 8 more.
fn e4m3(byte: u8) -> f32 {
    let byte = u16::from(byte);
    f16::from_bits((byte & 0x80) << 8 | (byte & 0x7f) << 7).to_f32_const() * 256.0
}

#[cfg(test)]
pub(super) mod made;
#[cfg(test)]
mod tests;
