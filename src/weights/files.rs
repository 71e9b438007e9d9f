//! Safetensors files, one or many shards, every header checked before anything is used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde_json::{Map, Value};

use super::header::{INDEX, SINGLE};
use super::{StoredTensor, Tensor};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mlx::{Bytes, Dtype, MappedFile};

/// The files of one checkpoint, open.
#[derive(Debug)]
pub(super) struct Files {
    model: ModelFiles,
    tensors: BTreeMap<String, Stored>,
    bytes: usize,
}

/// One tensor as its file's header tells of it; the header was checked against the file.
#[derive(Debug)]
struct Stored {
    file: String,
    bytes: Bytes,
    range: Range<usize>,
    shape: Vec<usize>,
    dtype: safetensors::Dtype,
}

impl Files {
    /// Opens `model.safetensors`, or every shard that the index names.
    pub(super) fn open(files: &ModelFiles) -> Result<Self> {
        let mut opened = Self {
            model: files.clone(),
            tensors: BTreeMap::new(),
            bytes: 0,
        };
        match open_bytes(files, SINGLE)? {
            Some(bytes) => opened.add(SINGLE, &bytes)?,
            None => opened.add_shards()?,
        }
        Ok(opened)
    }

    /// Takes the tensors of another checkpoint in, and leaves out those of its own that are `hidden`.
    pub(super) fn lay_over(&mut self, other: Self, hidden: &BTreeSet<&str>) {
        self.tensors
            .retain(|name, _| !hidden.contains(name.as_str()));
        self.bytes += other.bytes;
        self.tensors.extend(other.tensors);
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// The folder, for messages.
    pub(super) fn label(&self) -> &Path {
        self.model.label()
    }

    /// Size of all files.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Every tensor as it is stored, in the order of their names.
    pub(super) fn stored(&self) -> Vec<StoredTensor> {
        let all = self.tensors.iter().map(|(name, stored)| StoredTensor {
            name: name.clone(),
            shape: stored.shape.clone(),
            dtype: format!("{:?}", stored.dtype),
            path: self.model.path(&stored.file),
            bytes: stored.bytes.clone(),
            range: stored.range.clone(),
        });
        all.collect()
    }

    /// The tensor of this name, if there is one; it must have this shape and one of these types.
    pub(super) fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        types: &[Dtype],
    ) -> Result<Option<Tensor>> {
        let Some(stored) = self.tensors.get(name) else {
            return Ok(None);
        };
        let refuse = |problem: String| Error::Weights {
            path: self.model.path(&stored.file),
            problem,
        };
        if stored.shape != shape {
            return Err(refuse(format!(
                "tensor {name} has shape {:?}, and config.json makes it {shape:?}",
                stored.shape
            )));
        }
        let dtype = dtype_of(stored.dtype).filter(|dtype| types.contains(dtype));
        let dtype = dtype.ok_or_else(|| {
            refuse(format!(
                "tensor {name} has type {:?} where {types:?} is needed",
                stored.dtype
            ))
        })?;
        Ok(Some(Tensor {
            bytes: stored.bytes.clone(),
            range: stored.range.clone(),
            dtype,
        }))
    }

    fn add_shards(&mut self) -> Result<()> {
        let Some(index) = self.model.read(INDEX)? else {
            return Err(Error::MissingFile {
                folder: self.model.label().to_path_buf(),
                file: format!("{SINGLE} and no {INDEX}"),
            });
        };
        let path = self.model.path(INDEX);
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
            let bytes = open_bytes(&self.model, shard)?
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
            path: self.model.path(file),
            problem,
        };
        // Checks lengths, offsets, overlaps and sizes against the bytes that are there.
        SafeTensors::deserialize(bytes).map_err(|error| refuse(header_problem(bytes, &error)))?;
        let (header, metadata): (usize, Metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| refuse(header_problem(bytes, &error)))?;
        let start = header + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let tensor = Stored {
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
        ModelFiles::Derived(..) => Ok(None),
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
