//! Writes one prefix to a file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use safetensors::serialize_to_file;
use safetensors::tensor::{Dtype, View};

use super::super::checkpoint::{Checkpoint, LayerCheckpoint};
use super::super::offloaded::Offloaded;
use super::super::recurrent::State;
use super::super::rows::{LayerRows, Piece, Rows};
use super::file::{FORMAT, TYPES, digest};
use crate::error::{Error, Result};
use crate::ops::attention::{BLOCK, HostPage};

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

/// Writes a prefix.
///
/// # Errors
/// [`Error::Io`], or what MLX says where it is on a GPU.
pub(super) fn write(
    path: &Path,
    tokens: &[u32],
    rows: &Rows,
    checkpoint: Option<&Checkpoint>,
) -> Result<()> {
    let rows = rows.offload()?;
    let checkpoint = checkpoint.map(Checkpoint::offload).transpose()?;
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
            LayerCheckpoint::State(State::Stored(parts)) => {
                for (name, part) in ["recent", "columns"].into_iter().zip(parts) {
                    let tensor = Written {
                        dtype: Dtype::F32,
                        shape: vec![part.len() / 4],
                        bytes: Cow::Borrowed(part),
                    };
                    tensors.insert(format!("state.{layer:04}.{name}"), tensor);
                }
                layout.push("state".to_owned());
            }
            LayerCheckpoint::State(State::Offloaded(parts)) => {
                for (name, part) in ["recent", "columns"].into_iter().zip(parts) {
                    let name = format!("state.{layer:04}.{name}");
                    tensors.insert(name, Written::array(part)?);
                }
                layout.push("arrays".to_owned());
            }
            LayerCheckpoint::State(State::Empty | State::Device(_)) => return Err(on_device()),
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

fn on_device() -> Error {
    Error::Mlx("state that is to be stored is still on the device".to_owned())
}

impl Written<'_> {
    fn array(array: &Offloaded) -> Result<Written<'_>> {
        let mut types = TYPES.into_iter();
        let dtype = types.find(|(_, dtype)| *dtype == array.dtype);
        let (dtype, _) = dtype.ok_or_else(|| {
            Error::Mlx(format!("state of type {:?} cannot be stored", array.dtype))
        })?;
        Ok(Written {
            dtype,
            shape: array.shape.clone(),
            bytes: Cow::Borrowed(&array.bytes),
        })
    }
}

fn add_rows<'a>(
    tensors: &mut BTreeMap<String, Written<'a>>,
    prefix: &str,
    rows: &'a LayerRows,
    run: Range<usize>,
) -> Result<()> {
    for piece in &rows.pieces {
        match piece {
            Piece::Host { range, first, page } => {
                let begin = range.start.max(run.start) / BLOCK * BLOCK;
                let end = range.end.min(run.end).next_multiple_of(BLOCK);
                if begin < end {
                    let prefix = format!("{prefix}.{begin:010}");
                    add_page(tensors, &prefix, page, begin - first..end - first);
                }
            }
            Piece::Offloaded {
                first,
                keys,
                values,
                ..
            } => {
                let prefix = format!("{prefix}.{first:010}");
                tensors.insert(format!("{prefix}.keys"), Written::array(keys)?);
                if let Some(values) = values {
                    tensors.insert(format!("{prefix}.values"), Written::array(values)?);
                }
            }
            Piece::Device { .. } => return Err(on_device()),
        }
    }
    Ok(())
}

/// Some places of a page.
fn add_page<'a>(
    tensors: &mut BTreeMap<String, Written<'a>>,
    prefix: &str,
    page: &'a Arc<HostPage>,
    places: Range<usize>,
) {
    let count = places.len();
    let parts = if places == (0..page.count) {
        [&page.keys, &page.values].map(|part| Cow::Borrowed(&**part))
    } else {
        page.rows(places).map(Cow::Owned)
    };
    for ((name, part), bytes) in ["keys", "values"].into_iter().zip(parts).zip(page.bytes) {
        let tensor = Written {
            dtype: Dtype::U8,
            shape: vec![page.heads, count, bytes],
            bytes: part,
        };
        tensors.insert(format!("{prefix}.{name}"), tensor);
    }
}
