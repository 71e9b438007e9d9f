//! Safetensors files to arrays: every header checked before anything is used, names strict.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mlx::{Array, Bytes, Dtype, MappedFile, array_over};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The tensors of one checkpoint, in one file or in shards, and which of them were asked for.
#[derive(Debug)]
pub struct Weights {
    files: ModelFiles,
    tensors: BTreeMap<String, Tensor>,
    taken: RefCell<BTreeSet<String>>,
    missing: RefCell<BTreeSet<String>>,
    bytes: usize,
}

/// One tensor as its file's header tells of it; the header was checked against the file.
#[derive(Debug)]
struct Tensor {
    file: String,
    bytes: Bytes,
    range: Range<usize>,
    shape: Vec<usize>,
    dtype: safetensors::Dtype,
}

impl Weights {
    /// Opens `model.safetensors`, or every shard that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// [`Error::MissingFile`] and [`Error::Weights`] with the file and what is wrong in it.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        let mut weights = Self {
            files: files.clone(),
            tensors: BTreeMap::new(),
            taken: RefCell::default(),
            missing: RefCell::default(),
            bytes: 0,
        };
        match open_bytes(files, SINGLE)? {
            Some(bytes) => weights.add(SINGLE, &bytes)?,
            None => weights.add_shards()?,
        }
        Ok(weights)
    }

    /// Size of all files, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor of this name, over the file's bytes where the device allows. It must have this
    /// shape and one of these types. One that is missing is noted for [`Self::finish`], and an
    /// array without a meaning stands in for it.
    ///
    /// # Errors
    /// [`Error::Weights`] where the shape or the type is another. [`Error::TensorNames`] where more
    /// is missing than there is: a configuration may ask for a billion layers.
    pub fn take(&self, name: &str, shape: &[usize], types: &[Dtype]) -> Result<Array> {
        let Some(tensor) = self.tensors.get(name) else {
            let mut missing = self.missing.borrow_mut();
            missing.insert(name.to_owned());
            if missing.len() > self.tensors.len() {
                return Err(self.names_problem(&missing, Vec::new()));
            }
            return Ok(Array::from_f32(0.0));
        };
        self.taken.borrow_mut().insert(name.to_owned());
        let refuse = |problem: String| Error::Weights {
            path: self.files.path(&tensor.file),
            problem,
        };
        if tensor.shape != shape {
            return Err(refuse(format!(
                "tensor {name} has shape {:?}, and config.json makes it {shape:?}",
                tensor.shape
            )));
        }
        let dtype = dtype_of(tensor.dtype).filter(|dtype| types.contains(dtype));
        let dtype = dtype.ok_or_else(|| {
            refuse(format!(
                "tensor {name} has type {:?} where {types:?} is needed",
                tensor.dtype
            ))
        })?;
        array_over(&tensor.bytes, tensor.range.clone(), shape, dtype)
    }

    /// Whether everything fitted: nothing missing, nothing left that `skipped` does not excuse.
    ///
    /// # Errors
    /// [`Error::TensorNames`] with both lists.
    pub fn finish(&self, skipped: impl Fn(&str) -> bool) -> Result<()> {
        let missing = self.missing.borrow();
        let taken = self.taken.borrow();
        let unexpected: Vec<String> = self
            .tensors
            .keys()
            .filter(|name| !taken.contains(*name) && !skipped(name))
            .cloned()
            .collect();
        if missing.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(self.names_problem(&missing, unexpected))
    }

    fn names_problem(&self, missing: &BTreeSet<String>, unexpected: Vec<String>) -> Error {
        Error::TensorNames {
            folder: self.files.label().to_path_buf(),
            missing: missing.iter().cloned().collect(),
            unexpected,
        }
    }

    fn add_shards(&mut self) -> Result<()> {
        let Some(index) = self.files.read(INDEX)? else {
            return Err(Error::MissingFile {
                folder: self.files.label().to_path_buf(),
                file: format!("{SINGLE} and no {INDEX}"),
            });
        };
        let path = self.files.path(INDEX);
        let refuse = |problem: String| Error::Weights {
            path: path.clone(),
            problem,
        };
        let index: Value =
            serde_json::from_slice(&index).map_err(|error| refuse(error.to_string()))?;
        let map = index
            .get("weight_map")
            .and_then(Value::as_object)
            .ok_or_else(|| refuse("`weight_map` is missing or not an object".to_owned()))?;
        let shards = shard_names(map).map_err(refuse)?;
        for shard in &shards {
            let bytes = open_bytes(&self.files, shard)?
                .ok_or_else(|| refuse(format!("it names {shard}, which is not there")))?;
            self.add(shard, &bytes)?;
        }
        for (name, shard) in map {
            let found = self.tensors.get(name).map(|tensor| tensor.file.as_str());
            if found != shard.as_str() {
                return Err(refuse(format!(
                    "it says that {shard} holds {name}, which it does not"
                )));
            }
        }
        Ok(())
    }

    fn add(&mut self, file: &str, bytes: &Bytes) -> Result<()> {
        let refuse = |problem: String| Error::Weights {
            path: self.files.path(file),
            problem,
        };
        // Checks lengths, offsets, overlaps and sizes against the bytes that are there.
        SafeTensors::deserialize(bytes).map_err(|error| refuse(header_problem(bytes, &error)))?;
        let (header, metadata): (usize, Metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| refuse(header_problem(bytes, &error)))?;
        let start = header + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let tensor = Tensor {
                file: file.to_owned(),
                bytes: bytes.clone(),
                range: start + from..start + to,
                shape: info.shape.clone(),
                dtype: info.dtype,
            };
            if let Some(other) = self.tensors.insert(name.clone(), tensor) {
                return Err(refuse(format!("tensor {name} is also in {}", other.file)));
            }
        }
        self.bytes += bytes.len();
        Ok(())
    }
}

