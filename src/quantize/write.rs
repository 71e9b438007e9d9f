//! Reads, packs and writes one tensor after the other, in a folder that gets its name when it is complete.

mod files;
mod pack;
mod store;

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use xxhash_rust::xxh3::Xxh3;

use self::pack::Packer;
use self::store::{Shards, Store};
use super::journal::Journal;
use super::layout::Layout;
use super::plan::{Plan, Planned};
use crate::config::{PackingConfig, PackingMode};
use crate::error::{Error, Result};
use crate::kernels::matrix::{Format, Number};
use crate::progress::{Progress, Unit, Work};

/// Bytes that are read at a time, at most.
const BLOCK: usize = 64 << 20;

/// Of the memory that there is, the part that is read at a time: numbers, their copy in another type and what they
/// become are in memory together, and what is being written.
const SHARE: usize = 8;

/// Where a checkpoint is written, and what it may take.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The folder.
    pub target: PathBuf,
    /// Bytes of memory for what is read and written; `None` is a block of 64 MiB and what follows from it.
    pub memory: Option<usize>,
    /// Replaces a folder that was not written by this.
    pub force: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Tensors of the plan that were written.
    pub tensors: usize,
    /// Of the plan, tensors that an earlier process had written.
    pub resumed: usize,
    /// Bytes of all weights.
    pub bytes: usize,
}

/// Writes a checkpoint. What was written is kept where the process ends before it is complete, and the next call
/// with the same plan goes on from there.
///
/// # Errors
/// [`Error::Io`]; [`Error::Quantize`] where the target is something else; [`Error::Weights`] where numbers are not
/// finite.
pub fn write(plan: &Plan, options: &WriteOptions, progress: &dyn Progress) -> Result<Written> {
    let target = &options.target;
    files::check(plan, target, options.force)?;
    if !options.force && files::is_complete(plan, target) {
        return Ok(Written {
            tensors: 0,
            resumed: plan.tensors.len(),
            bytes: plan.bytes(),
        });
    }
    let folder = files::partial(target)?;
    let mut journal = Journal::open(&folder, &plan.digest)?;
    let layout = Layout::of(plan);
    let shards = Shards::open(&folder, &layout)?;
    let block = options
        .memory
        .map_or(BLOCK, |memory| (memory / SHARE).min(BLOCK));
    let name = format!("quantizing {}", plan.files.label().display());
    let total: usize = plan
        .tensors
        .iter()
        .map(|tensor| read_bytes(plan, tensor))
        .sum();
    let work = Work::begin(progress, &name, Some(total as u64), Unit::Bytes);
    let (mut left, mut done) = (Vec::new(), 0);
    for (index, tensor) in plan.tensors.iter().enumerate() {
        if shards.is_whole(index, &journal, block)? {
            done += read_bytes(plan, tensor);
            work.advance(done as u64);
        } else {
            left.push(index);
        }
    }
    let advance = |done: usize| work.advance(done as u64);
    let store = Store::new(plan, &shards, &mut journal, done, &advance);
    pack_and_store(&Packer { plan, block }, &left, store)?;
    shards.end()?;
    drop(work);
    files::companions(plan, &layout, &journal.whole, &folder)?;
    journal.end()?;
    files::rename(&folder, target)?;
    Ok(Written {
        tensors: left.len(),
        resumed: plan.tensors.len() - left.len(),
        bytes: plan.bytes(),
    })
}

/// Packs tensors, and meanwhile writes on another thread what is packed. No more waits than what is being written: then
/// packing waits.
fn pack_and_store(packer: &Packer<'_>, tensors: &[usize], mut store: Store<'_>) -> Result<()> {
    let (sender, receiver) = sync_channel(0);
    thread::scope(|scope| {
        let store = move || {
            receiver
                .into_iter()
                .try_for_each(|block| store.take(&block))
        };
        let stored = thread::Builder::new()
            .name("quantize-write".to_owned())
            .spawn_scoped(scope, store)
            .map_err(Error::io("start the thread", "quantize-write"))?;
        // Nobody takes anything any more after an error, which is then given.
        let packed = packer.each(tensors, |block| sender.send(block).is_ok());
        drop(sender);
        let stored = stored.join();
        stored.unwrap_or_else(|panic| resume_unwind(panic))?;
        packed
    })
}

/// Bytes of the source that are read for a tensor.
fn read_bytes(plan: &Plan, tensor: &Planned) -> usize {
    let pieces = tensor
        .pieces
        .iter()
        .map(|name| plan.sources[name].bytes().len());
    pieces.sum()
}

/// Rows of the source that are read for a tensor: one that only gets another shape has other rows then.
fn rows_of(tensor: &Planned) -> usize {
    tensor.pieces.len() * tensor.view.count * tensor.view.rows
}

/// The kernels' name for a packing of numbers of this type.
pub(super) fn format_of(packing: &PackingConfig, number: Number) -> Format {
    match packing.mode {
        PackingMode::Mxfp4 => Format::Mxfp4,
        PackingMode::Mxfp8 => Format::Mxfp8,
        PackingMode::Nvfp4 => Format::Nvfp4,
        PackingMode::Affine => Format::Affine {
            bits: packing.bits,
            group: packing.group_size,
            number,
        },
    }
}

fn hex(hasher: &Xxh3) -> String {
    format!("{:032x}", hasher.digest128())
}

/// The digest of some bytes, as a manifest holds it.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut hasher = Xxh3::new();
    hasher.update(bytes);
    hex(&hasher)
}

/// Removes a folder that is in the way.
fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(Error::io("remove", folder))
}
