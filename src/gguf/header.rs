//! What stands at the beginning of a GGUF file, versions 2 and 3: metadata, then where each tensor is. Every length is
//! held against the bytes that are there before anything of that length is made.

use std::collections::BTreeSet;
use std::ops::Range;

use super::value::{Metadata, Value};

/// Dimensions of a tensor, at most.
const DIMENSIONS: u32 = 4;

/// Where nothing is said, tensors begin at multiples of so many bytes.
const ALIGNMENT: u64 = 32;

/// How the numbers of a tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q8_0,
    Q6K,
}

/// One tensor.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Its shape, the rows' numbers last.
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
}

/// Types by their number, for messages; those that can be read are in [`Kind::of`].
const TYPES: [(u32, &str); 24] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (39, "MXFP4"),
];

impl Kind {
    const ALL: [(u32, Self, &'static str); 7] = [
        (0, Self::F32, "F32"),
        (1, Self::F16, "F16"),
        (2, Self::Q4_0, "Q4_0"),
        (3, Self::Q4_1, "Q4_1"),
        (8, Self::Q8_0, "Q8_0"),
        (14, Self::Q6K, "Q6_K"),
        (30, Self::Bf16, "BF16"),
    ];

    fn of(number: u32) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, ..)| *known == number);
        known.map(|(_, kind, _)| *kind).ok_or_else(|| {
            let name = TYPES.iter().find(|(known, _)| *known == number);
            let name = name.map_or_else(|| format!("{number}"), |(_, name)| (*name).to_owned());
            let all = Self::ALL.map(|(.., name)| name).join(", ");
            format!("type {name}, of which nothing is read: {all} are")
        })
    }

    /// As GGUF names it.
    pub(super) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind, _)| *kind == self);
        found.map_or("", |(.., name)| name)
    }

    /// Numbers of a block, and its bytes.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q8_0 => (32, 34),
            Self::Q6K => (256, 210),
        }
    }
}

impl Header {
    /// Reads it from all bytes of a file.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4)? != b"GGUF" {
            return Err("it does not begin as a GGUF file does".to_owned());
        }
        let version = reader.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(format!(
                "it is of version {version}, and 2 and 3 can be read"
            ));
        }
        let [tensors, values] = [reader.u64()?, reader.u64()?];
        let mut metadata = Metadata::default();
        for _ in 0..values {
            let name = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind, true)?;
            if metadata.0.insert(name.clone(), value).is_some() {
                return Err(format!("`{name}` is twice in its metadata"));
            }
        }
        if metadata
            .optional_size("split.count")?
            .is_some_and(|count| count > 1)
        {
            return Err(
                "it is one of several that make a model: join them with `llama-gguf-split --merge`"
                    .to_owned(),
            );
        }
        let alignment = metadata
            .optional_size("general.alignment")?
            .unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(format!(
                "tensors are aligned to {alignment}, which is no power of two"
            ));
        }
        let mut found = Vec::new();
        for _ in 0..tensors {
            found.push(reader.tensor()?);
        }
        let start = (reader.at as u64)
            .checked_next_multiple_of(alignment)
            .ok_or("its header has no end")?;
        place(found, start, bytes.len()).map(|tensors| Self { metadata, tensors })
    }
}

/// Where tensors are, whose ranges up to now begin at their offset: inside of the file, and none in another.
fn place(mut tensors: Vec<Tensor>, start: u64, length: usize) -> Result<Vec<Tensor>, String> {
    let mut names = BTreeSet::new();
    for tensor in &mut tensors {
        let Range {
            start: from,
            end: to,
        } = tensor.range;
        let moved = |at: usize| (at as u64).checked_add(start)?.try_into().ok();
        match (moved(from), moved(to)) {
            (Some(from), Some(to)) if to <= length => tensor.range = from..to,
            _ => {
                return Err(format!(
                    "tensor {} ends behind its {length} bytes: it is cut short",
                    tensor.name
                ));
            }
        }
        if !names.insert(tensor.name.clone()) {
            return Err(format!("two tensors are named {}", tensor.name));
        }
    }
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in order.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            return Err(format!(
                "tensors {} and {} are in the same place",
                pair[0].name, pair[1].name
            ));
        }
    }
    Ok(tensors)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| rest.get(..count));
        let taken = taken.ok_or_else(|| {
            format!(
                "its header goes on behind its {} bytes: it is cut short or damaged",
                self.bytes.len()
            )
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        // Tokens of some vocabularies are parts of characters.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn value(&mut self, kind: u32, may_be_list: bool) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if may_be_list => {
                let kind = self.u32()?;
                let count = self.u64()?;
                // Each takes a byte at least, so the list ends with the file.
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, false)?);
                }
                Value::List(list)
            }
            9 => return Err("its metadata have lists of lists".to_owned()),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            kind => {
                return Err(format!(
                    "its metadata have a value of the unknown type {kind}"
                ));
            }
        })
    }

    /// A tensor, its range as if all tensors began with the file.
    fn tensor(&mut self) -> Result<Tensor, String> {
        let name = self.text()?;
        let count = self.u32()?;
        if count == 0 || count > DIMENSIONS {
            return Err(format!("tensor {name} has {count} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..count {
            let size = self.u64()?;
            // Sizes become MLX shapes, which are 32-bit.
            let size = i32::try_from(size).ok().filter(|size| *size > 0);
            let size =
                size.ok_or_else(|| format!("tensor {name} has a dimension that is no size"))?;
            shape.push(size as usize);
        }
        let columns = shape[0];
        shape.reverse();
        let kind =
            Kind::of(self.u32()?).map_err(|problem| format!("tensor {name} is of {problem}"))?;
        let start = usize::try_from(self.u64()?).ok();
        let (numbers, bytes) = kind.block();
        if !columns.is_multiple_of(numbers) {
            return Err(format!(
                "tensor {name} has rows of {columns} numbers, which are no blocks of {}",
                kind.name()
            ));
        }
        let blocks = shape
            .iter()
            .try_fold(1_usize, |all, size| all.checked_mul(*size))
            .map(|all| all / numbers);
        let end = blocks
            .and_then(|blocks| blocks.checked_mul(bytes))
            .and_then(|bytes| start?.checked_add(bytes));
        match (start, end) {
            (Some(start), Some(end)) => Ok(Tensor {
                name,
                shape,
                kind,
                range: start..end,
            }),
            _ => Err(format!("tensor {name} is larger than any file")),
        }
    }
}
