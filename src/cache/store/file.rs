//! One stored prefix: a safetensors file with the tokens from the beginning, keys and values of the last of
//! them, and the state of layers that cannot go back.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use safetensors::tensor::{Dtype, Metadata};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::super::checkpoint::Checkpoint;
use super::super::rows::Rows;
use crate::error::{Error, Result};
use crate::kernels::matrix::Part;
use crate::mlx::{self, Bytes};

/// Threads that compute a digest.
const THREADS: usize = 8;

/// What the metadata calls the format.
pub(super) const FORMAT: &str = "mlxr prefix 2";

/// Types of numbers that are stored, by the names of both libraries.
pub(super) const TYPES: [(Dtype, mlx::Dtype); 5] = [
    (Dtype::U8, mlx::Dtype::Uint8),
    (Dtype::U32, mlx::Dtype::Uint32),
    (Dtype::F16, mlx::Dtype::Float16),
    (Dtype::BF16, mlx::Dtype::Bfloat16),
    (Dtype::F32, mlx::Dtype::Float32),
];

/// A prefix as it is stored.
#[derive(Debug)]
pub struct Prefix {
    /// All tokens from the beginning.
    pub tokens: Vec<u32>,
    /// Keys and values of the last of them.
    pub rows: Rows,
    /// The state after all of them.
    pub checkpoint: Option<Checkpoint>,
}

/// A file that is mapped, and whose bytes are held against their digest before they are used.
#[derive(Debug)]
pub struct StoredFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
    /// Where the bytes of tensors begin.
    pub(super) header: usize,
    pub(super) metadata: Metadata,
    pub(super) is_whole: OnceLock<bool>,
}

impl StoredFile {
    /// Whether the bytes are those that were written.
    ///
    /// # Errors
    /// [`Error::Kept`] if they are not.
    pub fn verify(&self) -> Result<()> {
        let is_whole = self.is_whole.get_or_init(|| {
            let tensors = self.metadata.tensors().into_iter();
            let tensors = tensors.map(|(name, info)| {
                let (from, to) = info.data_offsets;
                let bytes = &self.bytes[self.header + from..self.header + to];
                (name, info.dtype, info.shape.as_slice(), bytes)
            });
            let found = digest(tensors.collect(), self.told("layout"));
            // The moment of its last use.
            if let Ok(file) = std::fs::File::options().append(true).open(&self.path) {
                drop(file.set_modified(std::time::SystemTime::now()));
            }
            self.told("digest") == Some(&format!("{found:032x}"))
        });
        if *is_whole {
            Ok(())
        } else {
            Err(self.refuse("its bytes are not those that were written"))
        }
    }

    pub(super) fn told(&self, key: &str) -> Option<&String> {
        self.metadata.metadata().as_ref()?.get(key)
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Kept {
            path: self.path.clone(),
            problem: problem.to_owned(),
        }
    }

    /// The bytes of a tensor, its shape, and the type of its numbers.
    pub(super) fn part(&self, name: &str) -> Option<(Part, &[usize], mlx::Dtype)> {
        let info = self.metadata.info(name)?;
        let (from, to) = info.data_offsets;
        let storage = Arc::new(self.bytes.clone());
        let part = Part::new(storage, self.header + from..self.header + to)?;
        let types = TYPES.into_iter();
        let mut of_type = types.filter(|(stored, _)| *stored == info.dtype);
        Some((part, &info.shape, of_type.next()?.1))
    }
}

/// Of everything that is stored: names, types, shapes and bytes. Several threads read: a file that was not
/// read before comes sooner so.
pub(super) fn digest(
    mut tensors: Vec<(String, Dtype, &[usize], &[u8])>,
    layout: Option<&String>,
) -> u128 {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut digests = vec![0; tensors.len()];
    let share = tensors.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        for (digests, tensors) in digests.chunks_mut(share).zip(tensors.chunks(share)) {
            scope.spawn(move || {
                for (digest, (.., bytes)) in digests.iter_mut().zip(tensors) {
                    *digest = xxh3_128(bytes);
                }
            });
        }
    });
    let mut hasher = Xxh3::new();
    let text = |hasher: &mut Xxh3, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(&mut hasher, layout.map_or("", String::as_str));
    for ((name, dtype, shape, _), digest) in tensors.iter().zip(digests) {
        text(&mut hasher, name);
        text(&mut hasher, &format!("{dtype:?} {shape:?} {digest:032x}"));
    }
    hasher.digest128()
}
