//! Reads, packs and writes one tensor after the other, in a folder that gets its name when it is complete.

mod files;

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::journal::Journal;
use super::layout::{Layout, Part, Place};
use super::plan::{Codes, Plan, Planned};
use super::read::{codes, numbers, release};
use super::settings::DType;
use crate::config::PackingConfig;
use crate::error::{Error, Result};
use crate::kernels::matrix::{Format, Number};
use crate::kernels::pool;
use crate::kernels::quantize::{Packed, Scales, quantize};
use crate::progress::{Progress, Unit};

/// Bytes that are read at a time, at most.
const BLOCK: usize = 64 << 20;

/// Of the memory that there is, the part that is read at a time: numbers, their copy in another type and what they
/// become are in memory together.
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
    let writer = Writer {
        plan,
        files: open_shards(&folder, &layout)?,
        folder: &folder,
        layout: &layout,
        block: options
            .memory
            .map_or(BLOCK, |memory| (memory / SHARE).min(BLOCK)),
    };
    let name = format!("quantizing {}", plan.files.label().display());
    let total: usize = plan
        .tensors
        .iter()
        .map(|tensor| writer.read_bytes(tensor))
        .sum();
    progress.start(&name, Some(total as u64), Unit::Bytes);
    let (mut resumed, mut done) = (0, 0);
    for (index, tensor) in plan.tensors.iter().enumerate() {
        if writer.is_whole(index, &journal)? {
            resumed += 1;
        } else {
            let advance = |bytes: usize| progress.advance(&name, (done + bytes) as u64);
            for (part, digest) in writer.tensor(index, &advance)? {
                journal.note(&part, digest)?;
            }
        }
        done += writer.read_bytes(tensor);
        progress.advance(&name, done as u64);
    }
    for (file, shard) in writer.files.iter().zip(&layout.shards) {
        file.sync_all()
            .map_err(Error::io("write", folder.join(&shard.name)))?;
    }
    progress.finish(&name);
    files::companions(plan, &layout, &journal.whole, &folder)?;
    journal.end()?;
    files::rename(&folder, target)?;
    Ok(Written {
        tensors: plan.tensors.len() - resumed,
        resumed,
        bytes: plan.bytes(),
    })
}

/// Opens or makes the files of weights, their headers in front.
fn open_shards(folder: &Path, layout: &Layout) -> Result<Vec<File>> {
    let open = |shard: &super::layout::Shard| {
        let path = folder.join(&shard.name);
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io("write", &path))?;
        let made = file
            .set_len(shard.bytes as u64)
            .and_then(|()| file.write_all_at(&shard.header, 0));
        made.map_err(Error::io("write", &path))?;
        Ok(file)
    };
    layout.shards.iter().map(open).collect()
}

struct Writer<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    layout: &'a Layout,
    files: Vec<File>,
    /// Bytes of numbers that are packed at a time.
    block: usize,
}

