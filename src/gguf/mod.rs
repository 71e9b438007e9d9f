//! GGUF files: their tensors under the names that transformers gives them, and the files that a model's folder has
//! beside its weights, made of the metadata. Knows nothing of packing.

mod config;
mod header;
mod names;
mod ropes;
mod tokenizer;
mod value;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mlx::{Bytes, MappedFile};
use crate::weights::StoredTensor;
use header::Header;
use names::Named;
use value::Metadata;

pub use names::Change;

/// A GGUF file, its header checked against its length.
#[derive(Debug)]
pub struct Gguf {
    /// What a folder has beside its weights: what lies beside the file, else what its metadata say.
    pub files: ModelFiles,
    /// Every tensor that a model is computed with.
    pub tensors: Vec<GgufTensor>,
    /// Tensors that are not needed, and why.
    pub dropped: Vec<(String, String)>,
}

/// A tensor of a GGUF file.
#[derive(Debug)]
pub struct GgufTensor {
    /// Its name as transformers has it, and its bytes; the type is as GGUF names it.
    pub stored: StoredTensor,
    /// How its numbers differ from those that transformers has.
    pub change: Change,
}

/// Files that count instead of what the metadata say, where they lie beside a GGUF file.
const BESIDE: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

impl Gguf {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Gguf`] where it is damaged, of an architecture or a type that cannot be read, or lacks what is needed
    /// and does not lie beside it; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::Mapped(Arc::new(MappedFile::open(path)?));
        let refuse = |problem: String| Error::Gguf {
            path: path.to_path_buf(),
            problem,
        };
        let header = Header::parse(&bytes).map_err(refuse)?;
        let mut made = beside(path)?;
        let facts = Facts::of(&header, &bytes).map_err(refuse)?;
        if !made.contains_key("config.json") {
            let config = config::config(&facts).map_err(refuse)?;
            put(&mut made, "config.json", &config);
        }
        if !made.contains_key("tokenizer.json") {
            let tokenizer = tokenizer::tokenizer(&header.metadata).map_err(refuse)?;
            put(&mut made, "tokenizer.json", &tokenizer);
        }
        let companions = [
            (
                "tokenizer_config.json",
                tokenizer::companion(&header.metadata),
            ),
            ("generation_config.json", tokenizer::ends(&header.metadata)),
        ];
        for (name, value) in companions {
            if !made.contains_key(name) {
                put(&mut made, name, &value);
            }
        }
        let (mut tensors, mut dropped) = (Vec::new(), Vec::new());
        for tensor in &header.tensors {
            let stored = |name: String| StoredTensor {
                name,
                shape: tensor.shape.clone(),
                dtype: tensor.kind.name().to_owned(),
                path: path.to_path_buf(),
                bytes: bytes.clone(),
                range: tensor.range.clone(),
            };
            match facts.named(&tensor.name).map_err(refuse)? {
                Named::As(name, change) => {
                    let rows = tensor.shape.first().copied().unwrap_or(0);
                    if let Change::Interleaved(width) = change
                        && !(width.is_multiple_of(2) && rows.is_multiple_of(width))
                    {
                        return Err(refuse(format!(
                            "{} has {rows} rows, which are no heads of {width}",
                            tensor.name
                        )));
                    }
                    let stored = stored(name);
                    tensors.push(GgufTensor { stored, change });
                }
                Named::Dropped(reason) => dropped.push((tensor.name.clone(), reason.to_owned())),
            }
        }
        Ok(Self {
            files: ModelFiles::Derived(path.to_path_buf(), Arc::new(made)),
            tensors,
            dropped,
        })
    }
}

/// What decides on names and the configuration.
#[derive(Debug)]
struct Facts<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    /// Rows of the vocabulary.
    vocabulary: usize,
    /// There is no head of its own.
    is_tied: bool,
    has_biases: bool,
    /// What the periods of rotary embedding are multiplied by, if that is said.
    factors: Option<Vec<f32>>,
}

impl<'a> Facts<'a> {
    fn of(header: &'a Header, bytes: &[u8]) -> Result<Self, String> {
        let find = |name: &str| header.tensors.iter().find(|tensor| tensor.name == name);
        let embedding = find("token_embd.weight").ok_or("it has no tensor token_embd.weight")?;
        let &[vocabulary, _] = embedding.shape.as_slice() else {
            return Err(format!(
                "tensor token_embd.weight has shape {:?}, which is no matrix",
                embedding.shape
            ));
        };
        let factors = match find("rope_freqs.weight") {
            None => None,
            Some(tensor) if tensor.kind == header::Kind::F32 => {
                let (numbers, _) = bytes[tensor.range.clone()].as_chunks::<4>();
                Some(
                    numbers
                        .iter()
                        .map(|&number| f32::from_le_bytes(number))
                        .collect(),
                )
            }
            Some(_) => return Err("tensor rope_freqs.weight is not of type F32".to_owned()),
        };
        Ok(Self {
            metadata: &header.metadata,
            architecture: header.metadata.text("general.architecture")?,
            vocabulary,
            is_tied: find("output.weight").is_none(),
            has_biases: find("blk.0.attn_q.bias").is_some(),
            factors,
        })
    }
}

/// The files that lie beside a GGUF file.
fn beside(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for name in BESIDE {
        let path = path.with_file_name(name);
        match fs::read(&path) {
            Ok(bytes) => drop(found.insert(name.to_owned(), bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    Ok(found)
}

fn put(files: &mut BTreeMap<String, Vec<u8>>, name: &str, value: &Json) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    files.insert(name.to_owned(), text.into_bytes());
}

#[cfg(test)]
mod tests;