fn open_bytes(files: &ModelFiles, name: &str) -> Result<Option<Bytes>> {
    match files {
        ModelFiles::Folder(folder) => {
            let path = folder.join(name);
            match MappedFile::open(&path) {
                Ok(file) => Ok(Some(Bytes::Mapped(Arc::new(file)))),
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        }
        ModelFiles::Embedded(_, files) => Ok(files
            .iter()
            .find(|(file, _)| *file == name)
            .map(|(_, bytes)| Bytes::Static(bytes))),
    }
}

/// The shards that an index names: file names, not paths that could lead out of the folder.
fn shard_names(map: &Map<String, Value>) -> Result<BTreeSet<String>, String> {
    map.iter()
        .map(|(name, shard)| {
            let shard = shard
                .as_str()
                .ok_or_else(|| format!("the shard of {name} is not a text"))?;
            let path = PathBuf::from(shard);
            let plain = path.file_name().is_some_and(|file| file == shard);
            if plain && shard.ends_with(".safetensors") && !shard.contains('\\') {
                return Ok(shard.to_owned());
            }
            Err(format!(
                "the shard of {name} is `{shard}`, not the name of a safetensors file"
            ))
        })
        .collect()
}

/// What is wrong with a file that the safetensors library refuses, in the file's own terms.
fn header_problem(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    let length = bytes
        .first_chunk::<8>()
        .map(|head| u64::from_le_bytes(*head));
    match length {
        None => format!(
            "the file has {} bytes: it is cut short or not a safetensors file",
            bytes.len()
        ),
        Some(length) if length > bytes.len() as u64 - 8 => format!(
            "its header claims {length} bytes and the file has {}: it is cut short or not a safetensors file",
            bytes.len()
        ),
        Some(_) => match error {
            safetensors::SafeTensorError::MetadataIncompleteBuffer => {
                "its tensors do not end where the file ends: it is cut short or damaged".to_owned()
            }
            error => format!("its header is not valid: {error}"),
        },
    }
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as Stored;
    match dtype {
        Stored::BOOL => Some(Dtype::Bool),
        Stored::U8 => Some(Dtype::Uint8),
        Stored::U16 => Some(Dtype::Uint16),
        Stored::U32 => Some(Dtype::Uint32),
        Stored::I8 => Some(Dtype::Int8),
        Stored::I16 => Some(Dtype::Int16),
        Stored::I32 => Some(Dtype::Int32),
        Stored::I64 => Some(Dtype::Int64),
        Stored::F16 => Some(Dtype::Float16),
        Stored::BF16 => Some(Dtype::Bfloat16),
        Stored::F32 => Some(Dtype::Float32),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