impl Writer<'_> {
    /// Bytes of the source that are read for a tensor.
    fn read_bytes(&self, tensor: &Planned) -> usize {
        let pieces = tensor
            .pieces
            .iter()
            .map(|name| self.plan.sources[name].bytes().len());
        pieces.sum()
    }

    /// Whether an earlier process has written a tensor: the journal says so, and the bytes have the digest.
    fn is_whole(&self, index: usize, journal: &Journal) -> Result<bool> {
        for (part, place) in &self.layout.parts[index] {
            let Some(digest) = journal.whole.get(&part.name) else {
                return Ok(false);
            };
            let mut hasher = Xxh3::new();
            let mut bytes = vec![0; part.bytes.min(self.block.max(1))];
            let mut at = 0;
            while at < part.bytes {
                let length = bytes.len().min(part.bytes - at);
                let bytes = &mut bytes[..length];
                let read = self.files[place.shard].read_exact_at(bytes, (place.offset + at) as u64);
                read.map_err(Error::io("read", self.path(*place)))?;
                hasher.update(bytes);
                at += length;
            }
            if *digest != hex(&hasher) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn path(&self, place: Place) -> PathBuf {
        self.folder.join(&self.layout.shards[place.shard].name)
    }

    /// Writes a tensor, and gives the names and digests of its parts. `advance` is told how many bytes were read.
    fn tensor(&self, index: usize, advance: &dyn Fn(usize)) -> Result<Vec<(String, String)>> {
        let tensor = &self.plan.tensors[index];
        let parts = &self.layout.parts[index];
        // Of what is read: a tensor that only gets another shape has other rows.
        let rows = tensor.pieces.len() * tensor.view.count * tensor.view.rows;
        let columns = tensor.view.columns;
        let each = (self.block / (columns * 4).max(1)).clamp(1, rows.max(1));
        let mut hashers = vec![Xxh3::new(); parts.len()];
        let mut buffers = vec![Vec::new(); parts.len()];
        for first in (0..rows).step_by(each) {
            let range = first..rows.min(first + each);
            match &tensor.packing {
                None => {
                    let numbers = numbers(self.plan, tensor, range.clone());
                    self.put(&parts[0], first, rows, &numbers, &mut hashers[0])?;
                }
                Some(packing) => {
                    for ((part, _), buffer) in parts.iter().zip(&mut buffers) {
                        buffer.resize(part.bytes / rows * range.len(), 0);
                    }
                    self.pack(tensor, packing, range.clone(), &mut buffers)?;
                    for ((part, buffer), hasher) in parts.iter().zip(&buffers).zip(&mut hashers) {
                        self.put(part, first, rows, buffer, hasher)?;
                    }
                }
            }
            release(self.plan, tensor, range.clone());
            advance(self.read_bytes(tensor) / rows * range.end);
        }
        let names = parts.iter().map(|(part, _)| part.name.clone());
        Ok(names.zip(hashers.iter().map(hex)).collect())
    }

    /// Packs rows into buffers for each part.
    fn pack(
        &self,
        tensor: &Planned,
        packing: &PackingConfig,
        rows: Range<usize>,
        buffers: &mut [Vec<u8>],
    ) -> Result<()> {
        let refuse = |problem: &str| Error::Weights {
            path: self.plan.sources[&tensor.pieces[0]].stored.path.clone(),
            problem: format!("tensor {} {problem}", tensor.pieces[0]),
        };
        let number = DType::of(&tensor.dtype)
            .ok_or_else(|| refuse("is not of floats"))?
            .0;
        let format = format_of(packing, number);
        let [codes_out, scales, rest @ ..] = buffers else {
            return Ok(());
        };
        let biases = rest
            .first_mut()
            .map_or(&mut [][..], |biases| biases.as_mut_slice());
        let is_finite = match tensor.codes {
            Codes::Source => codes(self.plan, tensor, rows, [codes_out, scales, biases]),
            Codes::Mlx | Codes::Fitted => {
                let scales_of = match tensor.codes {
                    Codes::Fitted => Scales::Fitted,
                    _ => Scales::Mlx,
                };
                let packed = Packed {
                    codes: codes_out,
                    scales,
                    biases,
                };
                let numbers = numbers(self.plan, tensor, rows);
                quantize(pool::shared(), &numbers, number, format, scales_of, packed)
            }
        };
        if is_finite {
            return Ok(());
        }
        Err(refuse("holds NaN or infinite numbers"))
    }

    /// Writes some rows of a part.
    fn put(
        &self,
        (part, place): &(Part, Place),
        first: usize,
        rows: usize,
        bytes: &[u8],
        hasher: &mut Xxh3,
    ) -> Result<()> {
        let at = place.offset + part.bytes / rows.max(1) * first;
        hasher.update(bytes);
        let written = self.files[place.shard].write_all_at(bytes, at as u64);
        written.map_err(Error::io("write", self.path(*place)))
    }
}

/// The kernels' name for a packing of numbers of this type.
pub(super) fn format_of(packing: &PackingConfig, number: Number) -> Format {
    match packing.mode.as_str() {
        "mxfp4" => Format::Mxfp4,
        "mxfp8" => Format::Mxfp8,
        "nvfp4" => Format::Nvfp4,
        _ => Format::Affine {
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
