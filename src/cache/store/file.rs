//! One stored prefix: a safetensors file with the tokens from the beginning, keys and values of the last of
//! them, and the state of layers that cannot go back.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use safetensors::tensor::{Dtype, Metadata, View};
use safetensors::{SafeTensors, serialize_to_file};
use xxhash_rust::xxh3::Xxh3;

use super::super::checkpoint::{Checkpoint, LayerCheckpoint};
use super::super::recurrent::State;
use super::super::rows::{LayerRows, Piece, Rows};
use crate::error::{Error, Result};
use crate::kernels::matrix::Part;
use crate::mlx::{Bytes, MappedFile};
use crate::ops::attention::{BLOCK, HostPage, PageBytes, STEP};

/// What the metadata calls the format.
const FORMAT: &str = "mlxr prefix 1";

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
    path: PathBuf,
    bytes: Bytes,
    header: usize,
    metadata: Metadata,
    is_whole: OnceLock<bool>,
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

    fn told(&self, key: &str) -> Option<&String> {
        self.metadata.metadata().as_ref()?.get(key)
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Kept {
            path: self.path.clone(),
            problem: problem.to_owned(),
        }
    }

    /// The bytes of a tensor of bytes or float32, and its shape.
    fn part(&self, name: &str) -> Option<(Part, &[usize])> {
        let info = self.metadata.info(name)?;
        let (from, to) = info.data_offsets;
        let storage = Arc::new(self.bytes.clone());
        let part = Part::new(storage, self.header + from..self.header + to)?;
        Some((part, &info.shape))
    }
}

/// Of everything that is stored: names, types, shapes and bytes.
fn digest(mut tensors: Vec<(String, Dtype, &[usize], &[u8])>, layout: Option<&String>) -> u128 {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = Xxh3::new();
    let text = |hasher: &mut Xxh3, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(&mut hasher, layout.map_or("", String::as_str));
    for (name, dtype, shape, bytes) in tensors {
        text(&mut hasher, &name);
        text(&mut hasher, &format!("{dtype:?} {shape:?}"));
        hasher.update(bytes);
    }
    hasher.digest128()
}

/// A tensor to be written.
struct Written<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl View for &Written<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a prefix of the CPU's kernels.
///
/// # Errors
/// [`Error::Io`], or [`Error::Mlx`] where it is on a GPU.
pub(super) fn write(
    path: &Path,
    tokens: &[u32],
    rows: &Rows,
    checkpoint: Option<&Checkpoint>,
) -> Result<()> {
    let mut tensors = BTreeMap::new();
    let numbers = |numbers: Vec<[u8; 4]>, dtype: Dtype| Written {
        dtype,
        shape: vec![numbers.len()],
        bytes: Cow::Owned(numbers.concat()),
    };
    let ids = tokens.iter().map(|id| id.to_le_bytes()).collect();
    tensors.insert("tokens".to_owned(), numbers(ids, Dtype::U32));
    for (layer, layer_rows) in rows.layers.iter().enumerate() {
        add_rows(
            &mut tensors,
            &format!("rows.{layer:04}"),
            layer_rows,
            rows.range.clone(),
        )?;
    }
    let mut layout = vec![format!("{} {}", rows.range.start, rows.layers.len())];
    for (layer, saved) in checkpoint
        .iter()
        .flat_map(|saved| &saved.layers)
        .enumerate()
    {
        match saved {
            LayerCheckpoint::Window {
                rows,
                start,
                window,
            } => {
                let prefix = format!("window.{layer:04}");
                add_rows(&mut tensors, &prefix, rows, *start..tokens.len())?;
                layout.push(format!("window {start} {window}"));
            }
            LayerCheckpoint::State(State::Host(state, _)) => {
                for (name, part) in ["recent", "columns"].into_iter().zip(state.parts()) {
                    let bytes = part.iter().map(|number| number.to_le_bytes()).collect();
                    let name = format!("state.{layer:04}.{name}");
                    tensors.insert(name, numbers(bytes, Dtype::F32));
                }
                layout.push("state".to_owned());
            }
            LayerCheckpoint::State(State::Stored([recent, columns])) => {
                for (name, part) in [("recent", recent), ("columns", columns)] {
                    let tensor = Written {
                        dtype: Dtype::F32,
                        shape: vec![part.len() / 4],
                        bytes: Cow::Borrowed(part),
                    };
                    tensors.insert(format!("state.{layer:04}.{name}"), tensor);
                }
                layout.push("state".to_owned());
            }
            LayerCheckpoint::State(_) => return Err(not_here()),
        }
    }
    let layout = layout.join("\n");
    let all = tensors.iter().map(|(name, tensor)| {
        let shape = tensor.shape.as_slice();
        (name.clone(), tensor.dtype, shape, &*tensor.bytes)
    });
    let digest = format!("{:032x}", digest(all.collect(), Some(&layout)));
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("layout", layout),
        ("digest", digest),
    ];
    let metadata: HashMap<String, String> = (metadata.into_iter())
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    serialize_to_file(tensors.iter(), Some(metadata), path)
        .map_err(|error| Error::io("write", path)(std::io::Error::other(error)))
}

fn not_here() -> Error {
    Error::Mlx("only what the kernels of the CPU keep can be stored".to_owned())
}

