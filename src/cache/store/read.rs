//! Opens one stored prefix.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use safetensors::SafeTensors;

use super::super::checkpoint::{Checkpoint, LayerCheckpoint};
use super::super::offloaded::Offloaded;
use super::super::recurrent::State;
use super::super::rows::{LayerRows, Piece, Rows};
use super::file::{FORMAT, Prefix, StoredFile};
use crate::error::{Error, Result};
use crate::mlx::{Bytes, Dtype, MappedFile};
use crate::ops::attention::{BLOCK, HostBytes, HostPage, STEP};

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
    let (ids, ..) = file.part("tokens")?;
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
            ["arrays"] => {
                let array = |name: &str| array_of(file, &format!("state.{layer:04}.{name}"));
                let parts = [array("recent")?, array("columns")?];
                Some(LayerCheckpoint::State(State::Offloaded(parts)))
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

/// An array of a device.
fn array_of(file: &StoredFile, name: &str) -> Option<Arc<Offloaded>> {
    let (part, shape, dtype) = file.part(name)?;
    Some(Arc::new(Offloaded {
        dtype,
        shape: shape.to_vec(),
        bytes: HostBytes::Mapped(part),
    }))
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
        let prefix = format!("{prefix}.{start:010}");
        let piece = match file.metadata.info(&format!("{prefix}.keys"))?.shape.len() {
            3 => page_of(file, &prefix, start, &range)?,
            _ => arrays_of(file, &prefix, start, &range)?,
        };
        if start > reached {
            return None;
        }
        reached = reached.max(piece.range().end);
        pieces.push(piece);
    }
    (reached == range.end).then_some(LayerRows { pieces })
}

/// `[Hkv, S, bytes]` each, of the kernels of the CPU.
fn page_of(file: &StoredFile, prefix: &str, start: usize, run: &Range<usize>) -> Option<Piece> {
    let part = |name: &str| file.part(&format!("{prefix}.{name}"));
    let ((keys, key_shape, key_type), (values, value_shape, value_type)) =
        (part("keys")?, part("values")?);
    let (&[heads, count, key], &[.., value]) = (key_shape, value_shape) else {
        return None;
    };
    let page = HostPage {
        heads,
        bytes: [key, value],
        count,
        keys: HostBytes::Mapped(keys),
        values: HostBytes::Mapped(values),
    };
    let is_within_page = start % STEP + count <= STEP;
    let are_bytes = [key_type, value_type] == [Dtype::Uint8; 2];
    if !page.fits() || !is_within_page || !are_bytes || !start.is_multiple_of(BLOCK) {
        return None;
    }
    Some(Piece::Host {
        range: start..(start + count).min(run.end),
        first: start,
        page: Arc::new(page),
    })
}

/// `[1, Hkv, S, D]` each, of a device.
fn arrays_of(file: &StoredFile, prefix: &str, start: usize, run: &Range<usize>) -> Option<Piece> {
    let keys = array_of(file, &format!("{prefix}.keys"))?;
    let values = array_of(file, &format!("{prefix}.values"));
    let is_alike = |values: &Arc<Offloaded>| {
        values.shape.len() == 4
            && values.shape[..3] == keys.shape[..3]
            && values.dtype == keys.dtype
    };
    if keys.shape.len() != 4 || keys.shape[0] != 1 || !values.as_ref().is_none_or(is_alike) {
        return None;
    }
    let end = start.checked_add(keys.positions())?.min(run.end);
    let range = start.max(run.start)..end;
    (!range.is_empty()).then_some(Piece::Offloaded {
        range,
        first: start,
        keys,
        values,
    })
}
