//! The tensors of a checkpoint as arrays, names strict; where their bytes are is known to the files below.

mod digest;
mod files;
mod header;
mod random;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::kernels::matrix::Part;
use crate::mlx::{Array, Bytes, Dtype, Packing, array_over, in_device_memory};
pub use digest::digest;
use files::Files;
pub use header::{INDEX, SINGLE, header};
use random::Random;

/// The tensors of one checkpoint, in one file or in shards, and which of them were asked for.
#[derive(Debug)]
pub struct Weights {
    source: Source,
    taken: RefCell<BTreeMap<String, Taken>>,
    missing: RefCell<BTreeSet<String>>,
}

#[derive(Debug)]
enum Source {
    Files(Files),
    /// Any tensor that is asked for, made up.
    Random(Random),
}

/// One tensor as a file holds it.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its type as safetensors files name it: `BF16`, `F8_E4M3` …
    pub dtype: String,
    /// The file, for messages.
    pub path: PathBuf,
    /// The file's bytes.
    pub bytes: Bytes,
    /// Of these, the tensor's.
    pub range: Range<usize>,
}

/// One tensor whose shape and type are those that were asked for.
#[derive(Debug)]
struct Tensor {
    bytes: Bytes,
    range: Range<usize>,
    dtype: Dtype,
}

/// What is remembered of a tensor that was asked for.
#[derive(Debug, Clone, Copy)]
struct Taken {
    bytes: usize,
    dtype: Dtype,
}

impl Weights {
    /// Opens `model.safetensors`, or every shard that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// [`Error::MissingFile`] and [`Error::Weights`] with the file and what is wrong in it.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        Ok(Self::of(Source::Files(Files::open(files)?)))
    }

    /// The tensors of `over`, and those of `base` that are not `hidden`: a checkpoint of which a part was made anew.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_over(
        base: &ModelFiles,
        over: &ModelFiles,
        hidden: &BTreeSet<&str>,
    ) -> Result<Self> {
        let mut files = Files::open(base)?;
        files.lay_over(Files::open(over)?, hidden);
        Ok(Self::of(Source::Files(files)))
    }

    /// Weights that mean nothing: every tensor that is asked for is there, in the shape asked for,
    /// the same every time. Dense ones are bfloat16, packed ones as `packing` says.
    pub fn random(packing: Option<Packing>) -> Self {
        Self::of(Source::Random(Random::new(packing)))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            taken: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    /// Size of all files, or of everything that was made up, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.source {
            Source::Files(files) => files.bytes(),
            Source::Random(_) => self.taken_bytes(|_| true),
        }
    }

    /// Size of those tensors that were taken and whose names are `wanted`, in bytes.
    pub fn taken_bytes(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let taken = self.taken.borrow();
        let wanted = taken.iter().filter(|(name, _)| wanted(name));
        wanted.map(|(_, tensor)| tensor.bytes).sum()
    }

    /// The type of a tensor that was taken.
    pub fn taken_type(&self, name: &str) -> Option<Dtype> {
        self.taken.borrow().get(name).map(|tensor| tensor.dtype)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Files(files) => files.has(name),
            Source::Random(_) => true,
        }
    }

    /// Every tensor of the files as it is stored, in the order of their names.
    pub fn stored(&self) -> Vec<StoredTensor> {
        match &self.source {
            Source::Files(files) => files.stored(),
            Source::Random(_) => Vec::new(),
        }
    }

    /// The shape of a tensor of the files.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.source {
            Source::Files(files) => files.shape(name).map(<[usize]>::to_vec),
            Source::Random(_) => None,
        }
    }

    /// The tensor of this name, over the file's bytes where the device allows. It must have this
    /// shape and one of these types. One that is missing is noted for [`Self::finish`], and an
    /// array without a meaning stands in for it.
    ///
    /// # Errors
    /// [`Error::Weights`] where the shape or the type is another. [`Error::TensorNames`] where more
    /// is missing than there is: a configuration may ask for a billion layers.
    pub fn take(&self, name: &str, shape: &[usize], types: &[Dtype]) -> Result<Array> {
        match self.tensor(name, shape, types)? {
            Some(tensor) => {
                let array = array_over(&tensor.bytes, tensor.range, shape, tensor.dtype)?;
                in_device_memory(array)
            }
            None => Ok(Array::from_f32(0.0)),
        }
    }

    /// As [`Self::take`], the bytes where they lie, of any alignment: for kernels of the CPU.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_host(
        &self,
        name: &str,
        shape: &[usize],
        types: &[Dtype],
    ) -> Result<Option<(Part, Dtype)>> {
        let Some(tensor) = self.tensor(name, shape, types)? else {
            return Ok(None);
        };
        let part = Part::new(Arc::new(tensor.bytes), tensor.range);
        Ok(part.map(|part| (part, tensor.dtype)))
    }

    /// The bytes of the tensor of this name, which has this shape and one of these types, and is
    /// noted as taken. `None` where there is none, which is noted too.
    fn tensor(&self, name: &str, shape: &[usize], types: &[Dtype]) -> Result<Option<Tensor>> {
        let tensor = match &self.source {
            Source::Files(files) => match files.tensor(name, shape, types)? {
                Some(tensor) => tensor,
                None => return self.note_missing(name, files).map(|()| None),
            },
            Source::Random(random) => random.tensor(name, shape, types)?,
        };
        let taken = Taken {
            bytes: tensor.range.len(),
            dtype: tensor.dtype,
        };
        self.taken.borrow_mut().insert(name.to_owned(), taken);
        Ok(Some(tensor))
    }

    fn note_missing(&self, name: &str, files: &Files) -> Result<()> {
        let mut missing = self.missing.borrow_mut();
        missing.insert(name.to_owned());
        if missing.len() > files.names().len() {
            return Err(names_problem(files, &missing, Vec::new()));
        }
        Ok(())
    }

    /// [`Error::TensorNames`] with what was missing up to now; `None` where nothing was.
    pub fn missing(&self) -> Option<Error> {
        let missing = self.missing.borrow();
        match &self.source {
            Source::Files(files) if !missing.is_empty() => {
                Some(names_problem(files, &missing, Vec::new()))
            }
            Source::Files(_) | Source::Random(_) => None,
        }
    }

    /// Whether everything fitted: nothing missing, nothing left that `skipped` does not excuse.
    ///
    /// # Errors
    /// [`Error::TensorNames`] with both lists.
    pub fn finish(&self, skipped: impl Fn(&str) -> bool) -> Result<()> {
        let Source::Files(files) = &self.source else {
            return Ok(());
        };
        let missing = self.missing.borrow();
        let taken = self.taken.borrow();
        let unexpected: Vec<String> = files
            .names()
            .filter(|name| !taken.contains_key(*name) && !skipped(name))
            .map(str::to_owned)
            .collect();
        if missing.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(names_problem(files, &missing, unexpected))
    }
}

fn names_problem(files: &Files, missing: &BTreeSet<String>, unexpected: Vec<String>) -> Error {
    Error::TensorNames {
        folder: files.label().to_path_buf(),
        missing: missing.iter().cloned().collect(),
        unexpected,
    }
}

#[cfg(test)]
mod tests;
