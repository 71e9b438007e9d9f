//! The files of weights: what is packed is written there, and noted when a tensor is whole.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::super::journal::Journal;
use super::super::layout::{Layout, Place, Shard};
use super::super::plan::Plan;
use super::super::read::release;
use super::pack::Block;
use super::{hex, read_bytes, rows_of};
use crate::error::{Error, Result};

/// The files, open.
pub(super) struct Shards<'a> {
    folder: &'a Path,
    layout: &'a Layout,
    files: Vec<File>,
}

impl<'a> Shards<'a> {
    /// Opens or makes the files, their headers in front.
    pub(super) fn open(folder: &'a Path, layout: &'a Layout) -> Result<Self> {
        let open = |shard: &Shard| {
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
        Ok(Self {
            folder,
            layout,
            files: layout.shards.iter().map(open).collect::<Result<_>>()?,
        })
    }

    /// Whether an earlier process has written a tensor: the journal says so, and the bytes, read so many at a time, have
    /// the digest.
    pub(super) fn is_whole(&self, index: usize, journal: &Journal, block: usize) -> Result<bool> {
        for (part, place) in &self.layout.parts[index] {
            let Some(digest) = journal.whole.get(&part.name) else {
                return Ok(false);
            };
            let mut hasher = Xxh3::new();
            let mut bytes = vec![0; part.bytes.min(block.max(1))];
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

    /// Waits until the disk has everything.
    pub(super) fn end(&self) -> Result<()> {
        for (file, shard) in self.files.iter().zip(&self.layout.shards) {
            file.sync_all()
                .map_err(Error::io("write", self.folder.join(&shard.name)))?;
        }
        Ok(())
    }

    fn path(&self, place: Place) -> PathBuf {
        self.folder.join(&self.layout.shards[place.shard].name)
    }
}

/// Writes one block after the other.
pub(super) struct Store<'a> {
    plan: &'a Plan,
    shards: &'a Shards<'a>,
    journal: &'a mut Journal,
    /// The digests of the parts of the tensor that is being written.
    hashers: Vec<Xxh3>,
    /// Bytes of the source that whole tensors took.
    done: usize,
    /// Is told of these, and of those that a part of a tensor took.
    advance: &'a (dyn Fn(usize) + Sync),
}

impl<'a> Store<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        shards: &'a Shards<'a>,
        journal: &'a mut Journal,
        done: usize,
        advance: &'a (dyn Fn(usize) + Sync),
    ) -> Self {
        Self {
            plan,
            shards,
            journal,
            hashers: Vec::new(),
            done,
            advance,
        }
    }

    /// Writes a block, and notes the tensor if it is the last one of it.
    pub(super) fn take(&mut self, block: &Block<'_>) -> Result<()> {
        let tensor = &self.plan.tensors[block.tensor];
        let parts = &self.shards.layout.parts[block.tensor];
        let rows = rows_of(tensor);
        if block.rows.start == 0 {
            self.hashers = vec![Xxh3::new(); parts.len()];
        }
        for (((part, place), bytes), hasher) in
            parts.iter().zip(&block.parts).zip(&mut self.hashers)
        {
            hasher.update(bytes);
            let at = place.offset + part.bytes / rows.max(1) * block.rows.start;
            let written = self.shards.files[place.shard].write_all_at(bytes, at as u64);
            written.map_err(Error::io("write", self.shards.path(*place)))?;
        }
        release(self.plan, tensor, block.rows.clone());
        let read = read_bytes(self.plan, tensor);
        if block.rows.end < rows {
            (self.advance)(self.done + read / rows * block.rows.end);
            return Ok(());
        }
        for ((part, _), hasher) in parts.iter().zip(&self.hashers) {
            self.journal.note(&part.name, hex(hasher))?;
        }
        self.done += read;
        (self.advance)(self.done);
        Ok(())
    }
}