fn add_rows<'a>(
    tensors: &mut BTreeMap<String, Written<'a>>,
    prefix: &str,
    rows: &'a LayerRows,
    run: Range<usize>,
) -> Result<()> {
    for piece in &rows.pieces {
        let Piece::Host { range, first, page } = piece else {
            return Err(not_here());
        };
        let begin = range.start.max(run.start) / BLOCK * BLOCK;
        let end = range.end.min(run.end).next_multiple_of(BLOCK);
        if begin >= end {
            continue;
        }
        let places = begin - first..end - first;
        let parts = if places == (0..page.count) {
            [&page.keys, &page.values].map(|part| Cow::Borrowed(&**part))
        } else {
            page.rows(places).map(Cow::Owned)
        };
        for ((name, part), bytes) in ["keys", "values"].into_iter().zip(parts).zip(page.bytes) {
            let tensor = Written {
                dtype: Dtype::U8,
                shape: vec![page.heads, end - begin, bytes],
                bytes: part,
            };
            tensors.insert(format!("{prefix}.{begin:010}.{name}"), tensor);
        }
    }
    Ok(())
}

/// Opens a stored prefix: its header is checked, and its tokens are read. Everything else stays where it is.
///
/// # Errors
/// [`Error::Kept`] where it is not one.
pub(super) fn read(path: &Path) -> Result<Prefix> {
    let bytes = Bytes::Mapped(Arc::new(MappedFile::open(path)?));
    let refuse = |problem: String| Error::Kept {
        path: path.to_path_buf(),
        problem,
    };
    let damaged = |error| refuse(format!("its header is not valid: {error}"));
    SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let file = Arc::new(StoredFile {
        path: path.to_path_buf(),
        bytes,
        header: header + size_of::<u64>(),
        metadata,
        is_whole: OnceLock::new(),
    });
    if file.told("format").map(String::as_str) != Some(FORMAT) {
        return Err(refuse(format!("it is not of the format `{FORMAT}`")));
    }
    prefix(&file).ok_or_else(|| refuse("its tensors are not those of a prefix".to_owned()))
}

fn prefix(file: &Arc<StoredFile>) -> Option<Prefix> {
    let (ids, _) = file.part("tokens")?;
    let ids = ids.as_chunks::<4>().0.iter();
    let tokens: Vec<u32> = ids.map(|id| u32::from_le_bytes(*id)).collect();
    let layout = file.told("layout")?.clone();
    let mut layout = layout.lines();
    let (start, count) = layout.next()?.split_once(' ')?;
    let (start, count): (usize, usize) = (start.parse().ok()?, count.parse().ok()?);
    if start >= tokens.len() || count > file.metadata.tensors().len() {
        return None;
    }
    let range = start..tokens.len();
    let layers = (0..count).map(|layer| rows_of(file, &format!("rows.{layer:04}"), range.clone()));
    let rows = Rows {
        layers: layers.collect::<Option<_>>()?,
        range: range.clone(),
        sources: vec![Arc::clone(file)],
    };
    let layers = layout.enumerate().map(|(layer, line)| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["state"] => {
                let part = |name: &str| Some(file.part(&format!("state.{layer:04}.{name}"))?.0);
                let parts = [part("recent")?, part("columns")?];
                Some(LayerCheckpoint::State(State::Stored(parts)))
            }
            ["window", start, window] => {
                let (start, window) = (start.parse().ok()?, window.parse().ok()?);
                let prefix = format!("window.{layer:04}");
                let rows = rows_of(file, &prefix, start..tokens.len())?;
                Some(LayerCheckpoint::Window {
                    rows,
                    start,
                    window,
                })
            }
            _ => None,
        }
    });
    let layers: Vec<LayerCheckpoint> = layers.collect::<Option<_>>()?;
    let checkpoint = (!layers.is_empty()).then(|| Checkpoint {
        position: tokens.len(),
        layers,
        source: Some(Arc::clone(file)),
    });
    Some(Prefix {
        tokens,
        rows,
        checkpoint,
    })
}

/// The pieces of a layer, which cover `range`.
fn rows_of(file: &StoredFile, prefix: &str, range: Range<usize>) -> Option<LayerRows> {
    let names = file.metadata.tensors();
    let mut starts: Vec<usize> = names
        .keys()
        .filter_map(|name| {
            name.strip_prefix(prefix)?
                .strip_prefix('.')?
                .strip_suffix(".keys")
        })
        .filter_map(|start| start.parse().ok())
        .collect();
    starts.sort_unstable();
    let mut reached = range.start;
    let mut pieces = Vec::with_capacity(starts.len());
    for start in starts {
        let part = |name: &str| file.part(&format!("{prefix}.{start:010}.{name}"));
        let ((keys, key_shape), (values, value_shape)) = (part("keys")?, part("values")?);
        let (&[heads, count, key], &[.., value]) = (key_shape, value_shape) else {
            return None;
        };
        let page = HostPage {
            heads,
            bytes: [key, value],
            count,
            keys: PageBytes::Mapped(keys),
            values: PageBytes::Mapped(values),
        };
        let is_within_page = start % STEP + count <= STEP;
        if !page.fits() || !is_within_page || start > reached || !start.is_multiple_of(BLOCK) {
            return None;
        }
        let end = (start + count).min(range.end);
        reached = reached.max(end);
        pieces.push(Piece::Host {
            range: start..end,
            first: start,
            page: Arc::new(page),
        });
    }
    (reached == range.end).then_some(LayerRows { pieces })
}
